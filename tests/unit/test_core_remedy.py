"""What an unanswered call did: the recovery table of docs/architecture.md, row by row."""

import pytest

from sleepd.core.events import Evidence, StepEnd
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.plan import REPAIRS, WAKES, Verb
from sleepd.core.remedy import Found, Verdict, failure_code, found_since, judge, nothing_moved
from sleepd.core.seen import CallCount, ControlCounts, EngineFacts, GpuSeen, ModelSeen
from sleepd.core.task import Intent
from sleepd.core.units import GIB

LEAST = GIB
AS_BEFORE, DOWN, UP = 0, 20 * GIB, -20 * GIB
UNREADABLE = None
NONE, OK, BAD = (0, 0), (1, 0), (0, 1)
"""What the call's handler counted since the intent: (2xx, anything else)."""


def judged(
    verb: Verb, counted: tuple[int, int] | None, *, sleeping: bool, freed: int | None, held: bool = True
) -> Verdict:
    ok, failed = counted if counted is not None else (None, None)
    return judge(verb, Found(ok, failed, sleeping, freed), LEAST, held_when_partial=held)


SLEEP_ROWS = [
    # counter, is_sleeping, NVML, verdict
    (NONE, False, AS_BEFORE, Verdict.NOT_SENT),
    (NONE, False, UNREADABLE, Verdict.NOT_SENT),
    (NONE, True, AS_BEFORE, Verdict.PENDING),
    (NONE, True, UNREADABLE, Verdict.PENDING),
    # The handler counts when its answer ended, which may be later than the sleep itself.
    (NONE, True, DOWN, Verdict.DONE),
    (OK, True, DOWN, Verdict.DONE),
    (OK, True, UNREADABLE, Verdict.DONE),
    # It said 200 and freed nothing: no sleep mode, or level 2 asked of a sleeper.
    (OK, True, AS_BEFORE, Verdict.FAILED),
    # A failed call leaves the scheduler paused (0.17+), so it says that it sleeps whatever it unmapped.
    (BAD, True, AS_BEFORE, Verdict.FAILED),
    (BAD, True, DOWN, Verdict.FAILED),
    (BAD, False, DOWN, Verdict.FAILED),
    (BAD, False, AS_BEFORE, Verdict.FAILED),
    (BAD, True, UNREADABLE, Verdict.FAILED),
    # Counted as done, and awake: somebody woke it meanwhile.
    (OK, False, AS_BEFORE, Verdict.UNCLEAR),
    (OK, False, UNREADABLE, Verdict.UNCLEAR),
    (NONE, False, DOWN, Verdict.UNCLEAR),
    # Behind several API servers the counters say nothing: bytes decide, and without them nothing does.
    (UNREADABLE, True, DOWN, Verdict.DONE),
    (UNREADABLE, True, AS_BEFORE, Verdict.PENDING),
    (UNREADABLE, False, AS_BEFORE, Verdict.NOT_SENT),
    (UNREADABLE, False, DOWN, Verdict.UNCLEAR),
    (UNREADABLE, False, UNREADABLE, Verdict.UNCLEAR),
]


@pytest.mark.parametrize("verb", [Verb.SLEEP_L1, Verb.SLEEP_L2])
@pytest.mark.parametrize(("counted", "sleeping", "freed", "verdict"), SLEEP_ROWS)
def test_an_unanswered_sleep(verb, counted, sleeping, freed, verdict):
    assert judged(verb, counted, sleeping=sleeping, freed=freed) is verdict


@pytest.mark.parametrize("verb", sorted(REPAIRS))
@pytest.mark.parametrize("freed", [AS_BEFORE, DOWN, UNREADABLE])
@pytest.mark.parametrize(
    ("counted", "sleeping", "verdict"),
    [
        # It says that it sleeps before a repair as well as after it, and part of its bytes had gone down already.
        (NONE, True, Verdict.NOT_SENT),
        (UNREADABLE, True, Verdict.NOT_SENT),
        (OK, True, Verdict.DONE),
        (BAD, True, Verdict.FAILED),
        (OK, False, Verdict.UNCLEAR),
    ],
)
def test_an_unanswered_repair_is_judged_by_its_counter_alone(verb, counted, sleeping, freed, verdict):
    assert judged(verb, counted, sleeping=sleeping, freed=freed) is verdict


