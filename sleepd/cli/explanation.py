"""What `sleepctl explain` shows: every rule, what it wants, what was found, the verdict, when it comes next."""

from __future__ import annotations

from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.answers import Condition, Explanation


def tell_explanation(body: Explanation, screen: Screen) -> list[str]:
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


def _tell_condition(condition: Condition, screen: Screen) -> str:
    marks = {True: ("✓", "+", "green"), False: ("✗", "-", "red"), None: ("?", "?", "yellow")}
    mark, ascii_mark, colour = marks[condition["holds"]]
    shown = screen.paint(mark if screen.unicode else ascii_mark, colour)
    due = "" if condition["in_s"] is None or condition["holds"] else f" (in {format_duration(condition['in_s'])})"
    return (
        f"  {shown} {clean(condition['name'])}: wanted {clean(condition['wanted'])}, "
        f"found {clean(condition['found'])}{due}"
    )
