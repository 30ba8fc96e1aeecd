"""The failure budget: after each task that failed, a model is left alone for longer, and at last given up.

Counted are tasks in a row that ended in a failure of the engine; one that succeeds, a reset and a new process that is
found awake close the account. Persons may try at any time, rules, neighbours and requests wait.
"""

from sleepd.core.draft import Draft
from sleepd.core.life import ASLEEP, Fact
from sleepd.core.record import ModelRecord
from sleepd.core.units import Seconds, format_duration

FIRST_S = 15.0
MOST_S = 3600.0
FAILURES_IN_A_ROW = 8
"""A sleeper whose wakes failed this often in a row is given up: by then it was left alone for half an hour."""


def cooldown_s(failures: int, entropy: int) -> Seconds:
    """How long a model is left alone after this many failures in a row: doubled each time, a quarter up or down."""
    steady_s = min(MOST_S, FIRST_S * 2.0 ** (failures - 1))
    return steady_s * jitter(entropy)


def jitter(entropy: int) -> float:
    """Between 0.75 and 1.25, so that what failed together is not tried again together."""
    return 0.75 + (entropy % 1001) / 2000.0


def count_failure(draft: Draft, name: str) -> None:
    """A task of this model failed: the next one of ours has to wait, and a sleeper that goes on failing is given up."""
    record = draft.models[name]
    failures = record.attempts + 1
    rest_s = cooldown_s(failures, draft.now.entropy)
    draft.change(name, attempts=failures, cooldown_until_s=draft.mono_s + rest_s)
    detail = record.failure.detail if record.failure else "it could not be woken"
    if failures >= FAILURES_IN_A_ROW and record.life.state in ASLEEP:
        draft.state(name, Fact.GAVE_UP)
        draft.fail(name, "failed_again", f"{failures} wakes in a row failed, the last so: {detail}")
        return
    told = f"{name} is left alone for {format_duration(rest_s)} after {failures} failure{'s' if failures > 1 else ''}"
    draft.note("cooldown", name, f"{told} in a row", {"failures": failures, "seconds": round(rest_s, 1)})


def clear_failures(draft: Draft, name: str) -> None:
    draft.change(name, attempts=0, cooldown_until_s=0.0)


def cooling_s(record: ModelRecord, now_s: float) -> Seconds:
    """How long it is still to be left alone; 0 where it is not."""
    return max(0.0, record.cooldown_until_s - now_s)
