"""One failure mode of docs/failure-modes.md each, on a host where nothing else goes wrong: those of topology and
connectors, and of what servers say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sleepd.core.calls import NoAnswer, NoAnswerKind
from sleepd.core.commands import AnswerKind
from sleepd.core.conditions import is_busy
from sleepd.core.life import State
from sleepd.core.seen import ModelSeen
from sleepd.sim import virtual_server
from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest, SimReply
from tests.simulation.quiet_host import Host


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


@pytest.mark.parametrize("version", ["0.22.1", "0.33.0"])
def test_f49_an_engine_that_dies_of_its_first_request_after_a_wake_is_taken_in_again_when_it_is_back(
    version: str,
) -> None:
    host = Host(version)
    host.sleep()
    host.engine().arm(Fault("die_at_call", path="/v1/completions", skip=1))
    assert host.wake().kind is AnswerKind.DONE
    host.complete()
    host.run(60.0)
    assert host.stage.account.deaths == ["m0"]
    assert any("m0 was restarted" in text for text in host.told)
    assert host.sleep().kind is AnswerKind.DONE
    assert host.wake().kind is AnswerKind.DONE
    assert host.serves_right()


def until_it_serves(host: Host) -> None:
    """Woken, and before the answer of its wake is compared."""
    host.sleep()
    host.begin("wake")
    host.run_until(lambda: host.state() is State.AWAKE)


def test_f50_an_engine_whose_core_hangs_after_its_wake_is_told_though_its_health_is_good() -> None:
    host = Host("0.32.0")
    until_it_serves(host)
    host.engine().arm(Fault("hang", path="/reset_prefix_cache"))
    host.stage.servers["m0"].request(HttpRequest("POST", "/reset_prefix_cache"), 1e6, lambda answer: None)
    host.run(10.0)
    health: list[Any] = []
    host.stage.servers["m0"].request(HttpRequest("GET", "/health"), 10.0, health.append)
    host.run(600.0)
    assert health[0].status == 200
    assert (host.state(), host.failure()) == (State.FAILED, "wedged")
    assert not host.stage.daemon.gates.of("m0").open
    assert "restart the server" in host.record().reason
    host.engine().kill()
    host.run(60.0)
    assert host.serves_right()


def test_f50_an_engine_that_is_too_busy_to_answer_the_question_goes_on_serving() -> None:
    host = Host("0.32.0")
    until_it_serves(host)
    time = host.stage.time

    def too_busy(prompt: str, timeout_s: float, then: Any, **more: object) -> None:
        time.call_later(timeout_s, lambda: then(NoAnswer(NoAnswerKind.TIMED_OUT)))

    host.stage.servers["m0"].complete = too_busy  # type: ignore[method-assign]
    host.run(600.0)
    assert (host.state(), host.failure()) == (State.AWAKE, "")
    assert "could not be compared" in host.record().reason
    assert host.serves_right()


@pytest.mark.parametrize("version", ["0.22.1", "0.32.0"])
def test_f51_gauges_that_stand_still_in_a_sleeper_are_not_use(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page goes on saying what was counted in the last step; of a request that waits inside it says nothing."""
    host = Host(version)
    host.sleep()
    real = virtual_server.seen_of

    def stand_still(engine: SimEngine, *more: Any) -> ModelSeen:
        gauges = {"running": 2, "waiting": 1} if engine.snapshot().sleeping_tags else {}
        return replace(real(engine, *more), **gauges)

    monkeypatch.setattr(virtual_server, "seen_of", stand_still)
    used_s, waiting = host.record().last_active_s, host.complete()
    host.run(30.0)
    assert (host.record().last_active_s, is_busy(host.record())) == (used_s, False)
    assert host.wake().kind is AnswerKind.DONE
    host.run(10.0)
    assert isinstance(waiting[0], SimReply)
    assert waiting[0].status == 200
    assert host.serves_right()
    assert host.sleep().kind is AnswerKind.DONE


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


def test_f56_who_made_room_for_a_wake_that_failed_is_woken_again() -> None:
    host = Host("0.32.0", "0.32.0")
    host.sleep("m0")
    host.run(30.0)
    host.engine("m0").arm(Fault("fail_wake", blocks=2, times=99))
    answers = host.begin("wake", "m0")
    host.run(120.0)
    assert (answers[0].kind, answers[0].problem) == (AnswerKind.REFUSED, "engine_failed")
    assert host.calls("/sleep", "m1") == {"2xx": 1}
    assert (host.state("m0"), host.state("m1")) == (State.ASLEEP_L1, State.AWAKE)
    assert host.serves_right("m1")
