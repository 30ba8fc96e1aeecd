"""No rule ever acts on a missing reading, whatever its conditions are and whatever else is known."""

from dataclasses import replace

from core_worlds import ASLEEP, AWAKE, NOW, gpus, later, record, seen, world
from hypothesis import given
from hypothesis import strategies as st
from rule_worlds import CRON, GIBS, HOURS, MISSING, TENTH, calendar

from sleepd.core.commands import LookNow
from sleepd.core.detector import evaluate
from sleepd.core.events import Tick
from sleepd.core.machine import step
from sleepd.core.model import CauseKind
from sleepd.core.rules import (
    KEEP_AWAKE,
    SLEEP_1,
    SLEEP_2,
    WAKE,
    AsleepFor,
    AwakeFor,
    GpuFreeBelow,
    HostAvailableBelow,
    HostPressureAbove,
    IdleFor,
    LevelIs,
    Rate,
    RequestsBelow,
    Rule,
    UnitMemoryAbove,
)
from sleepd.core.seen import UnitMemory
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked

CONDITIONS = (
    IdleFor(60.0),
    AwakeFor(60.0),
    AsleepFor(0.0),
    LevelIs(0),
    LevelIs(1),
    HostAvailableBelow(*TENTH),
    HostPressureAbove(0.2, 0.1),
    UnitMemoryAbove(*GIBS),
    GpuFreeBelow(*GIBS),
    RequestsBelow(Rate(1.0, 60.0), Rate(1.0, 60.0), 60.0),
    HOURS,
    CRON,
)
rules = st.lists(
    st.builds(
        lambda n, conditions, then: Rule(f"r{n}", frozenset({"a"}), tuple(conditions), then),
        st.integers(0, 99),
        st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=3, unique=True),
        st.sampled_from((SLEEP_1, SLEEP_2, WAKE, KEEP_AWAKE)),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda rule: rule.name,
)
UNIT = UnitMemory(30 * GIB, 30 * GIB)


@given(rules, st.sampled_from((AWAKE, ASLEEP)), st.sets(st.sampled_from(("model", "gpus", "host", "calendar"))))
def test_no_rule_acts_on_what_is_missing(drawn, life, missing):
    made = world(record(life=life, seen=MISSING if "model" in missing else seen(unit_memory=UNIT)), rules=tuple(drawn))
    made = replace(made, gpus=MISSING if "gpus" in missing else made.gpus)
    made = replace(made, host=MISSING if "host" in missing else made.host)
    if "calendar" not in missing:
        made = replace(made, calendar=calendar(spans=((-60.0, 60.0),), moments=(-60.0,)))
    turn = step(made, [Tick()], NOW)
    before = replace(made, memory=turn.world.memory)
    for task in turn.world.tasks.values():
        if task.cause.kind is CauseKind.RULE:
            rule = next(r for r in drawn if r.name == task.cause.who)
            judged = evaluate(rule, made.models["a"], before, NOW).judged
            assert [j.holds for j in judged] == [True] * len(judged)


def test_whoever_waits_for_a_gpu_reading_that_fails_leaves_it_to_the_polls():
    """One that merely grew old is asked for at once; one that failed would fail again with every turn."""
    for reading, asked in ((MISSING, 0), (gpus(40 * GIB, age_s=2.0), 1)):
        turn = step(replace(world(record(life=ASLEEP)), gpus=reading), [WakeAsked(1, "a", "user", 60.0)], NOW)
        again = step(turn.world, [Tick()], later(0.1))
        for each in (turn, again):
            assert sum(isinstance(c, LookNow) and c.gpus for c in each.commands) == asked
