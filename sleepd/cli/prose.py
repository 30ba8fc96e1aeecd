"""What sleepctl says in sentences: outcomes, explanations, events, refusals."""

from typing import Any

from sleepd.cli.screen import Screen, clean
from sleepd.client import ApiProblem
from sleepd.core.units import format_duration


def tell_outcome(verb: str, name: str, status: int, body: dict[str, Any]) -> str:
    """Return one line on what became of a wake, sleep or reset: "chat: awake after 4.2s"."""
    model = body["model"]
    level = f" at level {model['level']}" if model["level"] else ""
    state = f"{clean(model['state']).replace('_', ' ')}{level}"
    if status == 202:
        task = f" (task {body['task']})" if body["task"] is not None else ""
        return f"{name}: {verb} accepted{task}, {state} now"
    if body["task"] is None and verb != "reset":
        return f"{name}: {state} already"
    return f"{name}: {state} after {format_duration(body['waited_s'])}" if body["waited_s"] else f"{name}: {state}"


def tell_problem(problem: ApiProblem, subject: str = "") -> list[str]:
    """Return the refusal: what, and in further lines what was wanted, what was found, what to do."""
    about = f"{clean(subject)}: " if subject else ""
    detail = f": {clean(problem.detail)}" if problem.detail else ""
    lines = [f"sleepctl: {about}{clean(problem.title)}{detail}"]
    facts = (("wanted", problem.wanted), ("found", problem.found), ("hint", problem.hint))
    lines += [f"  {label + ':':<8}{clean(text)}" for label, text in facts if text]
    return lines + [f"  {clean(error)}" for error in problem.errors]


def tell_explanation(body: dict[str, Any], screen: Screen) -> list[str]:
    """Return every rule with its conditions: whether each holds, what it wants and what was found."""
    level = f" at level {body['level']}" if body["level"] else ""
    lines = [screen.paint(f"{clean(body['model'])}: {clean(body['state']).replace('_', ' ')}{level}", "bold")]
    lines.append(f"  {clean(body['reason'])}")
    for rule in body["rules"]:
        due = "" if rule["holds"] or rule["due_in_s"] is None else f", due in {format_duration(rule['due_in_s'])}"
        verdict = screen.paint("holds", "green") if rule["holds"] else f"does not hold{due}"
        lines += ["", f"rule {clean(rule['rule'])} ({clean(rule['action'])}): {verdict}"]
        lines += [_tell_condition(condition, screen) for condition in rule["conditions"]]
    if body["protections"]:
        lines += ["", "protected by: " + "; ".join(clean(text) for text in body["protections"])]
    coming = body["next"]
    if coming:
        when = "now" if coming["in_s"] <= 0 else f"in {format_duration(coming['in_s'])}"
        lines += ["", f"next: {clean(coming['action'])} {when} by rule {clean(coming['rule'])}"]
    return [*lines, "", f"verdict: {clean(body['verdict'])}"]


def _tell_condition(condition: dict[str, Any], screen: Screen) -> str:
    marks = {True: ("✓", "+", "green"), False: ("✗", "-", "red"), None: ("?", "?", "yellow")}
    mark, ascii_mark, colour = marks[condition["holds"]]
    shown = screen.paint(mark if screen.unicode else ascii_mark, colour)
    due = "" if condition["in_s"] is None or condition["holds"] else f" (in {format_duration(condition['in_s'])})"
    return (
        f"  {shown} {clean(condition['name'])}: wanted {clean(condition['wanted'])}, "
        f"found {clean(condition['found'])}{due}"
    )


def tell_event(event: dict[str, Any], screen: Screen) -> str:
    """Return one event as a line: time, model, text."""
    if event["kind"] == "gap":
        return screen.paint("-- some events are no longer on record --", "yellow")
    time = clean(event["time"])[:19].replace("T", " ") + "Z"
    return f"{screen.paint(time, 'dim')}  {clean(event['model'] or 'sleepd')}: {clean(event['text'])}"
