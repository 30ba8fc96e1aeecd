"""What sleepctl says in sentences: outcomes, plans, events, refusals."""

from __future__ import annotations

import sys

from sleepd.cli.codes import REFUSED, TIMED_OUT, USAGE
from sleepd.cli.columns import moment
from sleepd.cli.screen import Screen, clean, print_text
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sleepd.client import ApiProblem
    from sleepd.wire.answers import Outcome


def report(problem: ApiProblem, subject: str = "", *, as_json: bool) -> int:
    """Tell a refusal on stderr, with `as_json` also as it was answered on stdout; return the exit code for it."""
    if as_json:
        print_text(problem.text)
    print("\n".join(tell_problem(problem, subject)), file=sys.stderr)
    if problem.errors:
        return USAGE
    return TIMED_OUT if problem.kind == "timeout" else REFUSED


def tell_outcome(verb: str, name: str, status: int, body: Outcome) -> str:
    """Return one line on what became of a wake, sleep or reset: "chat: awake after 4.2s"."""
    model = body["model"]
    level = f" at level {model['level']}" if model["level"] else ""
    state = f"{clean(model['state']).replace('_', ' ')}{level}"
    if status == 202:
        task = f" (task {body['task']})" if body["task"] is not None else ""
        return f"{name}: {verb} accepted{task}, {state} now"
    if verb in ("pin", "unpin"):
        return f"{name}: {'pinned' if model['pinned'] else 'not pinned'}, {state}"
    if body["task"] is None and not body["waited_s"] and verb != "reset":
        return f"{name}: {state} already"
    return f"{name}: {state} after {format_duration(body['waited_s'])}" if body["waited_s"] else f"{name}: {state}"


def tell_problem(problem: ApiProblem, subject: str = "", program: str = "sleepctl: ") -> list[str]:
    """Return the refusal: what, and in further lines what was wanted, what was found, what to do."""
    about = f"{clean(subject)}: " if subject else ""
    detail = f": {clean(problem.detail)}" if problem.detail else ""
    lines = [f"{program}{about}{clean(problem.title)}{detail}"]
    facts = (("wanted", problem.wanted), ("found", problem.found), ("hint", problem.hint))
    lines += [f"  {label + ':':<8}{clean(text)}" for label, text in facts if text]
    return lines + [f"  {clean(error)}" for error in problem.errors]


def tell_event(event: dict[str, Any], screen: Screen) -> str:
    """Return one event: its time, and what happened."""
    if event["kind"] == "gap":
        return screen.paint("-- some events are no longer on record --", "yellow")
    time = moment(event["time"])
    first, *rest = screen.wrap(tell_text(event), indent=len(time) + 2)
    return "\n".join([f"{screen.paint(time, 'dim')}  {first}", *rest])


def tell_text(event: Mapping[str, Any]) -> str:
    """Return what happened; the model's name only where the sentence lacks it."""
    model, text = clean(event["model"] or ""), clean(event["text"])
    return f"{model}: {text}" if model and model not in text else text
