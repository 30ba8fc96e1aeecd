"""What once went wrong between the core and engines in unlucky hands, each told as what has to hold.

Played in virtual time; what a single turn shows stands in test_core_regressions_in_one_turn.py.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from regression_rigs import (
    LONG_S,
    Meddled,
    by_hand,
    calls,
    configure,
    fall_asleep,
    hide_pids,
    one,
    told,
    wake_up,
    wake_within,
)

from sleepd.core.commands import AnswerKind
from sleepd.core.events import SettingsChanged
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Missing, MissingReason, Reading
from sleepd.core.units import GIB
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest
from tests.property.virtual_rig import Rig

# what others did


def test_weights_that_a_stranger_dropped_while_the_daemon_was_down_are_proven_before_they_serve() -> None:
    """Woken, slept at level 2, woken not at all, slept at level 1: it looks as it was left, its weights are gone."""
    rig = one()
    fall_asleep(rig, "a")
    rig.daemon.die()
    by_hand(rig, "a", "/wake_up")
    by_hand(rig, "a", "/sleep", (("level", "2"),))
    by_hand(rig, "a", "/sleep", (("level", "1"),))
    rig.daemon.start()
    rig.run(5)
    assert rig.record("a").life == Life(State.ASLEEP_L1, Weights.DOUBTFUL)
    assert not rig.engine("a").snapshot().answers_right
    rig.check_usable("a")  # with the rig's own watch that no gate opens on garbage


@pytest.mark.parametrize("version", ["0.22.1", "0.32.0"])
def test_a_failed_sleep_whose_bytes_a_neighbour_took_is_not_simply_woken(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU's total stands still, which proves nothing where the server's own bytes cannot be told."""
    hide_pids(monkeypatch)
    rig = one(version, rig=Meddled)
    rig.arm("a", Fault("fail_sleep", blocks=8))
    gpu = rig.host.gpus[0]
    free_bytes = gpu.free_bytes

    def grab() -> None:
        gpu.held[9] = gpu.held.get(9, 0) + max(0, gpu.free_bytes - free_bytes)
        rig.time.call_later(0.001, grab)

    grab()
    rig.sleep("a", 1)
    rig.run(60)
    assert rig.engine("a").snapshot().mapped_blocks["weights"][0] == 0
    assert calls(rig, "a", "/wake_up") == 0
    assert not rig.daemon.gates.of("a").open
    assert rig.state("a") in (State.FAILED, State.ASLEEP_L1)


def test_a_pause_of_others_does_not_leave_a_lost_sleep_pending_for_ever() -> None:
    rig = Meddled("0.32.0", ("a", "b"), kv_bytes=10 * GIB)
    rig.boot("a")
    rig.boot("b")
    rig.start()
    rig.run(30)
    fall_asleep(rig, "a")
    wake_up(rig, "a")
    by_hand(rig, "a", "/pause")
    rig.arm("a", Fault("lose_before", path="/sleep"))
    answers = rig.sleep("a", 1)
    rig.run(120)
    assert told(answers) == [(AnswerKind.REFUSED, "engine_failed")]
    assert rig.state("a") is State.FOREIGN
    assert rig.daemon.world.tasks == {}
    fall_asleep(rig, "b")


def test_a_doubtful_engine_in_direct_use_keeps_no_gpu_from_others() -> None:
    rig = Rig("0.32.0", ("a", "b"), kv_bytes=10 * GIB)
    rig.boot("a")
    rig.boot("b")
    by_hand(rig, "a", "/sleep", (("level", "1"),))
    by_hand(rig, "a", "/wake_up")

    def use() -> None:
        prompt = {"model": "a", "prompt": "hello", "max_tokens": 400, "temperature": 0}
        request = HttpRequest("POST", "/v1/completions", (), prompt)
        rig.servers["a"].request(request, LONG_S, lambda answer: None)
        rig.time.call_later(0.3, use)

    use()
    rig.start()
    rig.run(60)
    assert rig.state("a") is State.PROVING
    answers = rig.sleep("b", 1)
    assert rig.until(lambda: bool(answers), 10.0)
    assert told(answers) == [(AnswerKind.DONE, "")]
    assert not rig.daemon.gates.of("a").open


# models that leave or move


