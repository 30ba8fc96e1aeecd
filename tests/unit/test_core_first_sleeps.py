"""Wishes of the first second: what they need was not looked at yet, so they wait for the look instead of being told to
configure what it is about to show."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, NEED, NOW, gpus, later, record, seen, world

from sleepd.core.commands import Answer, AnswerKind, LookNow, RunStep
from sleepd.core.events import Event, GpusLooked, ModelLooked
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.record import ModelRecord
from sleepd.core.seen import CallCount, ControlCounts, GpusSeen, SleepGauge
from sleepd.core.turn import Turn
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked, WakeAsked
from sleepd.core.world import World

SLEEP, WAKE = SleepAsked(1, "a", "test", 1, 60.0), WakeAsked(1, "a", "test", 60.0)
NOT_YET = Missing(MissingReason.NOT_YET)
UNREADABLE = Missing(MissingReason.UNREADABLE, "no NVML")


def unplaced(life: Life = AWAKE) -> ModelRecord:
    """Its server answered; where its processes hold memory is still to be listed, and no file says it."""
    made = record("a", life, seen=seen(is_sleeping=life is ASLEEP), since_s=NOW.mono_s - 0.1)
    return replace(made, spec=replace(made.spec, gpus=()))


def listed(*, told: bool = True, at_s: float = 0.5) -> GpusLooked:
    (gpu,) = gpus(40 * GIB).value
    gpu = replace(gpu, used_by_pid={1: NEED} if told else None)
    return GpusLooked(Known((gpu,), NOW.mono_s + at_s, NOW.mono_s + at_s), listed=True)


def answers(turn: Turn) -> list[tuple[AnswerKind, str, str]]:
    return [(c.kind, c.problem, c.detail) for c in turn.commands if isinstance(c, Answer)]


def begun(turn: Turn) -> list[str]:
    return [c.order.model for c in turn.commands if isinstance(c, RunStep)]


def waits(made: World, wish: Event) -> World:
    asked = step(made, [wish], NOW)
    assert (answers(asked), begun(asked)) == ([], [])
    assert any(isinstance(c, LookNow) for c in asked.commands), "it waits for no poll"
    return asked.world


@pytest.mark.parametrize(("wish", "life"), [(SLEEP, AWAKE), (WAKE, ASLEEP)], ids=["sleep", "wake"])
class TestGpusThatNoFileSays:
    def test_a_wish_waits_until_processes_were_listed_once(self, wish: Event, life: Life) -> None:
        found = step(waits(world(unplaced(life)), wish), [listed()], later(0.5))
        assert (answers(found), begun(found)) == ([], ["a"])

    def test_where_no_list_tells_it_is_refused_with_the_setting_that_helps(self, wish: Event, life: Life) -> None:
        found = step(waits(world(unplaced(life)), wish), [listed(told=False)], later(0.5))
        ((kind, problem, detail),) = answers(found)
        assert (kind, problem) == (AnswerKind.REFUSED, "blind")
        assert "set gpus in [models.a]" in detail
        again = step(found.world, [wish], later(0.6))
        assert answers(again) == [(kind, problem, detail)], "from then on at once"

    def test_without_processes_there_is_nothing_to_wait_for(self, wish: Event, life: Life) -> None:
        far = replace(unplaced(life), seen=seen(is_sleeping=life is ASLEEP, pids=()))
        ((kind, problem, _),) = answers(step(world(far), [wish], NOW))
        assert (kind, problem) == (AnswerKind.REFUSED, "blind")


def newborn(gpus_read: Reading[GpusSeen] = NOT_YET) -> World:
    """The daemon began just now."""
    unseen = record("a", Life(State.UNKNOWN, Weights.DOUBTFUL), seen=NOT_YET, facts=None, incarnation=None)
    return replace(world(unseen), gpus=gpus_read)


def looked(**more: object) -> ModelLooked:
    reading = seen(**{"control": ControlCounts(), **more})
    return ModelLooked("a", replace(reading, asked_at_s=NOW.mono_s + 0.2, at_s=NOW.mono_s + 0.2))


READ = GpusLooked(gpus(40 * GIB, age_s=-0.3), listed=True)


def test_a_sleep_asked_before_anything_was_looked_at_waits_for_the_server_and_its_gpus() -> None:
    found = step(waits(newborn(), SLEEP), [looked()], later(0.2))
    assert (answers(found), begun(found)) == ([], [])
    assert begun(step(found.world, [READ], later(0.4))) == ["a"]


def test_one_that_sleeps_already_is_what_was_wanted() -> None:
    control = ControlCounts(sleep=CallCount(ok=1))
    found = step(waits(newborn(), SLEEP), [looked(is_sleeping=True, control=control), READ], later(0.4))
    assert [kind for kind, _, _ in answers(found)] == [AnswerKind.DONE]


PAUSED: dict[str, object] = {"is_sleeping": True, "gauge": SleepGauge.AWAKE}
NOBODY = ModelLooked("a", Missing(MissingReason.NOT_VLLM, "it answers 404"))


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (looked(**PAUSED), "engine_failed"),
        (NOBODY, "engine_failed"),
        (looked(running=1), "busy"),
    ],
    ids=["paused by somebody", "no vLLM there", "in use"],
)
def test_whoever_cannot_be_put_to_sleep_is_told_with_the_first_look(event: ModelLooked, problem: str) -> None:
    found = step(waits(newborn(), SLEEP), [event, READ], later(0.4))
    assert [(kind, told) for kind, told, _ in answers(found)] == [(AnswerKind.REFUSED, problem)]


def test_gpus_that_cannot_be_read_are_told_at_once() -> None:
    found = step(waits(newborn(), SLEEP), [looked(), GpusLooked(UNREADABLE)], later(0.4))
    ((kind, problem, detail),) = answers(found)
    assert (kind, problem) == (AnswerKind.REFUSED, "blind")
    assert "no NVML" in detail


def test_nothing_is_waited_for_longer_than_the_caller_does() -> None:
    silent = step(waits(newborn(), SLEEP), [], later(61.0))
    assert [kind for kind, _, _ in answers(silent)] == [AnswerKind.REFUSED]
