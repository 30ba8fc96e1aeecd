"""One failure mode of docs/failure-modes.md each, on a host where nothing else goes wrong.

Everything but the servers, the GPUs and the clock is the daemon's own: the same step, recipes and proofs.
"""

from __future__ import annotations

from typing import Any

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked, WakeAsked
from sleepd.sim.scenario.cast import Cast, CastModel
from sleepd.sim.scenario.invariants import EVERY_TURN, check
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest, SimReply

STRANGER = 9
AWAKE_GIB = 47


class Host:
    """A stage without acts: models of 47 GiB awake and 1 asleep, looked at every 2 s, that nobody naps."""

    def __init__(self, *versions: str, gpus: int = 1, wide: bool = False, **of_all: Any) -> None:
        places = tuple(range(gpus)) if wide else (0,)
        models = tuple(
            CastModel(f"m{i}", version, places, weights_gib=16, kv_gib=30, fenced=True, **of_all)
            for i, version in enumerate(versions)
        )
        cast = Cast(gpus, 512, models, nap_idle_s=10_000.0)
        self.told: list[str] = []
        self.stage = Stage(
            cast,
            "failure mode",
            lambda stage: check(stage, EVERY_TURN),
            lambda stage, note: self.told.append(note.text),
        )
        self.stage.blame(*self.stage.models)
        self.stage.start()
        self.run(8.0)

    def run(self, seconds: float) -> None:
        self.stage.time.run_until(self.stage.time.now() + seconds)

    def engine(self, name: str = "m0") -> Any:
        engine = self.stage.servers[name].engine
        assert engine is not None
        return engine

    def state(self, name: str = "m0") -> State:
        return self.stage.daemon.world.models[name].life.state

    def failure(self, name: str = "m0") -> str:
        failure = self.stage.daemon.world.models[name].failure
        return failure.code if failure else ""

    def begin(self, what: str, name: str = "m0", timeout_s: float = 600.0) -> list[Answer]:
        """Ask, and return where the answer will be."""
        answers: list[Answer] = []
        ask = SleepAsked if what == "sleep" else WakeAsked
        last = (1, timeout_s) if what == "sleep" else (timeout_s,)
        self.stage.daemon.ask(lambda w: ask(w, name, "operator", *last), answers.append)
        return answers

    def sleep(self, name: str = "m0") -> Answer:
        return self._settled(self.begin("sleep", name))

    def wake(self, name: str = "m0") -> Answer:
        return self._settled(self.begin("wake", name))

    def _settled(self, answers: list[Answer]) -> Answer:
        self.run(60.0)
        assert answers, "no answer"
        return answers[0]

    def complete(self, name: str = "m0", tokens: int = 8) -> list[Any]:
        """A direct request, past every gate; return where its answer will be."""
        answers: list[Any] = []
        body = {"model": name, "prompt": "hello", "max_tokens": tokens, "temperature": 0}
        self.stage.servers[name].request(HttpRequest("POST", "/v1/completions", (), body), 600.0, answers.append)
        return answers

    def held_gib(self, name: str = "m0") -> float:
        return self.stage.host.gpus[0].held.get(self.stage.servers[name].pid, 0) / GIB

    def serves_right(self, name: str = "m0") -> bool:
        snap = self.engine(name).snapshot()
        return self.stage.daemon.gates.of(name).open and snap.answers_right and not snap.is_paused


def test_f2_a_wake_repeated_after_a_failure_is_compared_before_it_serves() -> None:
    """A rollback in the engine loses weights: the repeated wake says 200, and its answers are noise."""
    host = Host("0.32.0")
    host.sleep()
    host.engine().arm(Fault("fail_wake", blocks=2))
    host.engine().arm(Fault("corrupt_wake", times=9))
    answers = host.begin("wake")
    for _ in range(3000):
        host.run(0.01)
        assert not host.stage.daemon.gates.of("m0").open or host.serves_right()
    assert answers[0].kind is AnswerKind.DONE
    assert host.engine().snapshot().http_requests[("/collective_rpc", "POST", "2xx")] == 1, "nothing read them anew"
    assert host.serves_right()


