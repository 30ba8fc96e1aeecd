"""The known answer in virtual time: taken once, asked for after wakes, believed wrong only when repeated."""

from typing import Any

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.model import Verify
from sleepd.core.seen import Activity
from sleepd.core.wishes import PinAsked, WakeAsked
from sleepd.sim import vllm_inference
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest

WRONG_AT_WAKE = Fault("corrupt_wake")


class Doubted(Rig):
    """A rig whose engines may serve wrong answers until they were asked."""

    def _check_gates(self) -> None:
        pass


def slept(version: str = "0.32.0", *, rig: type[Rig] = Rig, level: int = 1, **more: Any) -> Rig:
    made = rig(version, ("a",), 2 if level == 2 else 1, **more)
    made.boot("a")
    made.start()
    if level == 2:
        assert made.until(lambda: any(n.kind == "level2_proven" for n in made.notes))
    made.run(10)
    answers = made.sleep("a", level)
    assert made.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE
    return made


def kinds(rig: Rig) -> list[str]:
    return [note.kind for note in rig.notes]


def wake(rig: Rig) -> int:
    """Wake it; return how many questions had been asked when the caller got its answer."""
    answers: list[tuple[AnswerKind, int]] = []
    rig.daemon.ask(lambda w: WakeAsked(w, "a", "test", 300.0), lambda answer: answers.append((answer.kind, asked(rig))))
    assert rig.until(lambda: bool(answers))
    assert answers[0][0] is AnswerKind.DONE
    return answers[0][1]


def asked(rig: Rig) -> int:
    """How many questions the engine was asked so far."""
    return rig.engine("a").snapshot().request_success["length"]


def test_the_known_answer_is_taken_twice_before_the_first_sleep_and_asked_for_after_a_wake() -> None:
    rig = slept()
    assert asked(rig) == 2
    assert wake(rig) == 2, "who waits for the wake does not wait for the question"
    rig.run(2)
    assert asked(rig) == 3
    assert not rig.record("a").unverified
    assert rig.state("a") is State.AWAKE


@pytest.mark.parametrize(("verify", "at_once", "later"), [("before", 1, 1), ("after", 0, 1), ("off", 0, 0)])
def test_when_it_is_asked_for(verify: str, at_once: int, later: int) -> None:
    rig = slept(spec_more={"verify": Verify(verify)})
    before = asked(rig)
    assert wake(rig) - before == at_once
    rig.run(5)
    assert asked(rig) - before == later


@pytest.mark.parametrize(("verify", "asks"), [("auto", 1), ("before", 1), ("after", 1), ("off", 0)])
def test_a_level_2_wake_of_a_checked_engine_is_asked_as_wanted(verify: str, asks: int) -> None:
    rig = slept(level=2, spec_more={"verify": Verify(verify)})
    before = asked(rig)
    wake(rig)
    rig.run(5)
    assert asked(rig) - before == asks
    assert rig.state("a") is State.AWAKE


def test_wrong_answers_after_a_wake_shut_the_gate_and_the_weights_are_read_anew() -> None:
    rig = slept(rig=Doubted)
    rig.arm("a", WRONG_AT_WAKE)
    wake(rig)
    assert rig.until(lambda: "answer_doubted" in kinds(rig), 5.0)
    assert not rig.daemon.gates.of("a").open
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert "answer_wrong" in kinds(rig)
    assert rig.engine("a").snapshot().answers_right


def test_asked_before_nobody_is_let_in_to_wrong_answers() -> None:
    """The rig asserts after every turn that an open gate means right answers."""
    rig = slept(spec_more={"verify": Verify.BEFORE})
    rig.arm("a", WRONG_AT_WAKE)
    wake(rig)
    assert "answer_wrong" in kinds(rig)


def test_where_nothing_can_be_read_anew_a_wrong_answer_is_quarantined_and_told() -> None:
    rig = slept("0.10.0", rig=Doubted)
    rig.arm("a", WRONG_AT_WAKE)
    wake(rig)
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    failure = rig.record("a").failure
    assert failure is not None
    assert failure.code == "answer_wrong"
    assert not rig.daemon.gates.of("a").open


def test_an_adapter_that_does_not_come_back_is_noticed_by_its_own_answer() -> None:
    rig = slept(rig=Doubted, engine_more={"adapters": ("sql", "poet")})
    known = rig.record("a").fingerprint
    assert known is not None
    assert set(known.adapters) == {"sql", "poet"}
    assert len({known.answer, *(said.tokens for said in known.adapters.values())}) == 3
    rig.arm("a", Fault("lose_adapters"))
    wake(rig)
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    assert "adapter sql, poet" in rig.record("a").reason


