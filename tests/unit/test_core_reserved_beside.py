"""What is kept for a job beside servers whose processes cannot be told from strangers."""

from dataclasses import replace

import pytest
from core_worlds import record, seen

from sleepd.core.ledger import left_beside, promised_bytes
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Missing, MissingReason, ModelSpec
from sleepd.core.reservation import Reservation
from sleepd.core.seen import GpuSeen
from sleepd.core.units import GIB

JOB = 77
HELD = Reservation("r", "alice", ("GPU-0",), 30 * GIB, {"GPU-0": 0}, managed=(1,), granted_as=1)
SILENT, GONE = Missing(MissingReason.TIMED_OUT), Missing(MissingReason.REFUSED)


def kept_beside(server, used):
    """GiB kept for the job of which nothing was taken when it was granted, beside a server of pid 5, started since."""
    free = (80 - sum(used.values())) * GIB
    gpu = GpuSeen("GPU-0", 0, 80 * GIB, free, {pid: gib * GIB for pid, gib in used.items()})
    kept = promised_bytes({"a": server}, {}, {"r": HELD}, (gpu,), but="")["GPU-0"]
    assert left_beside({"a": server}, [HELD], gpu) == kept, "what is shown is what is kept"
    return kept // GIB


@pytest.mark.parametrize(
    ("used", "more", "kept"),
    [
        ({5: 30, JOB: 10}, {}, 20),
        # It still holds its memory while it answers nobody, and nobody tells which processes are its own.
        ({5: 30, JOB: 10}, {"seen": SILENT}, 30),
        ({5: 30, JOB: 10}, {"seen": SILENT, "life": Life(State.STARTING, Weights.LOADED)}, 30),
        ({JOB: 10}, {"seen": SILENT, "life": Life(State.LOST, Weights.LOADED)}, 20),
        ({JOB: 10}, {"seen": SILENT, "life": Life(State.STOPPED, Weights.LOADED)}, 20),
        ({JOB: 10}, {"seen": SILENT, "spec": ModelSpec("a", "http://a", gpus=("1",))}, 20),
        ({JOB: 10}, {"seen": SILENT, "spec": ModelSpec("a", "http://a"), "placed_on": ("GPU-1",)}, 20),
        # It was given up, and its process ended since.
        ({JOB: 10}, {"seen": GONE, "life": Life(State.FAILED, Weights.DOUBTFUL)}, 20),
        ({5: 30, JOB: 10}, {"seen": SILENT, "life": Life(State.FAILED, Weights.DOUBTFUL)}, 30),
        ({5: 30, JOB: 10}, {"seen": GONE, "life": Life(State.STARTING, Weights.LOADED)}, 30),
        # Where it lies nobody knows; or nobody manages it.
        ({JOB: 10}, {"seen": SILENT, "spec": ModelSpec("a", "http://a")}, 20),
        ({JOB: 10}, {"seen": Missing(MissingReason.NO_DEV_MODE)}, 20),
        ({JOB: 10}, {"seen": Missing(MissingReason.NOT_YET), "spec": ModelSpec("a", "http://a")}, 30),
        # Its engine outlived it: known since the grant.
        ({1: 30, JOB: 10}, {"seen": SILENT, "life": Life(State.LOST, Weights.LOADED)}, 20),
        # A container without the host's pids: the list names processes, and none of ours.
        ({4005: 30}, {}, 30),
        ({JOB: 10}, {"spec": ModelSpec("a", "http://a", gpus=("1",))}, 20),
    ],
)
def test_what_a_server_holds_that_cannot_be_told_from_a_stranger_is_not_taken_for_the_jobs(used, more, kept):
    server = replace(record("a", seen=seen(pids=(5,))), **more)
    assert kept_beside(server, used) == kept


def test_a_job_that_took_more_than_it_reserved_takes_nothing_of_who_came_after_it():
    """The second was granted beside the 25 GiB of the first, which had reserved 10."""
    late = replace(HELD, id="late", bytes_per_gpu=10 * GIB, unmanaged={"GPU-0": 25 * GIB}, granted_as=2)
    early = replace(HELD, bytes_per_gpu=10 * GIB)
    gpu = GpuSeen("GPU-0", 0, 80 * GIB, 55 * GIB, {JOB: 25 * GIB})
    assert promised_bytes({}, {}, {"r": early, "late": late}, (gpu,), but="") == {"GPU-0": 10 * GIB}