def test_f4_a_neighbour_that_allocates_during_a_sleep_fails_it_and_the_recipe_ends_it() -> None:
    host = Host("0.32.0")
    answers = host.begin("sleep")
    for _ in range(100):
        host.run(0.05)
        if host.held_gib() < AWAKE_GIB:
            break
    host.stage.host.gpus[0].held[STRANGER] = host.stage.host.gpus[0].free_bytes
    host.run(60.0)
    assert answers[0].kind is AnswerKind.DONE
    assert (host.state(), host.held_gib()) == (State.ASLEEP_L1, 1.0)
    host.stage.host.gpus[0].held.pop(STRANGER)
    assert host.wake().kind is AnswerKind.DONE
    assert host.serves_right()


def test_f9_an_engine_that_dies_after_its_200_is_taken_in_again_when_it_is_back() -> None:
    host = Host("0.22.1")
    host.engine().arm(Fault("die_after_sleep", seconds=0.3))
    host.begin("sleep")
    host.run(60.0)
    assert any("m0 was restarted" in text for text in host.told)
    assert host.state() is State.AWAKE
    assert host.serves_right()


def test_f11_a_sleep_that_waits_for_a_late_request_is_never_woken_into_its_bomb() -> None:
    """A direct request slips in between the last look and /sleep: mode=wait drains it; nobody wakes meanwhile."""
    host = Host("0.28.0")
    sleeping = host.begin("sleep")
    late: list[Any] | None = None
    host.stage.servers["m0"].engine.arm(Fault("slow", path="/sleep", seconds=0.2))  # type: ignore[union-attr]
    for _ in range(3000):
        host.run(0.01)
        if host.state() is State.FALLING_ASLEEP and late is None:
            late = host.complete(tokens=3000)
            host.begin("wake", timeout_s=30.0)
    host.run(300.0)
    assert late, "the sleep was never sent"
    assert isinstance(late[0], SimReply)
    assert late[0].body["choices"][0]["finish_reason"] == "length", "the late request was cut off"
    assert sleeping
    assert host.stage.account.deaths == []
    assert host.state() in (State.AWAKE, State.ASLEEP_L1)
    assert host.wake().kind is AnswerKind.DONE
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.10.2", "0.16.0"])
def test_f12_a_sleeper_that_a_request_kills_is_taken_in_again_when_it_is_back(version: str) -> None:
    host = Host(version)
    host.sleep()
    host.complete()
    host.run(60.0)
    assert host.stage.account.deaths == ["m0"]
    assert any("m0 was restarted" in text for text in host.told)
    assert host.wake().kind is AnswerKind.DONE
    assert host.serves_right()


def test_f14_a_call_that_outlasts_its_time_limit_is_not_sent_again() -> None:
    host = Host("0.32.0")
    host.engine().arm(Fault("slow", path="/sleep", seconds=120.0))
    host.begin("sleep")
    host.run(100.0)
    assert host.engine().snapshot().http_requests.get(("/sleep", "POST", "2xx"), 0) == 0
    host.run(120.0)
    assert host.engine().snapshot().http_requests[("/sleep", "POST", "2xx")] == 1
    assert host.state() is State.ASLEEP_L1


def test_f15_an_engine_whose_calls_hang_for_ever_is_told_and_serves_again_once_restarted() -> None:
    host = Host("0.32.0")
    host.sleep()
    host.engine().arm(Fault("hang", path="/wake_up"))
    answers = host.begin("wake", timeout_s=120.0)
    host.run(2000.0)
    assert answers[0].kind is not AnswerKind.DONE
    assert not host.stage.daemon.gates.of("m0").open
    assert host.state() is not State.AWAKE
    assert any("m0" in text for text in host.told[-5:])
    host.engine().kill()
    host.run(60.0)
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.22.1", "0.28.0"])
def test_f18_a_stranger_who_takes_the_room_in_the_middle_of_a_wake(version: str) -> None:
    """After the preflight, before the last block: put back or repeated where the release can, else told as failed."""
    host = Host(version)
    host.sleep()
    answers = host.begin("wake")
    for _ in range(100):
        host.run(0.02)
        if host.held_gib() > 1:
            break
    host.stage.host.gpus[0].held[STRANGER] = host.stage.host.gpus[0].free_bytes - GIB
    host.run(120.0)
    assert answers
    if version == "0.22.1":
        assert host.state() is State.FAILED
        return
    assert (host.state(), host.held_gib()) == (State.ASLEEP_L1, 1.0)
    host.stage.host.gpus[0].held.pop(STRANGER)
    assert host.wake().kind is AnswerKind.DONE
    assert host.serves_right()