@pytest.mark.parametrize("verb", [Verb.WAKE, Verb.WAKE_KV])
@pytest.mark.parametrize(
    ("counted", "sleeping", "freed", "verdict"),
    [
        (NONE, True, AS_BEFORE, Verdict.NOT_SENT),
        (NONE, True, UP, Verdict.UNCLEAR),
        # Awake by its own word needs every tag back (is_sleeping: paused or any tag asleep).
        (OK, False, UP, Verdict.DONE),
        (NONE, False, UP, Verdict.DONE),
        (UNREADABLE, False, UNREADABLE, Verdict.DONE),
        (BAD, True, UP, Verdict.FAILED),
        (BAD, True, AS_BEFORE, Verdict.FAILED),
        (OK, True, UP, Verdict.UNCLEAR),
        (OK, True, AS_BEFORE, Verdict.UNCLEAR),
        (UNREADABLE, True, AS_BEFORE, Verdict.UNCLEAR),
        (UNREADABLE, True, UP, Verdict.UNCLEAR),
    ],
)
def test_an_unanswered_wake(verb, counted, sleeping, freed, verdict):
    assert judged(verb, counted, sleeping=sleeping, freed=freed) is verdict


@pytest.mark.parametrize("freed", [AS_BEFORE, UP, UNREADABLE])
def test_awake_by_its_own_word_says_nothing_of_a_last_stage_where_the_first_says_so_already(freed):
    """Up to 0.23 an engine without its KV cache says that it does not sleep: without counters nothing shows more."""
    assert judged(Verb.WAKE_KV, UNREADABLE, sleeping=False, freed=freed, held=False) is Verdict.UNCLEAR
    assert judged(Verb.WAKE_KV, UNREADABLE, sleeping=False, freed=freed) is Verdict.DONE
    assert judged(Verb.WAKE, UNREADABLE, sleeping=False, freed=freed, held=False) is Verdict.DONE
    assert judged(Verb.WAKE_KV, OK, sleeping=False, freed=freed, held=False) is Verdict.DONE


@pytest.mark.parametrize("sleeping", [True, False])
@pytest.mark.parametrize(
    ("counted", "freed", "verdict"),
    [
        (NONE, AS_BEFORE, Verdict.NOT_SENT),
        (NONE, UP, Verdict.UNCLEAR),
        (OK, UP, Verdict.DONE),
        (OK, UNREADABLE, Verdict.DONE),
        (OK, AS_BEFORE, Verdict.UNCLEAR),
        (BAD, UP, Verdict.FAILED),
        (BAD, AS_BEFORE, Verdict.FAILED),
        (UNREADABLE, AS_BEFORE, Verdict.UNCLEAR),
        (UNREADABLE, UP, Verdict.UNCLEAR),
    ],
)
def test_an_unanswered_weights_stage_is_judged_by_counters_and_bytes_alone(counted, freed, verdict, sleeping):
    assert judged(Verb.WAKE_WEIGHTS, counted, sleeping=sleeping, freed=freed) is verdict


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [(NONE, Verdict.NOT_SENT), (OK, Verdict.DONE), (BAD, Verdict.FAILED), (UNREADABLE, Verdict.NOT_SENT)],
)
def test_an_unanswered_reload_may_be_sent_again(counted, verdict):
    assert judged(Verb.RELOAD, counted, sleeping=True, freed=AS_BEFORE) is verdict


def test_what_changes_no_memory_is_simply_sent_again():
    assert judged(Verb.RESET_PREFIX, OK, sleeping=True, freed=AS_BEFORE) is Verdict.NOT_SENT


# --- what a fence found ------------------------------------------------------------------------------------------

FACTS = EngineFacts("0.32.0", (0, 32), "pst:1")


def _gpu(free: int, held: int | None) -> GpuSeen:
    return GpuSeen("GPU-0", 0, 80 * GIB, free, None if held is None else {7: held})


def _fenced(control: ControlCounts | None, gpu: GpuSeen | None, *, sleeping: bool | None = True) -> Evidence:
    seen = ModelSeen(FACTS, is_sleeping=sleeping, control=control)
    after = Missing(MissingReason.UNREADABLE) if gpu is None else Known((gpu,), 1.0, 1.0)
    return Evidence(seen=Known(seen, 1.0, 1.0), gpus_after=after)


WAS = Intent("pst:1", ControlCounts(CallCount(3, 1), CallCount(3), CallCount(5)), {"GPU-0": 30 * GIB})


