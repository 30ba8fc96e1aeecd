"""A sleep that was tried, and what it gave back."""

from dataclasses import dataclass

from sleepd.core.units import MIB, Bytes, format_size
from sleepd.doctor.findings import Finding, fail, ok, warn

LITTLE = 0.5
NOTHING_BYTES: Bytes = 256 * MIB
"""Less than any model's weights: a context that is let go of, or noise of the driver's."""


@dataclass(frozen=True, slots=True)
class Free:
    """Free memory of a model's GPUs at one moment; `by`: who read it."""

    bytes: Bytes
    by: str


def judge_trial(name: str, before: Free, after: Free, *, held_bytes: Bytes | None) -> Finding:
    """Free memory of its GPUs before and after; `held_bytes`: what it held awake, where that is known."""
    freed = after.bytes - before.bytes
    held = f" of {format_size(held_bytes)} that it held" if held_bytes else ""
    found = f"{format_size(max(0, freed))} came back{held}, {after.by}"
    if freed < NOTHING_BYTES:
        return fail("try.sleep", found, name)
    if held_bytes and freed < LITTLE * held_bytes:
        return warn("try.sleep", found, name)
    return ok("try.sleep", found, name)
