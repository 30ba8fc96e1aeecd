"""Every route of the socket API as a request in the making: both clients send these, and nothing else."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

DEFAULT_SOCKET = "/run/sleepd/sleepd.sock"
BEAT_LIMIT_S = 60.0
"""A stream that is silent for longer is broken: the daemon beats every 15 s."""
RETRY_S = 0.25
"""How soon a stream that broke is asked for again."""
GRACE_S = 10.0
"""How much longer than a wish's own timeout the client waits for the answer that the daemon owes at that moment."""


class Request:
    """`waits_s`: how long the daemon may take by the wish itself; None: it answers at once."""

    __slots__ = ("body", "method", "path", "waits_s")

    def __init__(
        self, method: str, path: str, body: dict[str, Any] | None = None, waits_s: float | None = None
    ) -> None:
        self.method, self.path, self.body, self.waits_s = method, path, body, waits_s

    def limit_s(self, timeout_s: float) -> float:
        """How long to wait for the answer where ordinary ones get `timeout_s`."""
        return timeout_s if self.waits_s is None else self.waits_s + GRACE_S


STATUS, MODELS, TASKS, HOLDS, RESERVATIONS, DOCTOR, HEALTHZ, READYZ, OPENAPI = (
    Request("GET", path)
    for path in (
        *("/v1/status", "/v1/models", "/v1/tasks", "/v1/holds", "/v1/reservations", "/v1/doctor"),
        *("/healthz", "/readyz", "/openapi.json"),
    )
)
RELOAD = Request("POST", "/v1/reload", {})


def quoted(text: str) -> str:
    """Return the text as one segment of a path (RFC 3986): what is not a letter, digit or one of -._~ in percents."""
    return "".join(
        char if char.isascii() and (char.isalnum() or char in "-._~") else "".join(f"%{b:02X}" for b in char.encode())
        for char in text
    )


def of_model(name: str, verb: str = "") -> str:
    return f"/v1/models/{quoted(name)}" + (f"/{verb}" if verb else "")


def model(name: str) -> Request:
    return Request("GET", of_model(name))


def explain(name: str) -> Request:
    return Request("GET", of_model(name, "explain"))


def task(task_id: int) -> Request:
    return Request("GET", f"/v1/tasks/{task_id}")


def wake(name: str, *, wait: bool, timeout_s: float, force: bool) -> Request:
    return _wish(name, "wake", {"wait": wait, "timeout_s": timeout_s, "force": force})


def gate(name: str, wait_s: int) -> Request:
    return Request("GET", f"{of_model(name, 'gate')}?wait_s={wait_s}", waits_s=wait_s)


def plan_wake(name: str) -> Request:
    return Request("POST", of_model(name, "wake"), {"dry_run": True})


def sleep(
    name: str, *, level: int, drain_s: float, force: bool, via_wake: bool, wait: bool, timeout_s: float
) -> Request:
    body = {"level": level, "drain_s": drain_s, "force": force, "via_wake": via_wake}
    return _wish(name, "sleep", body | {"wait": wait, "timeout_s": timeout_s})


def stop(name: str, *, wait: bool, timeout_s: float) -> Request:
    return _wish(name, "stop", {"wait": wait, "timeout_s": timeout_s})


def start(name: str, *, wait: bool, timeout_s: float) -> Request:
    return _wish(name, "start", {"wait": wait, "timeout_s": timeout_s})


def simple(name: str, verb: str) -> Request:
    return Request("POST", of_model(name, verb), {})


def hold(hold_id: str, model: str, *, ttl_s: float, reason: str, wake: bool, wait: bool, timeout_s: float) -> Request:
    body = {"model": model, "ttl_s": ttl_s, "reason": reason, "wake": wake, "wait": wait, "timeout_s": timeout_s}
    return Request("PUT", of_hold(hold_id), body, timeout_s if wake and wait else None)


def attach(hold_id: str, model: str, *, reason: str, wake: bool, wait: bool, timeout_s: float) -> Request:
    body = {"model": model, "attach": True, "reason": reason, "wake": wake, "wait": wait, "timeout_s": timeout_s}
    return Request("PUT", of_hold(hold_id), body, timeout_s if wake and wait else None)


def reserve(
    reservation_id: str,
    gpus: Sequence[int | str],
    bytes_per_gpu: int,
    *,
    ttl_s: float,
    reason: str,
    wait: bool,
    timeout_s: float,
    pid: int | None,
) -> Request:
    body = _size(gpus, bytes_per_gpu, pid, reason, timeout_s) | {"ttl_s": ttl_s, "wait": wait}
    return Request("PUT", of_reservation(reservation_id), body, timeout_s if wait else None)


def attach_reservation(
    reservation_id: str,
    gpus: Sequence[int | str],
    bytes_per_gpu: int,
    pid: int | None,
    *,
    reason: str,
    timeout_s: float,
) -> Request:
    """A stream that begins at once and tells what the grant waits for. `pid` None: this process."""
    own = os.getpid() if pid is None else pid
    body = _size(gpus, bytes_per_gpu, own, reason, timeout_s) | {"attach": True, "wait": False}
    return Request("PUT", of_reservation(reservation_id), body)


def give_back(reservation_id: str) -> Request:
    return Request("DELETE", of_reservation(reservation_id))


def of_reservation(reservation_id: str) -> str:
    return f"/v1/reservations/{quoted(reservation_id)}"


def _size(
    gpus: Sequence[int | str], bytes_per_gpu: int, pid: int | None, reason: str, timeout_s: float
) -> dict[str, Any]:
    body = {"gpus": list(gpus), "bytes_per_gpu": bytes_per_gpu, "pid": pid}
    return body | {"reason": reason, "timeout_s": timeout_s}


def release(hold_id: str) -> Request:
    return Request("DELETE", of_hold(hold_id))


def of_hold(hold_id: str) -> str:
    return f"/v1/holds/{quoted(hold_id)}"


def events(since: str | None, *, follow: bool, last: int | None = None) -> Request:
    query = [f"follow={'true' if follow else 'false'}"] + ([f"since={quoted(since)}"] if since else [])
    query += [f"last={last}"] if last is not None else []
    return Request("GET", f"/v1/events?{'&'.join(query)}")


def history(
    kind: str = "",
    *,
    models: Iterable[str] = (),
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
    step_s: int | None = None,
    after: str | None = None,
) -> Request:
    """`kind` "": rows; "buckets" or "report": added up; "timeline": as it is drawn. `since` and `until` as RFC 3339."""
    words: dict[str, object] = {"model": ",".join(models), "from": since, "to": until, "limit": limit, "step_s": step_s}
    given = {name: value for name, value in (words | {"next": after}).items() if value not in (None, "")}
    query = "&".join(f"{name}={quoted(str(value))}" for name, value in given.items())
    path = f"/v1/history/{kind}" if kind else "/v1/history"
    return Request("GET", f"{path}?{query}" if query else path)


def ui_token(role: str, ttl_s: float) -> Request:
    return Request("POST", "/v1/ui/tokens", {"role": role, "ttl_s": ttl_s})


def _wish(name: str, verb: str, body: dict[str, Any]) -> Request:
    return Request("POST", of_model(name, verb), body, body["timeout_s"] if body["wait"] else None)