@pytest.mark.parametrize(
    ("verb", "moved"),
    [
        (Verb.SLEEP_L1, ControlCounts(CallCount(4, 1), CallCount(3), CallCount(5))),
        (Verb.RESLEEP_L2, ControlCounts(CallCount(4, 1), CallCount(3), CallCount(5))),
        (Verb.WAKE, ControlCounts(CallCount(3, 1), CallCount(4), CallCount(5))),
        (Verb.WAKE_KV, ControlCounts(CallCount(3, 1), CallCount(4), CallCount(5))),
        (Verb.RELOAD, ControlCounts(CallCount(3, 1), CallCount(3), CallCount(6))),
        (Verb.WORKER_SLEEP_L1, ControlCounts(CallCount(3, 1), CallCount(3), CallCount(6))),
    ],
)
def test_each_verb_is_counted_by_its_own_handler(verb, moved):
    found = found_since(verb, WAS, _fenced(moved, _gpu(50 * GIB, 30 * GIB)), (7,))
    assert found == Found(1, 0, True, 0)
    still = found_since(verb, WAS, _fenced(WAS.control, _gpu(50 * GIB, 30 * GIB)), (7,))
    assert still == Found(0, 0, True, 0)


def test_failures_are_counted_apart():
    failed = ControlCounts(CallCount(3, 2), CallCount(3), CallCount(5))
    assert found_since(Verb.SLEEP_L1, WAS, _fenced(failed, _gpu(50 * GIB, 30 * GIB)), (7,)) == Found(0, 1, True, 0)


def test_bytes_are_the_processes_own():
    found = found_since(Verb.SLEEP_L1, WAS, _fenced(WAS.control, _gpu(0, 2 * GIB)), (7,))
    assert found is not None
    assert found.freed == 28 * GIB


@pytest.mark.parametrize("gpu", [None, _gpu(50 * GIB, None)])
def test_bytes_that_cannot_be_read_are_not_zero(gpu):
    found = found_since(Verb.SLEEP_L1, WAS, _fenced(WAS.control, gpu), (7,))
    assert found is not None
    assert found.freed is None


def test_without_pids_the_device_is_compared():
    intent = Intent("pst:1", None, {"GPU-0": 30 * GIB})
    found = found_since(Verb.SLEEP_L1, intent, _fenced(None, _gpu(78 * GIB, None)), ())
    assert found == Found(None, None, True, 28 * GIB)


@pytest.mark.parametrize(
    "evidence", [Evidence(), Evidence(seen=Missing(MissingReason.TIMED_OUT)), _fenced(None, None, sleeping=None)]
)
def test_a_fence_that_did_not_ask_the_engine_found_nothing(evidence):
    assert found_since(Verb.SLEEP_L1, WAS, evidence, (7,)) is None


def _between(held_before: int | None, held_after: int | None) -> Evidence:
    def reading(held: int | None) -> Known[tuple[GpuSeen, ...]] | Missing:
        return Missing(MissingReason.UNREADABLE) if held is None else Known((_gpu(0, held),), 0.0, 0.0)

    return Evidence(gpus_before=reading(held_before), gpus_after=reading(held_after))


def test_a_list_that_does_not_name_its_processes_never_says_that_nothing_moved():
    """In a container without the host's pids: to resume on memory that a failed sleep unmapped kills the engine."""
    assert not nothing_moved(_between(30 * GIB, 30 * GIB), ("GPU-0",), (8,), LEAST)


def test_nothing_moved_needs_two_readings_that_agree():
    assert nothing_moved(_between(30 * GIB, 30 * GIB), ("GPU-0",), (7,), LEAST)
    assert nothing_moved(_between(30 * GIB, 30 * GIB - 1), ("GPU-0",), (7,), LEAST)
    assert not nothing_moved(_between(30 * GIB, 29 * GIB), ("GPU-0",), (7,), LEAST)
    assert not nothing_moved(_between(30 * GIB, 31 * GIB), ("GPU-0",), (7,), LEAST)


@pytest.mark.parametrize("readings", [(None, 30 * GIB), (30 * GIB, None), (None, None)])
def test_a_missing_reading_never_says_that_nothing_moved(readings):
    assert not nothing_moved(_between(*readings), ("GPU-0",), (7,), LEAST)
    assert not nothing_moved(_between(30 * GIB, 30 * GIB), (), (7,), LEAST)


def test_failure_codes_name_what_failed_and_how():
    assert failure_code(Verb.RESLEEP_L1, StepEnd.REFUSED) == "sleep_refused"
    assert failure_code(Verb.RELOAD, StepEnd.UNPROVEN) == "reload_unproven"
    assert {failure_code(v, StepEnd.BROKEN_OFF) for v in WAKES} == {"wake_broken_off"}
