"""Sleeps that are proven and give back less than they should: told once, counted as what they are."""

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.units import GIB


@pytest.mark.parametrize(("kept_gib", "told"), [(1, 0), (25, 0), (40, 1)])
def test_a_process_that_keeps_most_of_its_memory_asleep_is_told_with_its_first_sleep(kept_gib: int, told: int) -> None:
    """Weights that were not tagged (0.14, 0.15), an encoder that stays: it gives back 30 GiB whatever it keeps."""
    rig = Rig("0.32.0", engine_more={"residual_bytes": kept_gib * GIB})
    rig.boot("a")
    rig.start()
    rig.run(10)
    for _ in range(2):
        answers = rig.sleep("a", 1)
        assert rig.until(lambda answers=answers: bool(answers))
        assert answers[0].kind is AnswerKind.DONE
        rig.check_usable("a")
        rig.run(10)
    notes = [note for note in rig.notes if note.kind == "frees_little"]
    assert len(notes) == told
    for note in notes:
        assert (note.data["freed_bytes"], note.data["held_bytes"]) == (30 * GIB, 70 * GIB)
        assert "gave back 30GiB of the 70GiB that it held" in note.text
    assert (rig.record("a").footprint.shortfall() is not None) is bool(told)
