"""Every way the socket API says no: kinds, their HTTP status, their words."""

from sleepd.wire.shapes import Problem

PROBLEMS: dict[str, tuple[int, str]] = {
    "invalid": (400, "the request is not valid"),
    "unknown_model": (404, "no such model"),
    "not_permitted": (403, "not permitted"),
    "no_room": (409, "there is not enough room"),
    "blind": (409, "the room cannot be measured"),
    "reserved": (409, "the room is reserved"),
    "group_full": (409, "the group has enough models awake"),
    "busy": (409, "the model is busy"),
    "held": (409, "the model is held awake"),
    "pinned": (409, "the model is pinned awake"),
    "level_unsafe": (409, "this level is not safe on this engine"),
    "needs_wake": (409, "the model sleeps less deeply and would have to be woken first"),
    "stopped": (409, "the model was stopped on purpose"),
    "failed": (503, "the model has failed"),
    "engine_failed": (503, "the engine did not do what was asked"),
    "not_recordable": (503, "the step could not be recorded, so it was not taken"),
    "timeout": (504, "not done in time"),
}
"""Every kind of problem: its HTTP status and its title. An unknown route is `invalid` with its own status."""


def problem_body(
    kind: str, detail: str, *, wanted: str = "", found: str = "", hint: str = "", status: int | None = None
) -> tuple[int, Problem]:
    """Return the status and the application/problem+json body of a refusal; empty fields are left out."""
    usual, title = PROBLEMS[kind]
    body = Problem(kind=kind, title=title, status=status or usual, detail=detail)
    if wanted:
        body["wanted"] = wanted
    if found:
        body["found"] = found
    if hint:
        body["hint"] = hint
    return status or usual, body
