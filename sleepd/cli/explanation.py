"""What `sleepctl explain` shows: every rule, what it wants, what was found, the verdict, when it comes next."""

from __future__ import annotations

from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.answers import Condition, Explanation, Rule


_MARKS = {True: ("✓", "+", "green"), False: ("✗", "-", "red"), None: ("?", "?", "yellow")}


def tell_explanation(body: Explanation, screen: Screen) -> list[str]:
    """Return every rule with its conditions: whether each holds, what it wants and what was found."""
    level = f" at level {body['level']}" if body["level"] else ""
    lines = [screen.paint(f"{clean(body['model'])}: {clean(body['state']).replace('_', ' ')}{level}", "bold")]
    lines += _wrapped("  ", body["reason"], screen)
    for rule in body["rules"]:
        lines += ["", *_tell_rule(rule, screen)]
    if body["protections"]:
        lines += ["", "protected:"]
        lines += [line for text in body["protections"] for line in _wrapped("  ", text, screen)]
    coming = body["next"]
    if coming:
        when = "now" if coming["in_s"] <= 0 else f"in {format_duration(coming['in_s'])}"
        # No rule has a space in its name: that is a turn's doing (docs/turns.md).
        whose = f"({clean(coming['rule'])})" if " " in coming["rule"] else f"by rule {clean(coming['rule'])}"
        lines += ["", f"next:    {clean(coming['action'])} {when} {whose}"]
    return [*lines, *([] if coming else [""]), *_wrapped("verdict: ", body["verdict"], screen)]


def _tell_rule(rule: Rule, screen: Screen) -> list[str]:
    due = "" if rule["holds"] or rule["due_in_s"] is None else f", due in {format_duration(rule['due_in_s'])}"
    verdict = screen.paint("holds", "green") if rule["holds"] else f"does not hold{due}"
    kind = f"{clean(rule['kind'])}, " if rule["kind"] else ""
    lines = [f"rule {clean(rule['rule'])} ({kind}{clean(rule['action'])}): {verdict}"]
    for condition in rule["conditions"]:
        lines += _tell_condition(condition, screen)
    return lines + (_wrapped("    ", rule["missing"], screen) if rule["missing"] and rule["holds"] else [])


def _tell_condition(condition: Condition, screen: Screen) -> list[str]:
    mark, ascii_mark, colour = _MARKS[condition["holds"]]
    shown = mark if screen.unicode else ascii_mark
    due = "" if condition["in_s"] is None or condition["holds"] else f" (in {format_duration(condition['in_s'])})"
    text = f"{condition['name']}: wanted {condition['wanted']}, found {condition['found']}{due}"
    first, *rest = _wrapped("    ", text, screen)
    return [f"  {screen.paint(shown, colour)} {first[4:]}", *rest]


def _wrapped(head: str, text: str, screen: Screen) -> list[str]:
    first, *rest = screen.wrap(clean(text), indent=len(head))
    return [head + first, *rest]
