"""From a task's current step to the order the runner gets: names, bytes, time limits, nothing decided."""

from collections.abc import Mapping
from typing import Any

from sleepd.core.commands import RunStep, StepOrder
from sleepd.core.dialect import recipe_of
from sleepd.core.draft import Draft
from sleepd.core.durations import FIRST_SLEEP_S, FIRST_SLEEP_S_PER_GIB
from sleepd.core.frozen import replace
from sleepd.core.memory import Blind, find_gpu, held_bytes, placement, wake_needs
from sleepd.core.model import Known, Settings
from sleepd.core.plan import (
    CHECKSUMS,
    CUTS,
    OBSERVES,
    REPAIRS,
    SLEEPS,
    UNIT_VERBS,
    WAKES,
    PlanStep,
    Verb,
    default_timeout,
    step_of,
)
from sleepd.core.record import ModelRecord
from sleepd.core.task import Intent, Phase, Task, TaskKind
from sleepd.core.units import GIB, Bytes, Seconds

PROBE_PROMPT = "The capital of France is Paris. The capital of Italy is Rome. One, two, three, four, five,"
"""Fixed for ever: fingerprints are compared across daemon versions."""

FREED_SHARE = 0.02
"""Less than this share of what a server held counts as nothing: contexts breathe, weights do not."""

PATIENCE = 10.0
FIRST_FACTOR = 20.0
"""A first level 1 sleep may take this many times longer than a later one."""
SLOW_DISK_GIB_S = 0.5
HASH_GIB_S = 0.5
"""SHA-256 of a rank's weights on one core, after their copy to the host (0.32, model_loader/weight_checksum.py)."""


_WAKES = ("wake1", "wake2")
_PARTS_OF: Mapping[Verb, tuple[str, ...]] = {
    Verb.WAKE: ("wake1",),
    Verb.RELOAD: ("reload", "wake2"),
    **dict.fromkeys((Verb.WAKE_WEIGHTS, Verb.WAKE_KV, Verb.RESET_PREFIX), _WAKES),
}
"""By which learned durations a call of a wake is waited for: those of what it was a part of."""


def order_of(draft: Draft, task: Task) -> RunStep:
    """The order for the step the task is at; in the fence phase, the order to find out what that step did."""
    record = draft.models[task.model]
    step: PlanStep = task.plan.steps[task.cursor]
    if task.phase is Phase.FENCE:
        step = step_of(Verb.FENCE)
    elif task.phase is Phase.CUT:
        step = step_of(CUTS[2 if step.verb is Verb.SLEEP_L2 else 1])
    uuids = uuids_of(draft, record)
    order = StepOrder(
        model=task.model,
        task_id=task.id,
        cursor=task.cursor,
        step=step,
        timeout_s=step_timeout(record, step.verb, draft.settings),
        pids=pids_of(record),
        uuids=uuids,
    )
    if step.verb in UNIT_VERBS:
        invocation = task.intent.invocation if task.intent is not None else ""
        return RunStep(replace(order, unit=record.spec.unit, invocation=invocation))
    return RunStep(
        replace(
            order,
            # A repair finds part released already: that it sleeps and nothing moves any more is its proof.
            least_freed_bytes=0 if step.verb in REPAIRS else least_freed(draft, record),
            gpus_before=draft.gpus,
            asleep_bytes={u: b for u, b in record.footprint.asleep.items() if u in uuids},
            takes=_takes(draft, record, task),
            prompt=record.fingerprint.prompt if record.fingerprint else PROBE_PROMPT,
            api_name=record.facts.served_names[0] if record.facts and record.facts.served_names else record.spec.name,
            **_asked(record, step.verb),
            asks_at=record.facts.asks_at if record.facts else "",
            mode_parameter=bool(record.facts and recipe_of(record.facts.release).sleep_mode_parameter),
            activity=record.activity,
            owed=record.owed,
        )
    )


def _takes(draft: Draft, record: ModelRecord, task: Task) -> Mapping[str, Bytes]:
    """GPU memory that this step takes and that was seen to be free; nothing where that was not asked for."""
    verb, forced = task.plan.steps[task.cursor].verb, any(w.force for w in record.waiters)
    if verb not in WAKES or task.kind is not TaskKind.WAKE or forced or not isinstance(draft.gpus, Known):
        return {}
    if verb is Verb.WAKE_KV:
        return task.rest
    needs = wake_needs(record, draft.gpus.value)
    return {} if isinstance(needs, Blind) else needs


def _asked(record: ModelRecord, verb: Verb) -> dict[str, Any]:
    """Whose answers are asked for: the base model's and those known, or to be known, of each LoRA adapter. Where the
    base model's is known already, only adapters' are taken."""
    facts, known = record.facts, record.fingerprint
    if facts is None or verb not in (Verb.PROBE, Verb.FINGERPRINT):
        return {}
    lists = {"lists_adapters": facts.loads_adapters}
    if known is None:
        return lists | {"adapters": facts.lora_names}
    if verb is Verb.PROBE:
        return lists | {"adapters": tuple(known.adapters)}
    return lists | {"adapters": facts.lora_names, "asks_base": False, "known": known.adapters}


