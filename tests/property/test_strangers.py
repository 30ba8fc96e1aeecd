"""Somebody else at the controls, in virtual time: noticed, believed, told, left alone; and never served garbage."""

from collections import Counter
from typing import Any

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import ASLEEP, State
from sleepd.core.plan import Verb
from sleepd.core.seen import CallCount
from sleepd.core.wishes import ResetAsked
from sleepd.sim import virtual_server
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest, Timing

HOLD_DOWN_S = 600.0


class Shared(Rig):
    """Strangers lay hands on its engine: its gate may be open until the next look."""

    def _check_gates(self) -> None:
        pass


def rig_of(version: str = "0.32.0", *, asleep: bool = False, **more: Any) -> Rig:
    rig = Shared(version, ("a",), engine_more={"timing": Timing(0.1, 0.1, 0.1)}, **more)
    rig.boot("a")
    rig.start()
    rig.run(30)
    if asleep:
        answers = rig.sleep("a", 1)
        assert rig.until(lambda: bool(answers))
        assert answers[0].kind is AnswerKind.DONE
    return rig


def meddle(rig: Rig, *calls: str) -> None:
    """A stranger's calls, one after the other, all between two looks."""
    for call in calls:
        path, _, query = call.partition("?")
        pairs = tuple((k, v) for k, _, v in (p.partition("=") for p in query.split("&") if p))
        body = {"method": "reload_weights"} if path == "/collective_rpc" else None
        rig.servers["a"].request(HttpRequest("POST", path, pairs, body), 600.0, lambda answer: None)


def told(rig: Rig) -> str:
    return next(note.text for note in reversed(rig.notes) if note.kind == "foreign")


BARE = "/wake_up"
L1, L2, L0 = "/sleep?level=1", "/sleep?level=2", "/sleep?level=0"


@pytest.mark.parametrize(
    ("calls", "asleep", "said"),
    [
        ((L1,), False, "put it to sleep"),
        ((L1, BARE), False, "put it to sleep and woke it"),
        ((L2, BARE), False, "put it to sleep and woke it"),
        ((BARE,), True, "woke it"),
        (("/pause",), False, "paused or resumed it"),
        (("/pause", "/resume"), False, "paused or resumed it"),
        ((L0,), False, "put it to sleep"),
        (("/collective_rpc",), False, "called its workers"),
    ],
)
def test_a_stranger_is_noticed_with_the_next_look_told_and_left_alone(
    calls: tuple[str, ...], asleep: bool, said: str
) -> None:
    rig = rig_of(asleep=asleep)
    meddle(rig, *calls)
    rig.run(6)
    assert rig.state("a") is State.FOREIGN
    assert told(rig) == f"somebody else {said}: a is left alone for 10m"
    steps = rig.daemon.tally.steps
    rig.run(HOLD_DOWN_S - 60)
    assert rig.state("a") is State.FOREIGN
    assert rig.daemon.tally.steps == steps, "hands off"


@pytest.mark.parametrize("calls", [(L1, BARE), (L2, BARE), (L1,), (L2,), ("/pause", "/resume")], ids=str)
@pytest.mark.parametrize("version", ["0.22.1", "0.28.0", "0.32.0"])
def test_after_the_hold_down_it_answers_right_again(version: str, calls: tuple[str, ...]) -> None:
    """Level 2 and a bare wake leave an engine that answers 200 and nonsense: it is not let near anybody."""
    rig = rig_of(version)
    meddle(rig, *calls)
    rig.run(6)
    assert not rig.daemon.gates.of("a").open
    rig.run(HOLD_DOWN_S)
    assert rig.until(rig.settled)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE
    assert rig.engine("a").snapshot().answers_right
    assert rig.deaths == []


def test_a_stranger_who_goes_on_is_left_alone_until_the_end() -> None:
    rig = rig_of()
    for _ in range(3):
        meddle(rig, L1, BARE)
        rig.run(HOLD_DOWN_S - 60)
        assert rig.state("a") is State.FOREIGN


@pytest.mark.parametrize("pause", ["/pause", L0])
def test_a_trainer_that_keeps_an_engine_paused_keeps_it(pause: str) -> None:
    rig = rig_of()
    meddle(rig, pause)
    steps = rig.daemon.tally.steps
    rig.run(4 * HOLD_DOWN_S)
    assert rig.state("a") is State.FOREIGN
    assert rig.daemon.tally.steps == steps
    assert rig.engine("a").snapshot().is_paused
    meddle(rig, "/resume")
    rig.run(2 * HOLD_DOWN_S)
    assert rig.until(lambda: rig.state("a") is State.AWAKE)


