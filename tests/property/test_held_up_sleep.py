"""A sleep that a direct request holds up: waited for, cut short where that may be, never woken into."""

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.plan import Verb
from sleepd.core.task import Phase
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest, SimReply

LATE_S = 30.0
"""[recovery] late_drain, as it comes."""


class Direct:
    """A client that reaches server a past sleepd the very moment the call to sleep is on its way."""

    def __init__(self, rig: Rig, seconds: float, tokens: int = 1000) -> None:
        self.rig, self.seconds, self.tokens, self.answers, self.sent = rig, seconds, tokens, [], []
        server = rig.servers["a"]
        send = server.call

        def call(verb: Verb, *rest: object) -> None:
            self.sent.append(verb)
            if verb in (Verb.SLEEP_L1, Verb.SLEEP_L2):
                self._slip_in()
            send(verb, *rest)

        server.call = call

    def _slip_in(self) -> None:
        pace_ms = 1000.0 * self.seconds / self.tokens
        body = {"model": "a", "prompt": "hi", "max_tokens": self.tokens, "vllm_xargs": {"pace_ms": pace_ms}}
        self.rig.engine("a").call(HttpRequest("POST", "/v1/completions", (), body), self.answers.append)

    @property
    def finished(self) -> str:
        assert len(self.answers) == 1
        assert isinstance(self.answers[0], SimReply)
        return self.answers[0].body["choices"][0]["finish_reason"]


def rig_with(*names: str, version: str = "0.32.0", level: int = 1, kv_bytes: int = 14 * GIB) -> Rig:
    rig = Rig(version, names or ("a",), level, kv_bytes=kv_bytes)
    rig.boot("a")
    rig.start()
    if level == 2:
        assert rig.until(lambda: any(n.kind == "level2_proven" for n in rig.notes))
    assert rig.until(lambda: rig.state("a") is State.AWAKE and bool(rig.record("a").footprint.awake))
    return rig


def asked_by_force(rig: Rig, level: int = 1) -> list:
    answers: list = []
    rig.daemon.ask(lambda w: SleepAsked(w, "a", "test", level, 3600.0, force=True), answers.append)
    return answers


def test_without_force_it_waits_however_long_the_request_runs():
    rig = rig_with()
    direct = Direct(rig, 2000.0)
    answers = rig.sleep("a", 1)
    rig.run(1500.0)
    assert rig.state("a") is State.SLEEP_PENDING
    assert rig.until(lambda: rig.state("a") is State.ASLEEP_L1, 1000.0)
    assert direct.finished == "length"
    assert set(direct.sent) & {Verb.CUT_L1, Verb.WAKE} == set()
    assert len(answers) == 1
    rig.check_usable("a")


@pytest.mark.parametrize(("level", "cut"), [(1, Verb.CUT_L1), (2, Verb.CUT_L2)])
@pytest.mark.parametrize("version", ["0.24.0", "0.28.0", "0.32.0"])
def test_force_cuts_it_short_after_a_while_at_the_same_level(version, level, cut):
    rig = rig_with(version=version, level=level)
    direct = Direct(rig, 2000.0)
    answers = asked_by_force(rig, level)
    rig.run(LATE_S - 2.0)
    assert not answers
    assert cut not in direct.sent
    assert rig.until(lambda: bool(answers), 20.0)
    assert answers[0].kind is AnswerKind.DONE
    assert rig.state("a") is (State.ASLEEP_L2 if level == 2 else State.ASLEEP_L1)
    assert direct.sent.count(cut) == 1
    assert direct.finished == "abort"
    rig.check_usable("a")


def test_a_request_that_needs_the_room_cuts_a_victim_short_but_not_at_once():
    rig = rig_with("a", "b", kv_bytes=40 * GIB)
    asleep = rig.sleep("a", 1)
    assert rig.until(lambda: bool(asleep))
    assert rig.state("a") is State.ASLEEP_L1
    rig.boot("b")
    assert rig.until(lambda: rig.state("b") is State.AWAKE)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers))
    direct = Direct(rig, 2000.0)
    answers = rig.wake("b")
    rig.run(LATE_S - 2.0)
    assert Verb.CUT_L1 not in direct.sent
    assert rig.until(lambda: bool(answers), 30.0)
    assert answers[0].kind is AnswerKind.DONE
    assert direct.sent.count(Verb.CUT_L1) == 1
    assert rig.state("b") is State.AWAKE
    rig.check_usable("a")


def test_a_rule_or_a_person_alone_never_ends_a_request():
    rig = rig_with()
    direct = Direct(rig, 500.0)
    rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.ASLEEP_L1, 600.0)
    assert direct.finished == "length"


