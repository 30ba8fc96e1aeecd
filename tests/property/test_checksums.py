"""The checked level 2 cycle compares the checksums of all weights, where the server can tell them."""

import pytest
from virtual_rig import Death, Rig

from sleepd.core.life import State
from sleepd.sim.vllm_faults import Fault

CHECKER = "/weight_checker"
LITTLE_OFF = Fault("skew_reload")


def checked(version: str = "0.32.0", *faults: Fault) -> Rig:
    """A daemon that found its model and has done what it does in its first idle moment."""
    rig = Rig(version, ("a",), 2)
    rig.boot("a")
    rig.arm("a", *faults)
    rig.start()
    assert rig.until(lambda: bool(proven(rig)) or rig.state("a") is State.FAILED, 1200.0)
    return rig


def proven(rig: Rig) -> str:
    return next((note.text for note in rig.notes if note.kind == "level2_proven"), "")


def asked(rig: Rig) -> dict[str, int]:
    counts = rig.engine("a").snapshot().http_requests
    return {status: n for (path, _, status), n in counts.items() if path == CHECKER}


def test_they_are_taken_before_the_sleep_and_compared_after_the_reload_once_per_engine() -> None:
    rig = checked()
    assert "checksums" in proven(rig)
    assert asked(rig) == {"2xx": 2}
    slept = rig.sleep("a", 2)
    assert rig.until(lambda: bool(slept))
    rig.check_usable("a")
    assert asked(rig) == {"2xx": 2}, "later cycles hash nothing"
    assert not [note for note in rig.notes if note.kind == "foreign"], "our questions are no stranger's"


def test_weights_a_little_off_that_answer_right_fail_the_check() -> None:
    rig = checked("0.32.0", LITTLE_OFF)
    assert rig.state("a") is State.FAILED
    assert not rig.daemon.gates.of("a").open
    failure = rig.record("a").failure
    assert failure is not None
    assert (failure.code, "checksum" in failure.detail) == ("answer_wrong", True)
    assert "checksum" in rig.record("a").check_failed
    assert rig.daemon.world.proven == frozenset()
    rig.reboot("a")
    assert rig.until(lambda: rig.state("a") is State.AWAKE and bool(proven(rig)))
    rig.check_usable("a")


def test_the_short_answer_alone_does_not_notice() -> None:
    """What the checksums are for: the same fault where the server has no checker, and where it errs."""
    assert not asked(checked("0.31.0", LITTLE_OFF))
    rig = checked("0.32.0", LITTLE_OFF, Fault("lose_before", CHECKER, times=9))
    assert "checksums" not in proven(rig)


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("kind", ["lose_before", "lose_after", "slow"])
def test_a_checker_that_errs_before_or_after_is_no_reason_to_fail(kind: str, skip: int) -> None:
    rig = checked("0.32.0", Fault(kind, CHECKER, skip=skip, seconds=400.0))  # type: ignore[arg-type]
    assert proven(rig)
    assert "checksums" not in proven(rig)
    rig.check_usable("a")


@pytest.mark.parametrize("where", ["before commit", "after commit", "call"])
@pytest.mark.parametrize("n", range(1, 12))
def test_a_crash_in_the_middle_of_the_cycle_lets_no_wrong_weights_pass(where: str, n: int) -> None:
    rig = Rig("0.32.0", ("a",), 2)
    rig.boot("a")
    rig.arm("a", LITTLE_OFF)
    rig.start()
    rig.count_from_here(Death(where, n))
    ends = ("answer_wrong", "level2_proven")
    rig.until(lambda: not rig.daemon.alive or any(note.kind in ends for note in rig.notes))
    if not rig.daemon.alive:
        rig.die_and_revive()
    rig.spare()
    assert rig.until(lambda: rig.settled() and rig.state("a") in (State.FAILED, State.AWAKE), 600.0)
    rig.run(60)
    skewed = rig.engine("a")._core.worker._weights_skewed
    assert not (skewed and rig.daemon.world.proven), "an engine with other weights than before passed its check"
