"""After a failure: what an unanswered call did, and what the recipe allows next. Tables and verdicts, no effects."""

from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.dialect import Remedy, recipe_of, remedies
from sleepd.core.events import Evidence, StepEnd
from sleepd.core.memory import find_gpu, held_bytes, unmoved
from sleepd.core.model import Known, Reading
from sleepd.core.plan import COUNTED_AS, REPAIRS, SLEEPS, WAKES, Verb
from sleepd.core.seen import EngineFacts, GpusSeen
from sleepd.core.task import Intent


class Verdict(StrEnum):
    """What happened to a call whose answer was lost, by handler counters, its own word and NVML."""

    DONE = "done"
    NOT_SENT = "not sent"
    FAILED = "failed"
    PENDING = "pending"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Found:
    """What a fence found: counters since the intent (None: unreadable), is_sleeping, bytes against the intent's."""

    ok: int | None
    failed: int | None
    is_sleeping: bool
    freed: int | None


def found_since(verb: Verb, intent: Intent, evidence: Evidence, pids: tuple[int, ...]) -> Found | None:
    """Compare what a fence saw with what was true when the call left; None where the look is missing."""
    if not isinstance(evidence.seen, Known) or evidence.seen.value.is_sleeping is None:
        return None
    seen = evidence.seen.value
    ok = failed = None
    if intent.control is not None and seen.control is not None:
        handler = COUNTED_AS.get(verb, "wake")
        was, now = getattr(intent.control, handler), getattr(seen.control, handler)
        ok, failed = now.ok - was.ok, now.failed - was.failed
    return Found(ok, failed, seen.is_sleeping or False, _freed(intent, evidence.gpus_after, pids))


def _freed(intent: Intent, after: Reading[GpusSeen] | None, pids: tuple[int, ...]) -> int | None:
    if not isinstance(after, Known) or not intent.used_by_gpu:
        return None
    freed = 0
    for uuid, was in intent.used_by_gpu.items():
        gpu = find_gpu(after.value, uuid)
        if gpu is None:
            return None
        held = held_bytes(gpu, pids) if pids else gpu.total_bytes - gpu.free_bytes
        if held is None:
            return None
        freed += was - held
    return freed


def judge(verb: Verb, found: Found, least_freed: int, *, held_when_partial: bool) -> Verdict:
    """The verdict of the recovery table (docs/architecture.md, "Recovery"). `held_when_partial`: the release says that
    it sleeps until its last stage is back (0.24+)."""
    if verb in REPAIRS:
        return _judge_repair(found)
    if verb in SLEEPS:
        return _judge_sleep(found, least_freed)
    if verb is Verb.RELOAD:
        if found.ok is None:
            return Verdict.NOT_SENT  # a reload may be repeated
        return Verdict.DONE if found.ok else Verdict.FAILED if found.failed else Verdict.NOT_SENT
    if verb in WAKES:
        return _judge_wake(verb, found, held_when_partial)
    return Verdict.NOT_SENT


def _judge_sleep(found: Found, least_freed: int) -> Verdict:
    # Where bytes cannot be read, the counted success of the call stands in for them.
    down = found.freed >= least_freed if found.freed is not None else bool(found.ok)
    if found.failed:
        # First of all: a failed sleep leaves the scheduler paused (0.17+) and part of the memory unmapped, which
        # together look like a sleep.
        return Verdict.FAILED
    if found.is_sleeping and down:
        return Verdict.DONE
    if found.is_sleeping:
        # Paused, nothing freed: a drain that waits for its moment. Sent it was, or it would not be paused.
        return Verdict.PENDING if not found.ok else Verdict.FAILED
    told = found.ok is not None or found.freed is not None
    return Verdict.NOT_SENT if told and not found.ok and not down else Verdict.UNCLEAR


def _judge_repair(found: Found) -> Verdict:
    """A repair starts from an engine that is paused with part of its memory gone, and never drains (`mode=keep`), so
    only its handler's counter tells. Releases that allow one skip what is done already (0.28+, cumem.py): where the
    counter says nothing, it is sent again."""
    if found.failed:
        return Verdict.FAILED
    if not found.ok:
        return Verdict.NOT_SENT
    return Verdict.DONE if found.is_sleeping else Verdict.UNCLEAR


def _judge_wake(verb: Verb, found: Found, held_when_partial: bool) -> Verdict:
    taken = found.freed is not None and found.freed < 0
    if found.failed:
        return Verdict.FAILED
    if verb is Verb.WAKE_KV and found.ok == 0 and not taken:
        return Verdict.NOT_SENT  # releases before 0.24 may say they are awake once their weights are
    if verb is Verb.WAKE_KV and found.ok is None and not held_when_partial:
        return Verdict.UNCLEAR  # nor do bytes that were taken tell whether all of them were
    if verb is not Verb.WAKE_WEIGHTS and not found.is_sleeping:
        return Verdict.DONE
    if found.ok:
        return Verdict.DONE if verb is Verb.WAKE_WEIGHTS and (taken or found.freed is None) else Verdict.UNCLEAR
    if found.ok == 0 and not taken:
        return Verdict.NOT_SENT
    return Verdict.UNCLEAR


_FAILED_ROW = {
    Verb.SLEEP_L1: "failed_sleep_l1",
    Verb.RESLEEP_L1: "failed_sleep_l1",
    Verb.WAKE: "failed_wake_l1",
    Verb.WAKE_WEIGHTS: "failed_weights",
    Verb.RELOAD: "failed_reload",
    Verb.WAKE_KV: "failed_kv",
    Verb.RESET_PREFIX: "failed_reset",
}
_FAILED_STAGE_L1 = {Verb.WAKE_WEIGHTS: "failed_weights_l1", Verb.WAKE_KV: "failed_kv_l1"}


def remedies_for(verb: Verb, facts: EngineFacts, level: int) -> tuple[Remedy, ...]:
    """What the release's recipe allows after this verb failed in a task of this level, in order. A failed level 2 sleep
    has no repair."""
    row = _FAILED_STAGE_L1.get(verb) if level == 1 else None
    row = row or _FAILED_ROW.get(verb)
    failed: tuple[Remedy, ...] = getattr(recipe_of(facts.release), row) if row else (Remedy.RESTART,)
    return remedies(facts, failed, by_workers=verb is not Verb.RESET_PREFIX)


def only_a_restart_helps(facts: EngineFacts | None) -> bool:
    """Whether a wake that runs out of memory costs the engine: up to 0.27, and with several workers. Seen on a GPU with
    0.26, which answers every further wake with "invalid argument"."""
    return facts is None or remedies_for(Verb.WAKE, facts, 1)[0] is Remedy.RESTART


def nothing_moved(evidence: Evidence, uuids: tuple[str, ...], pids: tuple[int, ...], least: int) -> bool:
    """Whether NVML shows that a failed call released (or took) nothing, so memory is as it was before."""
    return unmoved(evidence.gpus_before, evidence.gpus_after, uuids, pids, least)


def failure_code(verb: Verb, end: StepEnd) -> str:
    kind = "sleep" if verb in SLEEPS else "reload" if verb is Verb.RELOAD else "wake"
    return f"{kind}_{end.value.replace(' ', '_')}"
