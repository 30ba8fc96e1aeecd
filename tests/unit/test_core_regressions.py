"""What once went wrong between the core and engines in unlucky hands, each told as what has to hold.

Played in virtual time; what a single turn shows stands in test_core_regressions_in_one_turn.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.events import SettingsChanged
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Missing, MissingReason, ModelSpec, Reading, Settings
from sleepd.core.task import HOST_LOCK
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked
from sleepd.sim import virtual_server
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest, SimAnswer
from tests.property.virtual_rig import Rig

LARGE_KV_BYTES = 30 * GIB
"""With this much beside the weights, only one of two models fits awake."""
LONG_S = 600.0


class Meddled(Rig):
    """A rig on which strangers lay hands on engines that serve: its gates may be open until the next look."""

    def _check_gates(self) -> None:
        pass


def one(version: str = "0.32.0", *, rig: type[Rig] = Rig, max_level: int = 1) -> Rig:
    """One model, awake and long looked at."""
    made = rig(version, ("a",), max_level=max_level)
    made.boot("a")
    made.start()
    made.run(30)
    return made


def crowded() -> Rig:
    """a sleeps, b is awake and idle, and b has to sleep before a can wake."""
    made = Rig("0.32.0", ("a", "b"), kv_bytes=LARGE_KV_BYTES)
    made.boot("a")
    made.start()
    made.run(10)
    fall_asleep(made, "a")
    made.boot("b")
    made.run(30)
    return made


def fall_asleep(rig: Rig, name: str) -> None:
    answers = rig.sleep(name, 1)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE


def wake_up(rig: Rig, name: str) -> None:
    answers = rig.wake(name)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE


def until_victim_sleeps(rig: Rig) -> list[Answer]:
    """a is wanted, and b falls asleep to make room for it."""
    answers = rig.wake("a")
    assert rig.until(lambda: "b" in rig.daemon.world.tasks and rig.state("b") is State.FALLING_ASLEEP, 10.0)
    return answers


def wake_within(rig: Rig, name: str, timeout_s: float, *, wait: bool = True) -> list[Answer]:
    answers: list[Answer] = []
    rig.daemon.ask(lambda waiter: WakeAsked(waiter, name, "test", timeout_s, wait), answers.append)
    return answers


def by_hand(rig: Rig, name: str, path: str, query: tuple[tuple[str, str], ...] = ()) -> None:
    """Somebody else's call, carried out and answered."""
    answers: list[SimAnswer | None] = []
    rig.servers[name].request(HttpRequest("POST", path, query), LONG_S, answers.append)
    assert rig.until(lambda: bool(answers))


def configure(rig: Rig, models: Mapping[str, ModelSpec]) -> Settings:
    """These are the models from now on; a running daemon is to be told."""
    rig.daemon.settings = replace(rig.daemon.settings, models=dict(models))
    rig.names = tuple(models)
    return rig.daemon.settings


def hide_pids(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nobody can tell which processes belong to a server."""
    real = virtual_server.seen_of
    monkeypatch.setattr(virtual_server, "seen_of", lambda *of: replace(real(*of), pids=()))


def calls(rig: Rig, name: str, path: str) -> int:
    requests = rig.engine(name).snapshot().http_requests
    return sum(count for (handler, _, _), count in requests.items() if handler == path)


def told(answers: list[Answer]) -> list[tuple[AnswerKind, str]]:
    return [(a.kind, a.problem) for a in answers]


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


def test_a_wake_whose_victim_is_removed_while_it_falls_asleep_is_answered_and_can_be_asked_for_again() -> None:
    """What the victim still holds is nobody's any more: there is no room, until its sleep has run its course."""
    rig = crowded()
    answers = until_victim_sleeps(rig)
    rig.daemon.submit(SettingsChanged(configure(rig, {"a": rig.daemon.settings.models["a"]})))
    assert rig.until(lambda: bool(answers), 30.0)
    assert told(answers) == [(AnswerKind.REFUSED, "no_room")]
    rig.run(10)
    rig.check_usable("a")


def test_a_victim_that_was_removed_before_a_restart_is_forgotten() -> None:
    rig = crowded()
    until_victim_sleeps(rig)
    rig.daemon.die()
    rig.run(5)
    configure(rig, {"a": rig.daemon.settings.models["a"]})
    rig.daemon.start()
    assert rig.until(rig.settled, 30.0)
    rig.check_usable("a")


# claims and victims


def test_a_victim_falls_asleep_under_the_claims_of_a_model_that_is_gone() -> None:
    rig = crowded()
    rig.arm("b", Fault("slow", path="/sleep", seconds=60.0))
    until_victim_sleeps(rig)
    rig.engine("a").kill()
    rig.servers["a"].engine = None
    assert rig.until(lambda: rig.state("a") is State.LOST, 30.0)
    assert rig.state("b") is State.FALLING_ASLEEP
    assert rig.daemon.world.tasks["b"].claims == {"GPU-0", HOST_LOCK}


def test_a_victim_is_woken_again_when_nobody_waits_any_more_for_what_it_made_room_for() -> None:
    rig = crowded()
    rig.arm("b", Fault("slow", path="/sleep", seconds=10.0))
    waiter = rig.daemon.ask(lambda w: WakeAsked(w, "a", "test", 100.0), lambda answer: None)
    rig.run(3)
    assert rig.state("b") is State.FALLING_ASLEEP
    rig.daemon.leave(waiter, "a")
    assert rig.until(lambda: rig.state("b") is State.AWAKE, 60.0)
    assert rig.state("a") is State.ASLEEP_L1


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