def test_a_pause_that_nothing_shows_is_given_up_after_three_questions() -> None:
    """Up to 0.16 /is_sleeping says nothing of it; a daemon that was away cannot tell it from what came before."""
    rig = rig_of("0.16.0", asleep=True)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers))
    rig.daemon.die()
    meddle(rig, "/pause")
    rig.run(1)
    rig.daemon.start()
    assert rig.until(lambda: rig.state("a") is State.FAILED, 190.0)
    failure = rig.record("a").failure
    assert failure is not None
    assert failure.code == "not_provable"
    assert not rig.daemon.gates.of("a").open


def test_an_operator_takes_it_back_at_once() -> None:
    rig = rig_of()
    meddle(rig, L2, BARE)
    rig.run(6)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers), 5.0)
    assert (answers[0].kind, answers[0].problem) == (AnswerKind.REFUSED, "engine_failed")
    assert answers[0].hint == "to take it back at once: sleepctl reset a"
    rig.daemon.ask(lambda w: ResetAsked(w, "a", "root"), lambda answer: None)
    assert rig.until(lambda: rig.state("a") is State.AWAKE, 60.0)
    assert rig.engine("a").snapshot().answers_right


def test_a_stranger_just_before_our_wake_is_noticed_with_the_page_right_after() -> None:
    """The wake is proven without the page of counters; what moved beside our own call is compared at once."""
    rig = rig_of(asleep=True)
    meddle(rig, BARE, L2)
    rig.run(0.3)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers), 10.0)
    rig.run(1)
    assert rig.state("a") is State.FOREIGN
    assert told(rig) == "somebody else put it to sleep and woke it: a is left alone for 10m"
    rig.run(HOLD_DOWN_S)
    assert rig.until(rig.settled)
    wake = rig.wake("a")
    assert rig.until(lambda: bool(wake))
    assert rig.engine("a").snapshot().answers_right


def test_a_page_that_lags_behind_our_own_wake_is_nobody_elses_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = rig_of(asleep=True)
    counted = virtual_server._count
    lagging = True

    def behind(snap: Any, handler: str) -> CallCount:
        count = counted(snap, handler)
        return CallCount(max(0, count.ok - 1), count.failed) if lagging and handler == "/wake_up" else count

    monkeypatch.setattr(virtual_server, "_count", behind)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers))
    rig.run(3)
    lagging = False
    rig.run(10)
    assert rig.state("a") is State.AWAKE
    assert "foreign" not in [note.kind for note in rig.notes]
    assert not rig.record("a").unverified


def test_a_stranger_during_the_question_after_a_wake_is_met_all_the_same() -> None:
    rig = rig_of(asleep=True)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers))
    meddle(rig, L1, BARE)
    rig.run(6)
    assert rig.state("a") is State.FOREIGN


@pytest.mark.parametrize("calls", [(L1,), (L2, BARE)], ids=str)
def test_a_stranger_is_noticed_while_the_known_answer_is_waited_for(calls: tuple[str, ...]) -> None:
    """The question takes up to a minute; whoever wants the model meanwhile is not let in to a sleeping engine."""
    rig = rig_of()
    ask = rig.servers["a"].complete
    rig.servers["a"].complete = lambda *a, **k: rig.time.call_later(50.0, lambda: ask(*a, **k))  # type: ignore[method-assign]
    asleep = rig.sleep("a", 1)
    rig.run(2)
    assert rig.state("a") is State.DRAINING
    meddle(rig, *calls)
    rig.run(8)
    awake = rig.wake("a")
    rig.run(2)
    assert [a.kind for a in asleep] == [AnswerKind.REFUSED]
    assert not rig.daemon.gates.of("a").open
    assert rig.until(lambda: bool(awake))
    snap = rig.engine("a").snapshot()
    assert not rig.daemon.gates.of("a").open or (snap.answers_right and not snap.is_paused)


def test_direct_use_of_a_doubtful_engine_keeps_nobody_else_waiting() -> None:
    """Its answer was wrong and it is in use past sleepd: it is read anew in the first gap, and its GPU and the host are
    others' until then."""
    rig = rig_of(asleep=True)
    rig.arm("a", Fault("corrupt_wake"))
    body = {"model": "a", "prompt": "hi", "max_tokens": 1000, "vllm_xargs": {"pace_ms": 400.0}}
    rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.PROVING, every_s=0.01)
    done: list[Any] = []
    rig.servers["a"].request(HttpRequest("POST", "/v1/completions", (), body), 1e6, done.append)
    rig.run(120)
    assert not done
    assert (rig.state("a"), rig.daemon.world.tasks) == (State.PROVING, {})
    assert rig.until(lambda: rig.state("a") is State.AWAKE, 600.0)
    assert done
    assert rig.engine("a").snapshot().answers_right


