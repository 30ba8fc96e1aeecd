"""One failure mode of docs/failure-modes.md each, on a host where nothing else goes wrong: those of transitions.

Those of memory are in test_failure_modes_of_memory.py, those of topology and of what servers say in _of_servers.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.plan import Verb, default_timeout
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import SimReply
from tests.simulation.quiet_host import AWAKE_GIB, Host


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


@pytest.mark.parametrize("version", ["0.16.0", "0.22.1", "0.26.0"])
def test_f3_an_engine_left_half_asleep_is_known_by_its_bytes(version: str) -> None:
    host = Host(version)
    for _ in range(2):
        host.engine().arm(Fault("fail_sleep", blocks=6))
        host.sleep()
        assert host.state() is State.FAILED
        reset(host)
        assert (host.state(), host.failure()) == (State.FAILED, "half_way")


@pytest.mark.parametrize(("version", "repairs"), [("0.22.1", False), ("0.32.0", True)])
def test_f4_a_neighbour_that_allocates_during_a_sleep_fails_it_and_the_recipe_ends_it(
    version: str, repairs: bool
) -> None:
    """vLLM asserts that the device has more free at the end of a sleep than at its beginning."""
    host = Host(version)
    answers = host.begin("sleep")
    host.run_until(lambda: host.held_gib() < AWAKE_GIB / 2, every_s=0.05)
    host.take(host.free_gib())
    host.run(60.0)
    assert host.calls("/sleep") == ({"5xx": 1, "2xx": 1} if repairs else {"5xx": 1})
    host.take(0)
    if not repairs:
        assert (answers[0].kind, host.state()) == (AnswerKind.REFUSED, State.FAILED)
        return
    assert answers[0].kind is AnswerKind.DONE
    assert (host.state(), host.held_gib()) == (State.ASLEEP_L1, 1.0)
    assert host.wake().kind is AnswerKind.DONE
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.22.1", "0.26.0", "0.32.0"])
def test_f6_a_daemon_killed_between_two_stages_sends_the_missing_one_alone(version: str) -> None:
    host = Host(version, max_level=2)
    host.run(60.0)
    assert host.sleep(level=2).kind is AnswerKind.DONE
    woken, reloaded = host.calls("/wake_up")["2xx"], host.calls("/collective_rpc")["2xx"]
    host.begin("wake")
    host.run_until(lambda: host.state() is State.RELOADING)
    host.stage.daemon.die()
    host.run(5.0)
    host.stage.daemon.start()
    host.run(60.0)
    assert host.calls("/wake_up") == {"2xx": woken + 2}
    assert host.calls("/collective_rpc") == {"2xx": reloaded + 1}
    assert host.state() is State.AWAKE
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.22.1", "0.28.0", "0.32.0"])
def test_f7_a_wake_that_does_nothing_and_says_200_is_not_taken_for_one(version: str) -> None:
    host = Host(version)
    host.sleep()
    host.engine().arm(Fault("no_op", path="/wake_up"))
    assert host.wake().kind is AnswerKind.DONE
    assert host.calls("/wake_up")["2xx"] > 1
    assert host.held_gib() == AWAKE_GIB
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.17.0", "0.22.1", "0.26.0", "0.32.0"])
def test_f8_requests_that_come_throughout_a_wake_kill_nobody(version: str) -> None:
    host = Host(version)
    host.sleep()
    answers, waiting = host.begin("wake"), []
    for _ in range(300):
        waiting.append(host.complete(tokens=1))
        host.run(0.02)
    host.run(60.0)
    assert answers[0].kind is AnswerKind.DONE
    assert host.stage.account.deaths == []
    assert {answer.status for (answer,) in waiting} == {200}


def test_f9_an_engine_that_dies_after_its_200_is_taken_in_again_when_it_is_back() -> None:
    host = Host("0.22.1")
    host.engine().arm(Fault("die_after_sleep", seconds=0.3))
    host.begin("sleep")
    host.run(60.0)
    assert any("m0 was restarted" in text for text in host.told)
    assert host.state() is State.AWAKE
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.16.0", "0.22.1", "0.32.0"])
def test_f10_a_request_that_came_since_the_last_look_is_seen_before_anything_is_sent(version: str) -> None:
    host = Host(version)
    host.sleep()  # its first takes the known answer, which shows requests too
    host.wake()
    host.run(10.0)
    running = host.complete(tokens=500)
    answers = host.begin("sleep")
    host.run(60.0)
    assert (answers[0].kind, answers[0].problem) == (AnswerKind.REFUSED, "busy")
    assert host.calls("/sleep") == {"2xx": 1}
    assert running[0].body["choices"][0]["finish_reason"] == "length"
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
    outlasts_s = default_timeout(Verb.SLEEP_L1) + 90.0
    host.engine().arm(Fault("slow", path="/sleep", seconds=outlasts_s))
    host.begin("sleep", timeout_s=2 * outlasts_s)
    host.run(outlasts_s - 20.0)
    assert host.state() is State.SLEEP_PENDING, "its call counts as unanswered"
    assert host.engine().snapshot().http_requests.get(("/sleep", "POST", "2xx"), 0) == 0
    host.run(140.0)
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


@pytest.mark.parametrize("version", ["0.16.0", "0.22.1", "0.32.0"])
def test_f16_a_sleep_that_says_200_and_gives_nothing_back_is_none(version: str) -> None:
    host = Host(version)
    host.engine().arm(Fault("free_nothing"))
    answer = host.sleep()
    assert (answer.kind, answer.problem) == (AnswerKind.REFUSED, "engine_failed")
    assert (host.state(), host.held_gib()) == (State.AWAKE, AWAKE_GIB)
    assert host.serves_right()