@pytest.mark.parametrize("task", ["embed", "pool"])
def test_a_pooling_model_is_known_by_its_vector(task: str) -> None:
    rig = slept(level=2, engine_more={"task": task})
    known = rig.record("a").fingerprint
    assert known is not None
    assert known.vector
    assert not known.answer
    wake(rig)
    assert rig.engine("a").snapshot().answers_right


def test_a_pooling_model_that_points_elsewhere_is_doubted() -> None:
    rig = slept(rig=Doubted, engine_more={"task": "embed"})
    rig.arm("a", WRONG_AT_WAKE)
    wake(rig)
    assert rig.until(lambda: "answer_doubted" in kinds(rig), 5.0)
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert rig.engine("a").snapshot().answers_right


def test_an_answer_is_cut_where_the_runner_up_is_close_and_without_any_it_says_so() -> None:
    rig = slept(engine_more={"certain_tokens": 3})
    known = rig.record("a").fingerprint
    assert known is not None
    assert len(known.answer) == 3
    rig = slept(engine_more={"certain_tokens": 0})
    assert rig.record("a").fingerprint is None
    wake(rig)
    rig.run(5)
    assert "cannot be proven: no known answer can be taken (its likeliest first tokens" in rig.record("a").reason
    assert rig.state("a") is State.AWAKE


@pytest.mark.parametrize(("step", "right"), [(0.9, True), (0.4, False)])
def test_a_runner_up_that_came_a_little_closer_is_no_wrong_answer(
    monkeypatch: pytest.MonkeyPatch, step: float, right: bool
) -> None:
    """Another batch shape moves logits by eighths of a nat; noise is less sure than half of one."""
    monkeypatch.setattr(vllm_inference, "STEP", 1.05)
    rig = slept(rig=Doubted)
    monkeypatch.setattr(vllm_inference, "STEP", step)
    wake(rig)
    rig.run(60)
    assert ("answer_doubted" in kinds(rig)) is not right


def test_no_answer_is_taken_of_an_engine_whose_memory_others_had_a_hand_in() -> None:
    rig = Doubted("0.32.0", ("a",))
    rig.boot("a")
    for path in ("/sleep", "/wake_up"):
        rig.servers["a"].request(HttpRequest("POST", path, (("level", "1"),)), 60.0, lambda answer: None)
        rig.run(5)
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    reads = rig.engine("a").snapshot().http_requests[("/collective_rpc", "POST", "2xx")]
    assert reads == 1, "its weights were read anew before its answer was believed"


def test_questions_never_count_as_use() -> None:
    rig = slept()
    wake(rig)
    since_s = rig.record("a").last_active_s
    rig.run(20)
    assert asked(rig) == 3
    assert rig.record("a").last_active_s == since_s
    assert rig.record("a").owed.certain == Activity()


def test_a_question_whose_answer_is_lost_does_not_count_as_use_either() -> None:
    rig = slept(rig=Doubted)
    rig.arm("a", Fault("lose_after", "/v1/completions"))
    wake(rig)
    since_s = rig.record("a").last_active_s
    rig.run(20)
    assert asked(rig) == 4, "one was lost, one was answered"
    assert rig.record("a").last_active_s == since_s
    assert not rig.record("a").unverified


def test_users_requests_do_count_beside_questions() -> None:
    rig = slept()
    wake(rig)
    rig.run(20)
    body = {"model": "a", "prompt": "hello", "max_tokens": 4, "temperature": 0}
    rig.servers["a"].request(HttpRequest("POST", "/v1/completions", (), body), 60.0, lambda answer: None)
    rig.run(5)
    assert rig.record("a").last_active_s > rig.daemon.now().mono_s - 10.0


def test_a_question_that_a_pin_cuts_off_is_not_use() -> None:
    """It runs on to its end, unheard: what it moved is ours all the same."""
    rig = Rig("0.32.0", ("a",))
    rig.boot("a")
    rig.start()
    rig.run(400.0)
    idle_since_s = rig.record("a").last_active_s
    rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.DRAINING and rig.daemon.world.tasks["a"].running, every_s=0.01)
    rig.run(0.02)
    rig.daemon.ask(lambda w: PinAsked(w, "a", "operator", True), lambda answer: None)
    rig.run(30.0)
    assert rig.state("a") is State.AWAKE
    assert rig.engine("a").snapshot().generation_tokens > 0
    assert rig.record("a").last_active_s == idle_since_s
    assert not rig.record("a").used.any()
