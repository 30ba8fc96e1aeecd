"""What the daemon learns of simulated servers in virtual time is what they really took."""

from virtual_rig import Rig

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.units import GIB

STRANGER = 7


def test_a_reload_that_peaks_above_the_awake_model_is_found_room_for() -> None:
    """16 GiB of weights, 14 of KV cache, 40 more while the weights are read: a level 2 wake needs 56 at its highest."""
    rig = Rig("0.32.0", max_level=2, engine_more={"reload_peak_bytes": 40 * GIB})
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: bool(rig.daemon.world.proven) and not rig.daemon.world.tasks)
    footprint = rig.record("a").footprint
    assert footprint.reloaded == {"GPU-0": (56 * GIB,)}
    assert (footprint.need("GPU-0", 1), footprint.need("GPU-0", 2)) == (30 * GIB, 56 * GIB)

    assert answered(rig, rig.sleep("a", 2)).kind is AnswerKind.DONE
    gpu = rig.host.gpus[0]
    gpu.held[STRANGER] = gpu.free_bytes - 50 * GIB
    rig.run(2.0)  # a reading admits for half a second: it is seen by the next
    refused = answered(rig, rig.wake("a"))
    assert (refused.kind, refused.problem, refused.wanted) == (AnswerKind.REFUSED, "no_room", "56GiB")
    del gpu.held[STRANGER]
    assert answered(rig, rig.wake("a")).kind is AnswerKind.DONE
    assert rig.host.refused == 0


def answered(rig: Rig, answers: list[Answer]) -> Answer:
    assert rig.until(lambda: bool(answers))
    return answers[0]
