"""Engines that are asked for the known answer with their gate shut, and do not answer in time."""

from collections.abc import Callable
from typing import Any

import pytest
from test_proof import slept
from virtual_rig import Rig

from sleepd.core.calls import NoAnswer, NoAnswerKind, ProbeAnswer, ProbeResult
from sleepd.core.commands import Answer
from sleepd.core.frozen import replace
from sleepd.core.life import State
from sleepd.core.model import Known, Missing, MissingReason, Reading, Verify
from sleepd.core.seen import Activity, ModelSeen
from sleepd.sim.vllm_faults import Fault

BEFORE = {"verify": Verify.BEFORE}


def answer_no_question(rig: Rig) -> Callable[[], None]:
    """Questions run out of time from now on; return what ends that."""
    return _answer(rig, NoAnswer(NoAnswerKind.TIMED_OUT))


def answer_wrongly(rig: Rig) -> Callable[[], None]:
    """Questions are answered by noise from now on; return what ends that."""
    noise = ("!",) * 8
    return _answer(rig, ProbeAnswer(noise, compared=noise))


def _answer(rig: Rig, answer: ProbeResult) -> Callable[[], None]:
    server = rig.servers["a"]
    real = server.complete

    def complete(prompt: str, timeout_s: float, then: Callable[[ProbeResult], None], **more: object) -> None:
        rig.time.call_later(timeout_s if isinstance(answer, NoAnswer) else 0.1, lambda: then(answer))

    server.complete = complete  # type: ignore[method-assign]
    return lambda: setattr(server, "complete", real)


def serve_others(rig: Rig, *, steps_s: float | None = None) -> Callable[[], None]:
    """It computes for a crowd that came past the gate; where one step takes `steps_s`, /is_sleeping waits as long and
    the counters move no sooner. Return what ends that."""
    server, began_s = rig.servers["a"], rig.time.now()
    real = server.look

    def look(ask_sleeping: bool, timeout_s: float, then: Any, **more: Any) -> None:
        asked_s = rig.time.now()
        if ask_sleeping and steps_s is not None and steps_s > timeout_s:
            late = Missing(MissingReason.TIMED_OUT, f"no answer within {timeout_s:g} s", asked_s)
            rig.time.call_later(timeout_s, lambda: then(late))
            return
        real(ask_sleeping, timeout_s, lambda reading: then(crowded(reading)), **more)

    def crowded(reading: Reading[ModelSeen]) -> Reading[ModelSeen]:
        if not isinstance(reading, Known) or reading.value.activity is None:
            return reading
        steps = int((rig.time.now() - began_s) / (steps_s or 1.0))
        activity = reading.value.activity + Activity(8000 * steps, 200 * steps, steps)
        return replace(reading, value=replace(reading.value, running=100, waiting=50, activity=activity))

    server.look = look  # type: ignore[method-assign]
    return lambda: setattr(server, "look", real)


def begin_wake(rig: Rig) -> list[Answer]:
    answers = rig.wake("a")
    rig.run(2)
    return answers


@pytest.mark.parametrize("version", ["0.8.5", "0.22.1", "0.27.0", "0.28.0", "0.33.0"])
def test_a_question_that_waits_behind_a_crowd_fails_nobody(version: str) -> None:
    """The crowd waited inside as it slept; every one of them would die of a restart."""
    rig = slept(version, spec_more=BEFORE)
    ends = answer_no_question(rig), serve_others(rig)
    answers = begin_wake(rig)
    rig.run(900)
    assert rig.state("a") is State.PROVING
    assert rig.record("a").reason == "its weights are to be proven as soon as nobody uses it directly"
    assert not rig.daemon.gates.of("a").open
    assert not rig.daemon.world.tasks, "nobody else has to wait with that"
    for end in ends:
        end()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    rig.check_usable("a")
    assert len(answers) == 1


def test_an_engine_that_answers_looks_alone_and_serves_nobody_is_given_up() -> None:
    rig = slept(spec_more=BEFORE)
    answer_no_question(rig)
    begin_wake(rig)
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    failure = rig.record("a").failure
    assert failure is not None
    assert failure.code == "not_provable"


@pytest.mark.parametrize("version", ["0.22.1", "0.33.0"])
@pytest.mark.parametrize("fault", ["fail_sleep", "free_nothing"])
def test_a_sleep_that_failed_and_whose_weights_nothing_proves_is_told(version: str, fault: str) -> None:
    rig = slept(version, level=2)
    begin_wake(rig)
    rig.run(60)
    rig.arm("a", Fault(fault, times=9))  # type: ignore[arg-type]
    answer_no_question(rig)
    answers = rig.sleep("a", 2)
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    failure = rig.record("a").failure
    assert failure is not None
    assert failure.code == "not_provable"
    assert [answer.problem for answer in answers] == ["engine_failed"]


@pytest.mark.parametrize("answers_as", [answer_no_question, answer_wrongly])
def test_a_sleep_that_failed_under_a_crowd_is_told_and_its_model_is_proven_later(
    answers_as: Callable[[Rig], Callable[[], None]],
) -> None:
    rig = slept("0.33.0", level=2)
    begin_wake(rig)
    rig.run(60)
    rig.arm("a", Fault("fail_sleep"))
    ends = [answers_as(rig)]
    answers = rig.sleep("a", 2)
    assert rig.until(lambda: rig.state("a") is State.PROVING)
    ends.append(serve_others(rig))
    rig.run(900)
    assert rig.state("a") is State.PROVING
    assert [answer.problem for answer in answers] == ["engine_failed"]
    assert rig.record("a").attempts == 1
    for end in ends:
        end()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    rig.check_usable("a")


@pytest.mark.parametrize("version", ["0.8.5", "0.22.1", "0.33.0"])
def test_a_core_that_is_at_long_steps_does_not_hang(version: str) -> None:
    """It answers neither the question nor /is_sleeping, as no look of ours waits for as long as its steps take."""
    rig = slept(version)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers), every_s=0.01)
    answer_no_question(rig)
    serve_others(rig, steps_s=100.0)
    rig.run(1800)
    assert (rig.state("a"), rig.record("a").failure) == (State.AWAKE, None)
    assert "could not be compared" in rig.record("a").reason