@pytest.mark.parametrize(
    "faults",
    [
        (Fault("fail_wake", blocks=2),),
        (Fault("lose_after", path="/wake_up"), Fault("lose_before", path="/is_sleeping")),
    ],
    ids=["refused", "answer lost, and the look after it"],
)
def test_a_strangers_wake_between_two_tries_of_ours_is_not_taken_for_one_of_them(faults: tuple[Fault, ...]) -> None:
    """Only calls that left and that no page has shown yet are ours; looks that were repeated are no calls."""
    rig = rig_of("0.28.0", asleep=True)
    rig.arm("a", *faults)
    answers = rig.wake("a")
    rig.run(0.45)
    assert rig.state("a") in (State.BROKEN, State.WAKING)
    meddle(rig, BARE)
    assert rig.until(lambda: bool(answers) or "foreign" in [note.kind for note in rig.notes])
    assert told(rig) == "somebody else slept or woke a during our wake"
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert rig.engine("a").snapshot().answers_right


def forestall(rig: Rig, verb: Verb, *calls: str) -> None:
    """A stranger's calls reach the engine just before ours does."""
    send = rig.servers["a"].call

    def call(sent: Verb, *rest: Any) -> None:
        if sent is verb:
            meddle(rig, *calls)
        send(sent, *rest)

    rig.servers["a"].call = call  # type: ignore[method-assign]


@pytest.mark.parametrize("daemon", ["lives", "dies"])
@pytest.mark.parametrize("version", ["0.22.1", "0.28.0", "0.32.0"])
def test_a_strangers_level_2_is_not_taken_for_our_level_1_that_never_arrived(version: str, daemon: str) -> None:
    """One sleep is counted, and memory is down: only the gauge tells that no backup was made."""
    rig = rig_of(version)
    if daemon == "dies":
        # The call is on record and does not get out.
        rig.servers["a"].call = lambda *call: rig.time.call_later(0.0, rig.daemon.die)  # type: ignore[method-assign]
        rig.sleep("a", 1)
        assert rig.until(lambda: not rig.daemon.alive, 10.0)
        del rig.servers["a"].call
        meddle(rig, L2)
        rig.run(2)
        rig.daemon.start()
    else:
        rig.arm("a", Fault("lose_before", path="/sleep", skip=1))
        forestall(rig, Verb.SLEEP_L1, L2)
        rig.sleep("a", 1)
    assert rig.until(lambda: rig.daemon.world.tasks == {} and rig.state("a") in ASLEEP)
    assert told(rig) == "somebody else slept or woke a during our sleep"
    answers = rig.wake("a")

    def answered() -> bool:
        assert not rig.daemon.gates.of("a").open or rig.engine("a").snapshot().answers_right
        return bool(answers)

    assert rig.until(answered, every_s=0.01)
    assert answers[0].kind is AnswerKind.DONE


@pytest.mark.parametrize("calls", [(L1, BARE), ("/collective_rpc",), (L1,)])
def test_hands_stay_off_over_a_restart_of_the_daemon(calls: tuple[str, ...]) -> None:
    """Whoever drives the engine does not know of our restarts: nothing is sent before the hold-down is over."""
    rig = rig_of()
    meddle(rig, *calls)
    assert rig.until(lambda: rig.state("a") is State.FOREIGN, 60.0)
    began_s = rig.time.now()
    before = Counter(rig.engine("a").snapshot().http_requests)
    for wait_s in (100.0, 200.0):
        rig.run(wait_s)
        rig.daemon.die()
        rig.run(1.0)
        rig.daemon.start()
    rig.run(HOLD_DOWN_S - 20.0 - (rig.time.now() - began_s))
    assert rig.state("a") is State.FOREIGN
    sent = Counter(rig.engine("a").snapshot().http_requests) - before
    assert not [call for call in sent if call[1] == "POST"], sent
    rig.run(60.0)
    assert rig.state("a") is not State.FOREIGN


def test_another_process_is_nobodys() -> None:
    rig = rig_of()
    meddle(rig, L1, BARE)
    assert rig.until(lambda: rig.state("a") is State.FOREIGN, 60.0)
    rig.daemon.die()
    rig.reboot("a")
    rig.daemon.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE, 30.0)