def step_timeout(record: ModelRecord, verb: Verb, settings: Settings) -> Seconds:
    """Seconds until a call counts as unanswered: configured, else ten times what it should take, at least the
    default. A call that is slow is never sent again, so patience costs nothing but the wait."""
    least_s = default_timeout(verb)
    if verb in UNIT_VERBS:
        # Loading takes what it takes: no control call hangs meanwhile.
        starts = record.learned.durations.get("start", ()) if verb is not Verb.END_UNIT else ()
        return max([least_s, *(PATIENCE * s for s in starts)])
    if settings.stuck_after_s is not None:
        # A question is not a control call: it has its own patience.
        return min(settings.stuck_after_s, least_s) if verb in OBSERVES else settings.stuck_after_s
    return max(least_s, PATIENCE * expected_s(record, verb))


def expected_s(record: ModelRecord, verb: Verb) -> Seconds:
    """Seconds this call should take at most, by its history and its bytes; 0 where neither tells anything.

    The first level 1 sleep of a process pins host RAM: 43 s for 75 GiB where later ones take 2 to 6 (F33 of vLLM's
    reports: 42-44 s, 10.6 s for 22 GiB). A reload is bound by the disk.
    """
    durations, weights = record.learned.durations, record.facts.checkpoint_bytes if record.facts else None
    gib = (weights or 0) / GIB
    if verb in _PARTS_OF:
        learned = [s for key in _PARTS_OF[verb] for s in durations.get(key, ())]
        return max([*learned, gib / SLOW_DISK_GIB_S if verb is Verb.RELOAD else 0.0])
    if verb in CHECKSUMS:
        return gib / HASH_GIB_S
    if verb not in SLEEPS:
        return 0.0
    learned = [s for key, samples in durations.items() if key.startswith("sleep") for s in samples]
    if record.footprint.host_pinned or verb in (Verb.SLEEP_L2, Verb.RESLEEP_L2):
        return max(learned, default=0.0)
    later = max(durations.get("sleep1", ()), default=0.0)
    known = [] if durations.get("sleep1_first") else [FIRST_FACTOR * later]
    return max([*learned, *known, FIRST_SLEEP_S + FIRST_SLEEP_S_PER_GIB * gib if gib else 0.0])


def pids_of(record: ModelRecord) -> tuple[int, ...]:
    return record.seen.value.pids if isinstance(record.seen, Known) else ()


def uuids_of(draft: Draft, record: ModelRecord) -> tuple[str, ...]:
    """UUIDs of the GPUs a transition of this model touches; empty where they are not known."""
    return placement(record.spec, record.placed_on, draft.gpus.value) if isinstance(draft.gpus, Known) else ()


def least_freed(draft: Draft, record: ModelRecord) -> Bytes:
    """The least a sleep must give back to count as one."""
    held = sum(max(samples) for samples in record.learned.freed.values() if samples)
    if not held and isinstance(draft.gpus, Known):
        for uuid in uuids_of(draft, record):
            gpu = find_gpu(draft.gpus.value, uuid)
            if gpu:
                held += held_bytes(gpu, pids_of(record)) or (gpu.total_bytes - gpu.free_bytes)
    return max(1, round(held * FREED_SHARE))


def intent_of(draft: Draft, record: ModelRecord, task: Task) -> Intent:
    """What is true before the task's step is sent, for recovery to compare with later."""
    used: dict[str, Bytes] = {}
    pids = pids_of(record)
    if isinstance(draft.gpus, Known):
        for uuid in uuids_of(draft, record):
            gpu = find_gpu(draft.gpus.value, uuid)
            if gpu is None:
                continue
            held = held_bytes(gpu, pids) if pids else None
            if held is None and pids:
                # The last reading came without process lists (they are dear); what it held in this state was learned.
                held = _learned(record, task).get(uuid)
            if held is not None or not pids:
                used[uuid] = held if held is not None else gpu.total_bytes - gpu.free_bytes
    unit = record.seen.value.unit_memory if isinstance(record.seen, Known) else None
    kept = unit.kept_bytes if unit is not None and unit.own else None
    return Intent(record.incarnation, record.control, used, draft.now.wall_s, kept)


def _learned(record: ModelRecord, task: Task) -> Mapping[str, Bytes]:
    """What the model holds before this step by what was learned; nothing for the states in between, whose bytes a
    guess would turn into a false "taken" or "freed"."""
    verb = task.plan.steps[task.cursor].verb
    if verb in (Verb.SLEEP_L1, Verb.SLEEP_L2):
        return record.footprint.awake
    untouched = record.failure is None and task.attempt == 0
    return record.footprint.asleep if untouched and verb in (Verb.WAKE, Verb.WAKE_WEIGHTS) else {}
