"""The failure budget on a simulated engine: each failed task earns a longer rest; a success, a reset or a new process
closes the account."""

from itertools import pairwise

import pytest
from virtual_rig import Rig

from sleepd.core.budget import DYING_S, FAILURES_IN_A_ROW, FIRST_S, MOST_S, POLLS_UNTIL_LOST, cooldown_s, jitter
from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.model import CauseKind
from sleepd.core.plan import Verb
from sleepd.core.wishes import ResetAsked, WakeAsked
from sleepd.core.world import public_state
from sleepd.sim.vllm_faults import Fault


def failing(version: str = "0.30.0", times: int = 99) -> Rig:
    """A sleeper whose wakes fail and are put back."""
    rig = Rig(version)
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE and bool(rig.record("a").footprint.awake))
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    rig.arm("a", Fault("fail_wake", blocks=2, times=times))
    return rig


def ask(rig: Rig, kind: CauseKind) -> list:
    answers: list = []
    rig.daemon.ask(lambda w: WakeAsked(w, "a", "test", 300.0, cause=kind), answers.append)
    return answers


def fail_once(rig: Rig, kind: CauseKind = CauseKind.OPERATOR) -> None:
    answers = ask(rig, kind)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.REFUSED
    assert answers[0].problem == "engine_failed"
    assert rig.until(rig.settled)


def rest_s(rig: Rig) -> float:
    return rig.record("a").cooldown_until_s - rig.daemon.now().mono_s


def test_rests_double_up_to_an_hour_and_are_spread():
    steady = [cooldown_s(n, 500) for n in range(1, 12)]
    assert steady[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert steady[-1] == MOST_S
    spread = {jitter(n) for n in range(5000)}
    assert (min(spread), max(spread)) == (0.75, 1.25)


def test_each_failure_earns_a_longer_rest():
    rig = failing()
    rests = []
    for _ in range(4):
        fail_once(rig)
        rests.append(rest_s(rig))
        assert rig.state("a") is State.ASLEEP_L1
    assert all(later > 1.5 * earlier for earlier, later in pairwise(rests))


def test_requests_are_refused_while_it_rests_and_tried_afterwards():
    rig = failing(times=3)
    fail_once(rig, CauseKind.REQUEST)
    calls = len(rig.engine("a").armed())
    answers = ask(rig, CauseKind.REQUEST)
    rig.run(1.0)
    assert answers[0].kind is AnswerKind.REFUSED
    assert "next attempt in" in answers[0].detail
    assert "out of memory" in answers[0].detail
    assert len(rig.engine("a").armed()) == calls, "nothing was sent"
    rig.run(rest_s(rig))
    rig.engine("a").disarm()
    answers = ask(rig, CauseKind.REQUEST)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE
    assert (rig.record("a").attempts, rig.record("a").cooldown_until_s) == (0, 0.0)


def test_a_person_may_try_at_any_moment():
    rig = failing()
    fail_once(rig)
    assert rest_s(rig) > 0
    rig.engine("a").disarm()
    rig.check_usable("a")


def test_a_sleeper_that_goes_on_failing_is_given_up_until_a_reset():
    rig = failing()
    for _ in range(FAILURES_IN_A_ROW - 1):
        fail_once(rig)
    answers = ask(rig, CauseKind.OPERATOR)
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    assert answers[0].kind is AnswerKind.REFUSED
    assert rig.record("a").failure.code == "failed_again"
    assert "out of memory" in rig.record("a").reason
    rig.run(2 * MOST_S)
    assert rig.state("a") is State.FAILED
    rig.engine("a").disarm()
    rig.daemon.ask(lambda w: ResetAsked(w, "a", "test"), lambda answer: None)
    assert rig.until(lambda: rig.state("a") is State.ASLEEP_L1)
    rig.check_usable("a")


def test_a_new_process_closes_the_account_where_the_one_before_ended_at_rest():
    rig = failing()
    fail_once(rig)
    fail_once(rig)
    rig.run(DYING_S + POLLS_UNTIL_LOST)
    rig.reboot("a")
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert (rig.record("a").attempts, rig.record("a").cooldown_until_s, rig.record("a").failure) == (0, 0.0, None)


def test_the_account_outlives_the_daemon():
    rig = failing()
    fail_once(rig)
    fail_once(rig)
    rest, attempts = rest_s(rig), rig.record("a").attempts
    rig.daemon.die()
    rig.run(5.0)
    rig.daemon.start()
    assert rig.record("a").attempts == attempts == 2
    assert rest_s(rig) == pytest.approx(rest - 5.0, abs=1.0)


def test_a_model_that_cannot_fall_asleep_goes_on_serving_and_is_left_alone():
    rig = Rig("0.22.1")
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE and bool(rig.record("a").footprint.awake))
    rig.arm("a", Fault("fail_sleep", blocks=0, times=99))
    for n in range(1, FAILURES_IN_A_ROW + 3):
        answers = rig.sleep("a", 1)
        assert rig.until(lambda answers=answers: bool(answers) and rig.settled())
        assert rig.state("a") is State.AWAKE
        assert rig.record("a").attempts == n
    assert 0 < rest_s(rig) <= MOST_S


def test_no_call_is_repeated_because_it_was_slow():
    """Nothing is learned yet and the call takes minutes longer than anything it may: its answer is waited for by a
    fence, and nothing is sent twice."""
    rig = failing(times=1)
    rig.engine("a").disarm()
    sent: list[Verb] = []
    server = rig.servers["a"]
    send = server.call

    def call(verb: Verb, *rest: object) -> None:
        sent.append(verb)
        send(verb, *rest)

    server.call = call
    rig.arm("a", Fault("slow", "/wake_up", seconds=420.0))
    answers: list = []
    rig.daemon.ask(lambda w: WakeAsked(w, "a", "test", 3000.0), answers.append)
    assert rig.until(lambda: bool(answers), 1000.0)
    assert answers[0].kind is AnswerKind.DONE
    assert sent == [Verb.WAKE]
    rig.check_usable("a")


def test_a_wake_that_is_about_to_be_repeated_is_shown_as_waking():
    rig = failing(times=1)
    answers = ask(rig, CauseKind.OPERATOR)
    assert rig.until(lambda: rig.state("a") is State.BROKEN)
    assert public_state(rig.daemon.world, "a") == "waking"
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE
