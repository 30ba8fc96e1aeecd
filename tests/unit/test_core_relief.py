"""Sleepers stopped while host RAM is short: one at a time, the least recently used first."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, NOW, pressure, record, world
from rule_worlds import begun, kinds, play
from unit_worlds import INACTIVE, state, unit

from sleepd.core.events import Evidence, HostLooked, StepEnd, StepEnded
from sleepd.core.life import State
from sleepd.core.model import Known, Mode
from sleepd.core.seen import HostSeen
from sleepd.core.units import GIB

# --- "Host-RAM pressure ... level 1 sleepers with may_stop are stopped, least recently used first, one at a time" -----


def short(available=5, pressed=None, at_s=0.0):
    return Known(HostSeen(100 * GIB, available * GIB, pressed), NOW.mono_s + at_s, NOW.mono_s + at_s)


def sleepers(**more):
    of = {"a": 900.0, "b": 1800.0}
    specs = {name: {"unit": f"vllm@{name}.service", "may_stop": True} for name in of}
    return [
        record(name, ASLEEP, spec=specs[name], unit=unit(), last_active_s=NOW.mono_s - idle_s, **more)
        for name, idle_s in of.items()
    ]


def test_one_at_a_time_the_least_recently_used_first_and_measured_before_the_next():
    made = world(*sleepers(), rules=(pressure(),))
    first = play(made, HostLooked(short()))
    assert (begun(first, "a"), begun(first, "b")) == ("", "stop 0")
    (said,) = [n for n in first.notes if n.kind == "rule"]
    assert (said.data["rule"], said.data["action"]) == (pressure().name, "stop")
    task = first.world.tasks["b"]
    done = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=unit(INACTIVE, 1.0))
    gone = play(first.world, StepEnded("b", task.id, task.cursor, StepEnd.DONE, done), at_s=1.0)
    assert (state(gone, "b"), begun(gone, "a")) == (State.STOPPED, "")
    too_early = play(gone.world, HostLooked(short(6, at_s=2.0)), at_s=2.0)
    assert begun(too_early, "a") == ""
    measured = play(too_early.world, HostLooked(short(9, at_s=10.0)), at_s=10.0)
    (told,) = [n.text for n in measured.notes if n.kind == "relief"]
    assert "9GiB of RAM are available now, 4GiB more than before" in told
    assert not {"helpless"} & {*kinds(gone), *kinds(too_early), *kinds(measured)}
    assert begun(measured, "a") == "stop 0"


def test_enough_after_the_first_and_the_second_sleeps_on():
    made = world(*sleepers(), rules=(pressure(),))
    first = play(made, HostLooked(short()))
    task = first.world.tasks["b"]
    done = Evidence(None, "", NOW.mono_s + 1.0, NOW.mono_s + 1.0, unit=unit(INACTIVE, 1.0))
    gone = play(first.world, StepEnded("b", task.id, task.cursor, StepEnd.DONE, done), at_s=1.0)
    enough = play(gone.world, HostLooked(short(60, at_s=10.0)), at_s=10.0)
    assert begun(enough, "a") == ""


@pytest.mark.parametrize("kept", [{"pin": True}, {"life": AWAKE}])
def test_nobody_is_stopped_for_ram_who_is_protected_or_awake(kept):
    made = (
        world(*sleepers(**kept), rules=(pressure(),))
        if "life" not in kept
        else world(*(replace(r, **kept) for r in sleepers()), rules=(pressure(),))
    )
    turn = play(made, HostLooked(short()))
    assert (begun(turn, "a"), begun(turn, "b")) == ("", "")


def test_a_sleeper_that_is_only_observed_does_not_keep_the_next_from_being_stopped():
    made = world(*sleepers(), rules=(pressure(),))
    watched = replace(made.models["b"], spec=replace(made.models["b"].spec, mode=Mode.OBSERVE))
    made = world(made.models["a"], watched, rules=(pressure(),))
    turn = play(made, HostLooked(short()))
    assert (begun(turn, "a"), begun(turn, "b")) == ("stop 0", "")
    assert [n.model for n in turn.notes if n.kind == "would"] == ["b"]


def test_where_nothing_can_help_that_is_said_once_with_what_would():
    made = world(*(replace(r, spec=replace(r.spec, may_stop=False)) for r in sleepers()), rules=(pressure(),))
    turn = play(made, HostLooked(short()))
    (told,) = [n.text for n in turn.notes if n.kind == "helpless"]
    assert "may_stop = true" in told
    again = play(turn.world, HostLooked(short(4, at_s=1.0)), at_s=1.0)
    assert "helpless" not in kinds(again)