def test_a_model_that_moves_to_another_address_leaves_its_step_behind() -> None:
    rig = one()
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.FALLING_ASLEEP, 5.0)
    spec = rig.daemon.settings.models["a"]
    rig.daemon.submit(SettingsChanged(configure(rig, {"a": replace(spec, url="http://elsewhere")})))
    rig.run(0.05)
    assert told(answers) == [(AnswerKind.REFUSED, "engine_failed")]
    assert rig.daemon.world.tasks == {}
    rig.run(30)
    assert rig.record("a").life == Life(State.ASLEEP_L1, Weights.DOUBTFUL), "the late end of that step was believed"
    rig.check_usable("a")


# what proves what


@pytest.mark.parametrize("fault", [Fault("fail_sleep", blocks=0), Fault("free_nothing")], ids=lambda f: f.kind)
def test_a_check_of_level_2_whose_sleep_failed_proves_nothing(fault: Fault) -> None:
    rig = Rig("0.32.0", ("a",), max_level=2)
    rig.boot("a")
    rig.start()
    rig.arm("a", fault)
    assert rig.until(lambda: calls(rig, "a", "/sleep") > 0 and rig.settled())
    assert rig.record("a").check_failed
    assert rig.daemon.world.proven == frozenset()
    rig.check_usable("a")


def test_a_wake_that_is_awake_by_its_own_word_is_never_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour leaves while it wakes, so that the GPU has more free bytes after the wake than before it."""
    hide_pids(monkeypatch)
    rig = one()
    gpu = rig.host.gpus[0]
    gpu.held[9] = 40 * GIB
    rig.run(5)
    fall_asleep(rig, "a")
    answers = rig.wake("a")
    rig.time.call_later(0.2, lambda: gpu.held.pop(9))
    rig.run(120)
    assert told(answers) == [(AnswerKind.DONE, "")]
    assert rig.state("a") is State.AWAKE
    assert calls(rig, "a", "/collective_rpc") == 0
    assert all(mapped == whole for mapped, whole in rig.engine("a").snapshot().mapped_blocks.values())


def test_a_wake_whose_looks_all_failed_is_found_out_and_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """17 s without a readable page are longer than a proof is waited for, and say nothing against the wake."""
    rig = one("0.22.1")
    fall_asleep(rig, "a")
    server, real = rig.servers["a"], rig.servers["a"].look

    def broken(ask_sleeping: bool, timeout_s: float, then: Callable[[Reading], None], **how: bool) -> None:
        missing = Missing(MissingReason.UNREACHABLE, "reset by peer", rig.time.now())
        rig.time.call_later(0.001, lambda: then(missing))

    answers = rig.wake("a")
    rig.run(0.11)
    monkeypatch.setattr(server, "look", broken)
    rig.run(17)
    monkeypatch.setattr(server, "look", real)
    rig.run(30)
    assert told(answers) == [(AnswerKind.DONE, "")]
    assert rig.daemon.gates.of("a").open


# callers and requests


def test_no_time_to_wait_is_no_reason_to_refuse_an_awake_model() -> None:
    rig = one()
    answers = wake_within(rig, "a", 0.0)
    rig.run(1)
    assert told(answers) == [(AnswerKind.DONE, "")]


def test_a_wake_that_nobody_waits_for_is_carried_out_whatever_its_time_limit() -> None:
    rig = one()
    fall_asleep(rig, "a")
    answers = wake_within(rig, "a", 0.0, wait=False)
    rig.run(10)
    assert told(answers) == [(AnswerKind.ACCEPTED, "")]
    assert rig.state("a") is State.AWAKE


def test_who_asks_for_level_2_while_it_falls_to_level_1_is_told_to_wake_it_first() -> None:
    rig = one(max_level=2)
    assert rig.until(lambda: bool(rig.daemon.world.proven) and rig.settled())
    rig.run(10)
    rig.arm("a", Fault("slow", path="/sleep", seconds=5.0))
    first = rig.sleep("a", 1)
    rig.run(1)
    deeper = rig.sleep("a", 2)
    rig.run(30)
    assert told(first) == [(AnswerKind.DONE, "")]
    assert told(deeper) == [(AnswerKind.REFUSED, "needs_wake")]


def test_nothing_is_put_to_sleep_under_a_request_inside_its_gate() -> None:
    """It entered just before the gate shut, and has not reached the server: no page of the server tells of it."""
    rig = one()
    answers = rig.sleep("a", 1)
    assert rig.daemon.gates.of("a").enter()
    assert rig.until(lambda: bool(answers), 10.0)
    assert told(answers) == [(AnswerKind.REFUSED, "busy")]
    assert calls(rig, "a", "/sleep") == 0
    assert rig.daemon.gates.of("a").open
    rig.daemon.gates.of("a").leave()
    rig.run(5)
    fall_asleep(rig, "a")