def test_a_slow_first_backup_is_no_drain_and_is_waited_for():
    rig = rig_with()
    rig.arm("a", Fault("slow", "/sleep", seconds=90.0))
    sent = Direct(rig, 0.0)
    sent._slip_in = lambda: None
    answers = asked_by_force(rig)
    assert rig.until(lambda: bool(answers), 120.0)
    assert answers[0].kind is AnswerKind.DONE
    assert Verb.CUT_L1 not in sent.sent
    assert not any(n.kind == "unanswered" for n in rig.notes)


@pytest.mark.parametrize("fault", ["lose_before", "lose_after"])
def test_a_cut_whose_answer_is_lost_is_found_out_and_not_repeated_blindly(fault):
    rig = rig_with()
    direct = Direct(rig, 2000.0)
    rig.arm("a", Fault(fault, "/sleep", skip=1))
    answers = asked_by_force(rig)
    assert rig.until(lambda: bool(answers), 120.0)
    assert answers[0].kind is AnswerKind.DONE
    assert direct.sent.count(Verb.CUT_L1) == (2 if fault == "lose_before" else 1)
    rig.check_usable("a")


@pytest.mark.parametrize("late_s", [0.0, 0.1, 20.0, LATE_S + 0.3, LATE_S + 5.0])
def test_a_daemon_that_dies_meanwhile_goes_on_with_it(late_s):
    rig = rig_with()
    Direct(rig, 2000.0)
    asked_by_force(rig)
    assert rig.until(lambda: rig.state("a") is State.FALLING_ASLEEP)
    rig.run(late_s)
    rig.daemon.die()
    rig.run(1.0)
    rig.daemon.start()
    # Who asked by force is gone, the force stays.
    assert rig.until(lambda: rig.state("a") is State.ASLEEP_L1, 120.0)
    assert rig.gave_up() == []
    rig.check_usable("a")


def held_up(rig: Rig) -> list[str]:
    return [note.text for note in rig.notes if note.kind == "held_up"]


def test_a_request_that_moves_no_counter_is_slow_and_loses_nothing():
    """One long prefill counts nothing before its first token: the core answers meanwhile, so nothing is stuck."""
    rig = rig_with()
    direct = Direct(rig, 4000.0, tokens=1)
    rig.sleep("a", 1)
    rig.run(3900.0)
    assert rig.state("a") is State.SLEEP_PENDING
    assert rig.record("a").failure is None
    assert len(held_up(rig)) == 1, "it is told once"
    assert "no counter of theirs has moved for 5m, though it answers" in rig.record("a").reason
    assert "sleepctl sleep --force a" in rig.record("a").reason
    assert rig.until(lambda: rig.state("a") is State.ASLEEP_L1)
    assert direct.finished == "length"
    rig.check_usable("a")
    assert rig.record("a").reason.startswith("awake")


def test_force_ends_a_request_that_moves_no_counter():
    rig = rig_with()
    direct = Direct(rig, 1e6, tokens=1)
    rig.sleep("a", 1)
    assert rig.until(lambda: bool(held_up(rig)), 2000.0)
    answers = asked_by_force(rig)
    assert rig.until(lambda: bool(answers), 60.0)
    assert answers[0].kind is AnswerKind.DONE
    assert direct.finished == "abort"
    rig.check_usable("a")


@pytest.mark.parametrize("after_s", [0.0, 1000.0])
def test_a_core_that_hangs_under_such_a_request_is_found(after_s):
    """Its page answers and shows a request that runs: /is_sleeping waits for the core, and tells."""
    rig = rig_with()
    Direct(rig, 1e6, tokens=1)
    rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.SLEEP_PENDING, 400.0)
    rig.run(after_s)
    rig.arm("a", Fault("hang", path="/is_sleeping"))
    assert rig.until(lambda: rig.state("a") is State.FAILED, 600.0)
    assert rig.record("a").failure.code == "wedged"


def test_nothing_else_is_sent_to_a_model_that_is_wanted_again_meanwhile():
    rig = rig_with()
    direct = Direct(rig, 400.0)
    rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.SLEEP_PENDING, 400.0)
    answers = rig.wake("a")
    rig.run(30.0)
    assert direct.sent[-1] is Verb.SLEEP_L1
    assert rig.daemon.world.tasks["a"].phase is Phase.FENCE
    assert rig.until(lambda: bool(answers), 300.0)
    assert answers[0].kind is AnswerKind.DONE
    assert direct.finished == "length"
