"""From a task's current step to the order the runner gets: names, bytes, time limits, nothing decided."""

from collections.abc import Mapping

from sleepd.core.dialect import recipe_of
from sleepd.core.draft import Draft
from sleepd.core.events import RunStep, StepOrder
from sleepd.core.memory import find_gpu, held_bytes, placement
from sleepd.core.model import Known, Settings
from sleepd.core.plan import CUTS, OBSERVES, REPAIRS, SLEEPS, PlanStep, Verb, default_timeout, step_of
from sleepd.core.units import Bytes, Seconds
from sleepd.core.world import Intent, ModelRecord, Phase, Task

PROBE_PROMPT = "The capital of France is Paris. The capital of Italy is Rome. One, two, three, four, five,"
"""Fixed for ever: fingerprints are compared across daemon versions."""

FREED_SHARE = 0.02
"""Less than this share of what a server held counts as nothing: contexts breathe, weights do not."""


def order_of(draft: Draft, task: Task) -> RunStep:
    """The order for the step the task is at; in the fence phase, the order to find out what that step did."""
    record = draft.models[task.model]
    step: PlanStep = task.plan.steps[task.cursor]
    if task.phase is Phase.FENCE:
        step = step_of(Verb.FENCE)
    elif task.phase is Phase.CUT:
        step = step_of(CUTS[2 if step.verb is Verb.SLEEP_L2 else 1])
    uuids = uuids_of(draft, record)
    return RunStep(
        StepOrder(
            model=task.model,
            task_id=task.id,
            cursor=task.cursor,
            step=step,
            timeout_s=step_timeout(record, step.verb, draft.settings),
            pids=pids_of(record),
            uuids=uuids,
            # A repair finds part released already: that it sleeps and nothing moves any more is its proof.
            least_freed_bytes=0 if step.verb in REPAIRS else least_freed(draft, record),
            gpus_before=draft.gpus,
            asleep_bytes={u: b for u, b in record.footprint.asleep.items() if u in uuids},
            prompt=record.fingerprint.prompt if record.fingerprint else PROBE_PROMPT,
            api_name=record.facts.served_names[0] if record.facts and record.facts.served_names else record.spec.name,
            adapters=_adapters(record, step.verb),
            asks_at=record.facts.asks_at if record.facts else "",
            mode_parameter=bool(record.facts and recipe_of(record.facts.release).sleep_mode_parameter),
            activity=record.activity,
            owed=record.owed,
        )
    )


def _adapters(record: ModelRecord, verb: Verb) -> tuple[str, ...]:
    """Whose answers are asked for beside the base model's: those known, or to be known, of each LoRA adapter."""
    if verb is Verb.PROBE and record.fingerprint is not None:
        return tuple(record.fingerprint.adapters)
    return record.facts.lora_names if verb is Verb.FINGERPRINT and record.facts else ()


def step_timeout(record: ModelRecord, verb: Verb, settings: Settings) -> Seconds:
    """Seconds until a call counts as unanswered: configured, else ten times learned, at least the default."""
    least_s = default_timeout(verb)
    if settings.stuck_after_s is not None:
        # A question is not a control call: it has its own patience.
        return min(settings.stuck_after_s, least_s) if verb in OBSERVES else settings.stuck_after_s
    learned = [s for key, s in record.footprint.seconds.items() if key.startswith("sleep") == (verb in SLEEPS)]
    return max([least_s, *(10 * s for s in learned)])


def pids_of(record: ModelRecord) -> tuple[int, ...]:
    return record.seen.value.pids if isinstance(record.seen, Known) else ()


def uuids_of(draft: Draft, record: ModelRecord) -> tuple[str, ...]:
    """UUIDs of the GPUs a transition of this model touches; empty where they are not known."""
    return placement(record.spec, record.placed_on, draft.gpus.value) if isinstance(draft.gpus, Known) else ()


def least_freed(draft: Draft, record: ModelRecord) -> Bytes:
    """The least a sleep must give back to count as one."""
    held = sum(max(samples) for samples in record.footprint.freed.values() if samples)
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
    return Intent(record.incarnation, record.control, used, draft.now.wall_s)


def _learned(record: ModelRecord, task: Task) -> Mapping[str, Bytes]:
    """What the model holds before this step by what was learned; nothing for the states in between, whose bytes a
    guess would turn into a false "taken" or "freed"."""
    verb = task.plan.steps[task.cursor].verb
    if verb in (Verb.SLEEP_L1, Verb.SLEEP_L2):
        return record.footprint.awake
    untouched = record.failure is None and task.attempt == 0
    return record.footprint.asleep if untouched and verb in (Verb.WAKE, Verb.WAKE_WEIGHTS) else {}
