"""One failure mode of docs/failure-modes.md each, on a host where nothing else goes wrong: those of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.units import GIB
from sleepd.sim.host import SimHost
from tests.simulation.quiet_host import Host


@pytest.mark.parametrize("version", ["0.22.1", "0.28.0"])
def test_f18_a_stranger_who_takes_the_room_in_the_middle_of_a_wake(version: str) -> None:
    """After the preflight, before the last block: put back or repeated where the release can, else told as failed."""
    host = Host(version)
    host.sleep()
    answers = host.begin("wake")
    host.run_until(lambda: host.held_gib() > 1, every_s=0.02)
    host.take(host.free_gib() - 1)
    host.run(120.0)
    assert answers
    if version == "0.22.1":
        assert host.state() is State.FAILED
        return
    assert (host.state(), host.held_gib()) == (State.ASLEEP_L1, 1.0)
    host.take(0)
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


def test_f24_a_neighbour_sleeps_only_when_a_server_that_starts_beside_it_answers() -> None:
    host = Host.of_units("0.32.0", "0.32.0", kv_gib=10, load_s=20.0, kills_all=True)
    host.run(30.0)
    assert (host.state("m0"), host.state("m1")) == (State.AWAKE, State.AWAKE)
    host.engine("m0").kill()
    host.run_until(lambda: host.state("m0") is State.STARTING, every_s=0.25)
    asleep = host.begin("sleep", "m1")
    for _ in range(200):
        host.run(0.25)
        assert host.calls("/sleep", "m1") == {} or host.state("m0") is State.AWAKE
    assert asleep[0].kind is AnswerKind.DONE


@pytest.mark.parametrize("kv_gib", [4, 50])
def test_f24_what_an_incarnation_gives_back_is_measured_anew(kv_gib: int) -> None:
    """It came up beside other neighbours, and sized its cache by what they left; nor is its backup pinned yet."""
    host = Host("0.32.0")
    assert host.sleep().kind is AnswerKind.DONE
    host.stage.models["m0"] = replace(host.stage.models["m0"], kv_gib=kv_gib)
    host.engine().kill()
    host.run(30.0)
    ram = host.stage.host
    ram.others_bytes, others_bytes = ram.ram_bytes - 4 * GIB, ram.others_bytes
    host.run(4.0)
    assert host.sleep().problem == "level_unsafe"
    ram.others_bytes = others_bytes
    host.run(4.0)
    assert host.sleep().kind is AnswerKind.DONE
    gives_gib = 16 + kv_gib
    host.take(host.free_gib() - gives_gib + 1)
    assert host.wake().problem == "no_room"
    host.take(0)
    host.take(host.free_gib() - gives_gib - 4)
    assert host.wake().kind is AnswerKind.DONE
    assert host.stage.host.refused == 0


def test_f25_a_server_that_never_comes_up_is_started_within_the_budget_and_then_failed() -> None:
    host = Host.of_units("0.32.0")
    unit = host.stage.unit_of("m0")
    assert unit is not None
    unit.fails = 99
    host.engine().kill()
    host.run(10.0)
    answers = host.begin("wake")
    host.run(400.0)
    assert unit.starts == 1 + host.stage.daemon.settings.max_restarts
    assert host.state() is State.FAILED
    assert answers[0].kind is AnswerKind.REFUSED


def test_f26_memory_that_an_orphan_keeps_admits_nobody() -> None:
    host = Host("0.32.0")
    host.sleep()
    host.take(60)
    answer = host.wake()
    assert (answer.kind, answer.problem) == (AnswerKind.REFUSED, "no_room")
    assert (answer.wanted, answer.found.partition(",")[0]) == ("46GiB", "18GiB free beside the margin")
    assert host.stage.host.refused == 0
    host.take(0)
    host.run(4.0)
    assert host.wake().kind is AnswerKind.DONE


def test_f29_models_of_a_gpu_that_cannot_be_read_are_not_moved_and_those_of_others_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host("0.32.0", "0.32.0", gpus=2, apart=True)
    real = SimHost.see_gpus

    def lose_one() -> None:
        monkeypatch.setattr(SimHost, "see_gpus", lambda *a, **how: tuple(g for g in real(*a, **how) if g.index != 1))
        host.run(4.0)

    lose_one()
    assert host.sleep("m1").problem == "blind"
    assert host.sleep("m0").kind is AnswerKind.DONE
    monkeypatch.undo()
    host.run(4.0)
    assert host.sleep("m1").kind is AnswerKind.DONE
    lose_one()
    waiting = host.begin("wake", "m1")
    assert host.wake("m0").kind is AnswerKind.DONE
    assert (host.calls("/wake_up", "m1"), host.state("m1")) == ({}, State.ASLEEP_L1)
    assert [answer.problem for answer in waiting] == ["blind"]
    monkeypatch.undo()
    host.run(4.0)
    assert host.wake("m1").kind is AnswerKind.DONE
