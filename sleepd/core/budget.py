"""The failure budget: after each task that failed, a model is left alone for longer, and at last given up.

Counted are tasks in a row that ended in a failure of the engine, or in its death: a process that ends between our call
to sleep and the proof that it is back died of us as far as anybody knows. Persons may try at any time; rules,
neighbours and requests wait.

The account is closed by one whole cycle, down and up again and proven: by its answer, or where none is to be compared,
by a request of its users that came to its end; by a reset; and by a new process, where the one before ended at rest.
That a new process is awake proves nothing of what killed the one before: it serves, and goes on with its account.
"""

from sleepd.core.draft import ACTIVITY_GRAIN_S, Draft
from sleepd.core.life import ASLEEP, Fact, State
from sleepd.core.model import Verify
from sleepd.core.record import ModelRecord
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import MonotonicS, Seconds, format_duration

FIRST_S = 15.0
MOST_S = 3600.0
FAILURES_IN_A_ROW = 8
"""After this many nobody but a person tries again: by then it was left alone for half an hour. A sleeper is failed, and
so is one that died; one that serves goes on serving."""
DYING_S = 60.0
POLLS_UNTIL_LOST = 8
"""A sleeper whose process ends so soon after it fell asleep may have answered 200 as it was dying already (vLLM F9).
That it ended is noticed so many polls later at most: sleepers are polled at a fifth, and three misses in a row tell."""
_SERVED = frozenset({State.AWAKE, State.DRAINING})
_AT_REST = ASLEEP | _SERVED | {State.FOREIGN}
"""Where nothing of ours was under way. A process that failed may have ended of that, only later."""


def cooldown_s(failures: int, entropy: int) -> Seconds:
    """How long a model is left alone after this many failures in a row: doubled each time, a quarter up or down."""
    steady_s = min(MOST_S, FIRST_S * 2.0 ** (failures - 1))
    return steady_s * jitter(entropy)


def jitter(entropy: int) -> float:
    """Between 0.75 and 1.25, so that what failed together is not tried again together."""
    return 0.75 + (entropy % 1001) / 2000.0


def count_failure(draft: Draft, name: str) -> None:
    """A task of this model failed: the next one of ours has to wait, and what goes on failing is given up."""
    record = draft.models[name]
    failures = record.attempts + 1
    rest_s = cooldown_s(failures, draft.now.entropy)
    draft.change(name, attempts=failures, cooldown_until_s=draft.mono_s + rest_s)
    detail = record.failure.detail if record.failure else "it could not be woken"
    if failures >= FAILURES_IN_A_ROW and record.life.state in ASLEEP | {State.LOST}:
        draft.state(name, Fact.GAVE_UP)
        draft.fail(name, "failed_again", f"{failures} attempts in a row failed, the last so: {detail}")
        return
    rest = "until it is reset" if failures >= FAILURES_IN_A_ROW else f"for {format_duration(rest_s)}"
    told = f"{name} is left alone {rest} after {failures} failure{'s' if failures > 1 else ''}"
    draft.note("cooldown", name, f"{told} in a row", {"failures": failures, "seconds": round(rest_s, 1)})


def settle_end(draft: Draft, name: str, record: ModelRecord, task: Task | None) -> None:
    """The model's process is gone; `record` and `task` are of before that was known."""
    noticed_s = DYING_S + POLLS_UNTIL_LOST * draft.settings.poll_every_s
    if died_of_us(record, task, draft.mono_s - noticed_s):
        count_failure(draft, name)
    elif record.life.state in _AT_REST and not (record.life.state in _SERVED and record.untried):
        # One that nobody used since its wake tells nothing either way.
        clear_failures(draft, name)


def died_of_us(record: ModelRecord, task: Task | None, newly_s: MonotonicS) -> bool:
    """Whether a process that is gone ended in a sleep or wake of ours, or before that was proven: a sleep that ended
    after `newly_s` is not. A wake after which no answer is compared is not before a request came to its end: it died of
    that where it was in use since, or woke after `newly_s`: what comes past the gate and kills at once shows nowhere.
    So did one that was asked, before its first sleep, for the answer to be known by, and broke off after `newly_s`.
    """
    state = record.life.state
    if state in ASLEEP:
        return record.since_s > newly_s
    if state in _SERVED:
        # When it was last used is remembered over restarts of the daemon to a grain only.
        used = record.last_active_s > record.awake_since_s + ACTIVITY_GRAIN_S
        of_use = record.untried and (used or record.awake_since_s > newly_s)
        return _is_to_be_compared(record) or of_use or record.broke_off_s > newly_s
    return task is not None and task.kind in (TaskKind.SLEEP, TaskKind.WAKE)


def _is_to_be_compared(record: ModelRecord) -> bool:
    """Whether it serves since a wake of ours, and its answer is still to be compared."""
    return record.unverified and record.fingerprint is not None and record.spec.verify is not Verify.OFF


def close_account(draft: Draft, name: str) -> None:
    """Forget its failures where nothing is left to be shown of its last wake."""
    record = draft.models[name]
    if not record.untried and not _is_to_be_compared(record):
        clear_failures(draft, name)


def is_given_up(record: ModelRecord) -> bool:
    """Whether so many attempts failed in a row that nobody but a person tries again."""
    return record.attempts >= FAILURES_IN_A_ROW


def given_up_refusal(record: ModelRecord) -> str:
    """Why it is not put to sleep again, as a sentence; empty where that is not why."""
    if not is_given_up(record):
        return ""
    name = record.spec.name
    return f"its last {record.attempts} sleeps and wakes failed in a row: once that is mended, sleepctl reset {name}"


def clear_failures(draft: Draft, name: str) -> None:
    draft.change(name, attempts=0, cooldown_until_s=0.0)


def cooling_s(record: ModelRecord, now_s: float) -> Seconds:
    """How long it is still to be left alone; 0 where it is not."""
    return max(0.0, record.cooldown_until_s - now_s)
