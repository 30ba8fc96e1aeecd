"""Engines that die of what sleepd asks of them, and are started again each time: that comes to an end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import pytest
from virtual_rig import Rig

from sleepd.core.budget import FAILURES_IN_A_ROW
from sleepd.core.frozen import replace
from sleepd.core.life import ASLEEP, State
from sleepd.core.model import CauseKind, Verify
from sleepd.core.policy import protections
from sleepd.core.rules import SLEEP_1, IdleFor, Rule
from sleepd.core.wishes import ResetAsked, WakeAsked
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest

STEP_S, RESTART_S = 5.0, 60.0
NAP = Rule("nap", frozenset({"a"}), (IdleFor(5.0),), SLEEP_1)


@dataclass(slots=True)
class Looping(Rig):
    """A rule naps it whenever nothing protects it, clients want it again soon, and its supervisor starts it again when
    it died. `deadly` is armed on each of its processes."""

    deadly: tuple[Fault, ...] = ()
    restart_s: float = RESTART_S
    died_s: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.daemon.settings = replace(self.daemon.settings, rules=(NAP,), poll_every_s=STEP_S)
        self._bring_up(100)
        self.start()

    def _bring_up(self, pid: int) -> None:
        self.boot("a", pid)
        self.arm("a", *self.deadly)

    def live(self, seconds: float) -> None:
        end_s = self.time.now() + seconds
        while self.time.now() < end_s:
            self.run(STEP_S)
            if self.deaths:
                self.deaths.clear()
                self.died_s.append(self.time.now())
                self.time.call_later(self.restart_s, partial(self._bring_up, self.servers["a"].pid + 1))
            record = self.record("a")
            slept_s = self.daemon.now().mono_s - record.since_s
            if record.life.state in ASLEEP and not record.waiters and slept_s > STEP_S:
                self.daemon.ask(_wake, lambda answer: None)

    def live_until(self, true: Callable[[], bool], within_s: float = 2 * 3600.0) -> None:
        """Until something is true. Fails where it never becomes so."""
        end_s = self.time.now() + within_s
        while not true():
            assert self.time.now() < end_s, [note.text for note in self.notes[-5:]]
            self.live(STEP_S)


def _wake(waiter: int) -> WakeAsked:
    return WakeAsked(waiter, "a", "client", 60.0, cause=CauseKind.REQUEST)


KILLS = {
    "its wake": Fault("die_at_call", "/wake_up"),
    "its sleep": Fault("die_at_call", "/sleep"),
    "its sleep, right after": Fault("die_after_sleep", seconds=3.0),
    "the question after its wake": Fault("die_at_call", "/v1/completions", skip=2),
    "the question before its first sleep": Fault("die_at_call", "/v1/completions"),
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_what_kills_it_each_time_is_tried_more_and_more_rarely_and_at_last_no_more(kill: Fault) -> None:
    rig = Looping("0.30.0", deadly=(kill,))
    rig.begin()
    # Where it never falls asleep its rule comes to its limit first: two acts a death, six an hour.
    rig.live((3.0 if kill is KILLS["the question before its first sleep"] else 1.5) * 3600.0)
    assert len(rig.died_s) == FAILURES_IN_A_ROW
    rests_s = [float(str(note.data["seconds"])) for note in rig.notes if note.kind == "cooldown"]
    assert len(rests_s) == FAILURES_IN_A_ROW - 1
    assert all(later > 1.1 * earlier for earlier, later in pairwise(rests_s))
    failed = [note for note in rig.notes if note.kind == "failure" and note.data["code"] == "failed_again"]
    assert len(failed) == 1
    assert "8 attempts in a row failed" in failed[0].text
    assert rig.state("a") is State.AWAKE, "its next process serves, and is not put to sleep"
    assert "sleepctl reset a" in protections(rig.record("a"), rig.daemon.now().mono_s)[0]


def test_one_that_is_back_before_anybody_missed_it_is_left_alone_too() -> None:
    rig = Looping("0.30.0", deadly=(KILLS["its wake"],), restart_s=1.0)
    rig.begin()
    rig.live(1.5 * 3600.0)
    assert len(rig.died_s) == FAILURES_IN_A_ROW
    told = [note.text for note in rig.notes if note.kind == "cooldown"]
    assert told[-1] == "a is left alone until it is reset after 8 failures in a row"
    assert rig.state("a") is State.AWAKE


def test_it_is_failed_as_long_as_nobody_starts_it() -> None:
    rig = Looping("0.30.0", deadly=(KILLS["its wake"],))
    rig.begin()
    rig.live_until(lambda: len(rig.died_s) == FAILURES_IN_A_ROW)
    rig.run(RESTART_S - 1.0)
    assert rig.state("a") is State.FAILED
    failure = rig.record("a").failure
    assert failure is not None
    assert failure.code == "failed_again"
    rig.daemon.die()
    rig.daemon.start()
    rig.live(60.0)
    assert rig.state("a") is State.AWAKE
    assert protections(rig.record("a"), rig.daemon.now().mono_s), "the account outlives the daemon"


def test_a_reset_lets_it_be_tried_again() -> None:
    rig = Looping("0.30.0", deadly=(KILLS["its wake"],))
    rig.begin()
    rig.live(1.5 * 3600.0)
    rig.deadly = ()
    rig.engine("a").disarm()
    rig.daemon.ask(lambda w: ResetAsked(w, "a", "operator"), lambda answer: None)
    rig.live(120.0)
    assert len(rig.died_s) == FAILURES_IN_A_ROW
    assert any(note.kind == "task_ended" and "wake of a ended: awake" in note.text for note in rig.notes)
    assert rig.record("a").attempts == 0


def test_a_process_that_ended_at_rest_closes_the_account_and_one_that_was_killed_does_not() -> None:
    rig = Looping("0.30.0", deadly=(KILLS["its wake"],), restart_s=STEP_S)
    rig.begin()
    rig.live_until(lambda: len(rig.died_s) == 3)
    rig.live(3 * STEP_S)
    assert rig.state("a") is State.AWAKE
    assert rig.record("a").attempts == 3
    assert rig.record("a").cooldown_until_s > rig.daemon.now().mono_s
    rig.reboot("a")
    rig.run(2 * STEP_S)
    assert (rig.record("a").attempts, rig.record("a").cooldown_until_s) == (0, 0.0)


def test_a_daemon_that_ends_while_it_is_lost_forgets_nothing() -> None:
    rig = Looping("0.30.0", deadly=(KILLS["its wake"],))
    rig.begin()
    rig.live_until(lambda: len(rig.died_s) == 3)
    assert rig.until(lambda: rig.state("a") is State.LOST)
    rig.daemon.die()
    rig.run(1.0)
    rig.daemon.start()
    assert rig.until(lambda: rig.state("a") is State.LOST)
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert rig.record("a").attempts == 3


def test_a_process_that_failed_and_ends_later_keeps_its_account() -> None:
    """Up to 0.27 a failed wake costs the engine; whether it is restarted or dies of it by itself, it fails again."""
    rig = Looping("0.22.1", deadly=(Fault("fail_wake", blocks=2),))
    rig.begin()
    for n in range(1, FAILURES_IN_A_ROW + 1):
        answers = rig.sleep("a", 1)
        assert rig.until(lambda answers=answers: bool(answers))
        rig.wake("a")
        assert rig.until(lambda: rig.state("a") is State.FAILED)
        assert rig.record("a").attempts == n
        rig.engine("a").kill()
        rig.run(20.0)
        rig.live(STEP_S)
        assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert protections(rig.record("a"), rig.daemon.now().mono_s)[0].startswith("its last 8 sleeps and wakes failed")


def test_one_whole_cycle_closes_the_account_and_a_sleep_alone_does_not() -> None:
    rig = Looping("0.30.0", deadly=(KILLS["its wake"],))
    rig.begin()
    rig.live_until(lambda: len(rig.died_s) == 2)
    rig.deadly = ()
    rig.live(RESTART_S + 10.0)
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    assert rig.record("a").attempts == 2
    rig.check_usable("a")
    rig.run(2.0)
    assert rig.record("a").attempts == 0


def test_a_death_by_the_oom_killer_is_told_as_one() -> None:
    """F34: the kernel ends the engine as it pins its backup."""
    rig = Rig("0.30.0")
    rig.boot("a")
    rig.start()
    rig.arm("a", KILLS["its sleep"])
    rig.servers["a"].killed = "the kernel's OOM killer ended a process of system.slice/a.service"
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.LOST)
    failure = rig.record("a").failure
    assert failure is not None
    assert (
        failure.detail
        == rig.record("a").reason
        == (
            "the kernel's OOM killer ended a process of system.slice/a.service, and nothing answers at http://a"
            " (connection refused): it needs RAM for its weights and a backup, see sleepctl doctor"
        )
    )
    assert "OOM killer" in answers[0].detail
    assert rig.record("a").attempts == 1


UNPROVEN = {
    "verify is off": {"spec_more": {"verify": Verify.OFF}},
    "no known answer": {"engine_more": {"certain_tokens": 0}},
}
USED_S = 150.0
"""So long after a wake its first request comes: long after it may still have been about to die of the wake itself."""


@dataclass(slots=True)
class Used(Looping):
    """No answer is compared after its wakes. Its first request after each comes `used_s` later, and may kill it."""

    used_s: float = USED_S
    by_gate: bool = True
    kills: bool = True
    uses: int = 0

    def begin(self) -> None:
        rule = replace(NAP, conditions=(IdleFor(2 * USED_S),))
        self.daemon.settings = replace(self.daemon.settings, rules=(rule,), poll_every_s=STEP_S)
        self._bring_up(100)
        self.start()

    def run(self, seconds: float) -> None:
        Looping.run(self, seconds)
        woken = sum(note.kind == "task_ended" and "wake of a ended: awake" in note.text for note in self.notes)
        record = self.record("a")
        if woken <= self.uses or record.life.state is not State.AWAKE:
            return
        if self.daemon.now().mono_s - record.awake_since_s >= self.used_s:
            self.uses = woken
            self._use()

    def _use(self) -> None:
        if self.by_gate:
            self.daemon.gates.of("a").entered += 1
        if self.kills:
            self.engine("a").kill()
        else:
            body = {"model": "a", "prompt": "hi", "max_tokens": 4}
            self.engine("a").call(HttpRequest("POST", "/v1/completions", (), body), lambda answer: None)


def used(unproven: str, **more: object) -> Used:
    return Used("0.30.0", **UNPROVEN[unproven], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("unproven", "by_gate", "used_s", "restart_s"),
    [
        ("verify is off", True, USED_S, RESTART_S),
        ("verify is off", False, STEP_S, 1.0),
        ("no known answer", True, USED_S, 1.0),
        ("no known answer", False, STEP_S, RESTART_S),
    ],
)
def test_what_dies_of_its_first_request_after_each_wake_is_left_alone_at_last(
    unproven: str, by_gate: bool, used_s: float, restart_s: float
) -> None:
    rig = used(unproven, by_gate=by_gate, used_s=used_s, restart_s=restart_s)
    rig.begin()
    rig.live(2.0 * 3600.0)
    assert len(rig.died_s) == FAILURES_IN_A_ROW
    assert [note.data["failures"] for note in rig.notes if note.kind == "cooldown"][:7] == list(range(1, 8))
    assert rig.state("a") is State.AWAKE, "its next process serves, and is not put to sleep"
    assert "sleepctl reset a" in protections(rig.record("a"), rig.daemon.now().mono_s)[0]


@pytest.mark.parametrize("unproven", UNPROVEN)
def test_a_request_that_ends_closes_the_account_and_the_wake_alone_does_not(unproven: str) -> None:
    rig = used(unproven)
    rig.begin()
    rig.live_until(lambda: len(rig.died_s) == 2)
    rig.kills = False
    rig.live_until(lambda: rig.uses == 3)
    assert rig.record("a").attempts == 2
    rig.live(2 * STEP_S)
    assert rig.state("a") is State.AWAKE
    assert rig.record("a").attempts == 0


def test_one_that_ends_unused_long_after_its_wake_is_neither_counted_nor_forgiven() -> None:
    rig = used("verify is off")
    rig.begin()
    rig.live_until(lambda: len(rig.died_s) == 2)
    rig.used_s = 1e9
    rig.live(RESTART_S + 2 * STEP_S)
    rig.live_until(lambda: rig.state("a") is State.AWAKE and rig.record("a").untried)
    rig.live(USED_S)
    assert rig.record("a").attempts == 2
    rig.daemon.die()
    rig.daemon.start()
    rig.live(2 * STEP_S)
    assert rig.record("a").untried, "it outlives the daemon"
    rig.reboot("a")
    rig.run(4 * STEP_S)
    assert rig.record("a").attempts == 2
    assert rig.record("a").untried is False
