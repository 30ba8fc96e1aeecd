"""Somebody takes GPU memory in the middle of a wake: it waits, or is put back, and costs no engine its process."""

from typing import Any

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.units import GIB

STRANGER_PID = 9


def rig_of(version: str, **more: Any) -> Rig:
    """Asleep at level 2, whose wake reads weights for seconds between its two stages."""
    rig = Rig(version, max_level=2, **more)
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: any(note.kind == "level2_proven" for note in rig.notes))
    rig.run(5)
    asleep = rig.sleep("a", 2)
    assert rig.until(lambda: bool(asleep))
    assert asleep[0].kind is AnswerKind.DONE
    return rig


def take_in_between(rig: Rig) -> None:
    """While its weights are read, a stranger takes all that its KV cache needs but one GiB."""
    assert rig.until(lambda: rig.state("a") is State.RELOADING)
    gpu = rig.host.gpus[0]
    gpu.held[STRANGER_PID] = gpu.free_bytes - rig.kv_bytes + GIB


def leave(rig: Rig) -> None:
    rig.host.gpus[0].held.pop(STRANGER_PID)


@pytest.mark.parametrize("version", ["0.22.1", "0.26.0", "0.28.0", "0.32.0"])
def test_the_last_stage_waits_for_who_leaves_soon(version: str) -> None:
    rig = rig_of(version)
    answers = rig.wake("a")
    take_in_between(rig)
    rig.run(25)
    assert rig.state("a") is State.PARTIALLY_AWAKE
    assert rig.host.refused == 0
    assert rig.record("a").reason.endswith("1GiB of VRAM are missing")
    leave(rig)
    assert rig.until(lambda: bool(answers), 30.0)
    assert answers[0].kind is AnswerKind.DONE
    assert rig.engine("a").snapshot().answers_right
    assert rig.host.refused == 0


def test_where_the_recipe_can_it_is_put_back_to_sleep_and_whoever_waits_is_told() -> None:
    rig = rig_of("0.32.0")
    answers = rig.wake("a")
    take_in_between(rig)
    assert rig.until(lambda: bool(answers), 120.0)
    assert (answers[0].kind, answers[0].problem) == (AnswerKind.REFUSED, "no_room")
    assert "somebody took memory in the middle of it" in answers[0].detail
    assert rig.state("a") is State.ASLEEP_L2
    assert rig.host.refused == 0
    assert rig.record("a").attempts == 0, "it is no failure of the engine's"
    leave(rig)
    rig.check_usable("a")


def test_where_it_cannot_be_put_back_it_waits_longer() -> None:
    rig = rig_of("0.28.0")
    answers = rig.wake("a")
    take_in_between(rig)
    rig.run(50)
    assert rig.state("a") is State.PARTIALLY_AWAKE
    leave(rig)
    assert rig.until(lambda: bool(answers), 30.0)
    assert answers[0].kind is AnswerKind.DONE
    assert rig.host.refused == 0


def test_a_neighbour_whose_server_started_in_between_makes_room() -> None:
    rig = rig_of("0.26.0", names=("a", "b"), kv_bytes=30 * GIB)
    answers = rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.RELOADING)
    rig.boot("b")
    assert rig.until(lambda: bool(answers), 120.0)
    assert answers[0].kind is AnswerKind.DONE
    assert rig.state("b") is State.ASLEEP_L1
    assert rig.host.refused == 0


def test_a_wake_that_never_left_is_sent_only_into_room() -> None:
    """The daemon dies between the commit and the call; by the time it is back somebody else has the memory."""
    rig = rig_of("0.22.1")
    rig.daemon.upsets.die_after_commit = True
    rig.wake("a")
    assert rig.until(lambda: not rig.daemon.alive, 10.0)
    gpu = rig.host.gpus[0]
    gpu.held[STRANGER_PID] = gpu.free_bytes - 4 * GIB
    rig.daemon.start()
    assert rig.until(rig.settled)
    assert rig.state("a") is State.ASLEEP_L2
    assert rig.host.refused == 0
    leave(rig)
    rig.check_usable("a")


@pytest.mark.parametrize("version", ["0.22.1", "0.26.0", "0.28.0", "0.32.0"])
@pytest.mark.parametrize("kept_bytes", [0, GIB])
def test_a_daemon_killed_while_the_last_stage_waits_waits_on(version: str, kept_bytes: int) -> None:
    """The stage was never sent, so what its server holds more since the reload (allocators keep what they took) says
    nothing of it; and the new daemon reads GPU memory before it sends it."""
    rig = rig_of(version)
    rig.wake("a")
    take_in_between(rig)
    rig.run(12)
    assert rig.state("a") is State.PARTIALLY_AWAKE
    rig.daemon.die()
    held = rig.host.gpus[0].held
    held[rig.servers["a"].pid] += kept_bytes
    held[STRANGER_PID] -= kept_bytes
    rig.daemon.start()
    rig.run(10)
    assert rig.state("a") is State.PARTIALLY_AWAKE
    assert rig.host.refused == 0
    leave(rig)
    assert rig.until(rig.settled)
    assert rig.host.refused == 0
    rig.check_usable("a")


def test_where_memory_cannot_be_read_in_between_the_last_stage_is_sent_late() -> None:
    rig = rig_of("0.22.1")
    answers = rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.RELOADING)
    rig.daemon.upsets.nvml_missing = True
    assert rig.until(lambda: bool(answers), 100.0)
    assert answers[0].kind is AnswerKind.DONE
    assert rig.engine("a").snapshot().answers_right
