"""What rules say of a model in this turn, and what is told of that: once, until it changes."""

from collections.abc import Mapping

from sleepd.core.detector import Evaluated, evaluate_all
from sleepd.core.draft import Draft
from sleepd.core.frozen import replace
from sleepd.core.limits import with_act
from sleepd.core.record import ModelRecord
from sleepd.core.rules import Rule
from sleepd.core.wording import report_condition


def rules_said(draft: Draft, record: ModelRecord) -> tuple[Evaluated, ...]:
    """What its rules say of the model as it is, worked out once a turn for each shape it takes."""
    known = draft.evaluated.get(record.spec.name)
    if known is None or known[0] is not record:
        known = draft.evaluated[record.spec.name] = (record, evaluate_all(record, draft.world(), draft.now))
    return known[1]


def say(draft: Draft, kind: str, rule: str, name: str, text: str, data: Mapping[str, object] | None = None) -> None:
    """Tell it once, until the rule lets go of the model or acts on it."""
    key = (kind, rule, name)
    if key not in draft.memory.told:
        draft.memory = replace(draft.memory, told=draft.memory.told | {key})
        draft.note(kind, name, text, {"rule": rule, **(data or {})})


def tell_act(draft: Draft, rule: Rule, record: ModelRecord, action: str, text: str) -> None:
    """Tell that the rule acts on the model, with what it found, and count it against the rule's limits."""
    data = {"rule": rule.name, "action": action, **evidence(draft, rule, record)}
    draft.note("rule", record.spec.name, f"rule {rule.name} {text}", data)
    note_act(draft, rule.name, record.spec.name)


def note_act(draft: Draft, rule: str, name: str) -> None:
    """Count an action of the rule against its limits."""
    key = (rule, name)
    memory = with_act(draft.memory, key, draft.mono_s)
    draft.memory = replace(memory, told=memory.told - {("alarm", *key), ("would", *key)})


def evidence(draft: Draft, rule: Rule, record: ModelRecord) -> Mapping[str, object]:
    """What was found of each condition of the rule, and what it wants."""
    world = draft.world()
    found = next(e for e in rules_said(draft, record) if e.rule.name == rule.name)
    reports = (
        report_condition(rule, index, judged, record, world, draft.now) for index, judged in enumerate(found.judged)
    )
    return {report.name: f"{report.found} (wanted {report.wanted})" for report in reports}