def test_f22_memory_that_shows_up_late_is_waited_for() -> None:
    """The next model is not woken into bytes that the driver still counts as held."""
    host = Host("0.32.0", "0.32.0")
    assert host.state("m0") is State.AWAKE
    assert host.state("m1") is State.LOST, "both fit"
    host.stage.host.later, host.stage.host.releases_after_s = host.stage.later, 5.0
    assert host.sleep("m0").kind is AnswerKind.DONE
    host.run(30.0)
    assert host.state("m1") is State.AWAKE
    assert host.wake("m0").kind is AnswerKind.DONE
    assert host.stage.host.refused == 0, "an engine ran out of memory"
    assert host.state("m1") is State.ASLEEP_L1
    assert host.serves_right("m0")


def test_f26_memory_that_an_orphan_keeps_admits_nobody() -> None:
    host = Host("0.32.0")
    host.sleep()
    host.stage.host.gpus[0].held[STRANGER] = 60 * GIB
    answer = host.wake()
    assert (answer.kind, answer.problem) == (AnswerKind.REFUSED, "no_room")
    assert host.stage.host.refused == 0
    host.stage.host.gpus[0].held.pop(STRANGER)
    host.run(4.0)
    assert host.wake().kind is AnswerKind.DONE


def test_f46_a_wake_that_fails_on_one_of_several_ranks_is_told_as_failed() -> None:
    host = Host("0.32.0", gpus=2, wide=True)
    host.sleep()
    host.engine().arm(Fault("fail_wake", blocks=2))
    answer = host.wake()
    assert (answer.kind, answer.problem) == (AnswerKind.REFUSED, "engine_failed")
    assert host.state() is State.FAILED
    host.engine().kill()
    host.run(60.0)
    assert (host.state(), host.failure()) == (State.AWAKE, "")


def test_f51_gauges_that_stand_still_in_a_sleeper_are_not_use() -> None:
    """A request that waits inside a sleeper moves no gauge; it does not keep rules from anything, nor others."""
    host = Host("0.32.0")
    host.sleep()
    waiting = host.complete()
    host.run(30.0)
    assert host.wake().kind is AnswerKind.DONE
    host.run(10.0)
    assert isinstance(waiting[0], SimReply)
    assert waiting[0].status == 200
    assert host.serves_right()


def test_f56_two_models_wanted_in_turn_on_one_gpu() -> None:
    """Each swap waits for the other's sleep to be proven; none is lost, and nobody runs out of memory."""
    host = Host("0.32.0", "0.28.0")
    host.sleep("m0")
    host.run(30.0)
    for name in ("m0", "m1", "m0", "m1", "m0"):
        assert host.wake(name).kind is AnswerKind.DONE
        other = "m1" if name == "m0" else "m0"
        assert (host.state(name), host.state(other)) == (State.AWAKE, State.ASLEEP_L1)
        assert host.serves_right(name)
    assert host.stage.host.refused == 0


def reset(host: Host) -> None:
    """An operator takes it back without a restart."""
    host.stage.ask_reset("m0")
    host.run(20.0)


@pytest.mark.parametrize("blocks", [1, 4, 8])
def test_f1_an_engine_left_half_awake_is_known_by_its_bytes_and_not_woken_again(blocks: int) -> None:
    """Up to 0.27 the next wake maps twice what is mapped already; from 0.28 on it does not, and brings the rest."""
    for version, repairs in (("0.22.1", False), ("0.26.0", False), ("0.28.0", True)):
        host = Host(version)
        host.sleep()
        host.engine().arm(Fault("fail_wake", blocks=blocks, times=9))
        host.wake()
        host.engine().disarm()
        reset(host)
        if repairs:
            assert host.wake().kind is AnswerKind.DONE
            assert host.serves_right()
        else:
            assert (host.state(), host.failure()) == (State.FAILED, "half_way")
            host.wake()
            assert host.engine().snapshot().http_requests[("/wake_up", "POST", "5xx")] == 1


@pytest.mark.parametrize("version", ["0.16.0", "0.22.1", "0.26.0"])
def test_f3_an_engine_left_half_asleep_is_known_by_its_bytes(version: str) -> None:
    host = Host(version)
    for _ in range(2):
        host.engine().arm(Fault("fail_sleep", blocks=6))
        host.sleep()
        assert host.state() is State.FAILED
        reset(host)
        assert (host.state(), host.failure()) == (State.FAILED, "half_way")
