"""Where servers lie and how much they hold there, from lists of processes: of one GPU they may be missing for once."""

from sleepd.core.draft import Draft
from sleepd.core.first_looks import FIRST_LOOKS_S
from sleepd.core.frozen import replace
from sleepd.core.life import ASLEEP, State
from sleepd.core.memory import held_bytes
from sleepd.core.model import Known
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpusSeen
from sleepd.core.sightings import meet_unknown, seen_s
from sleepd.core.units import Bytes


def place(draft: Draft) -> None:
    """Learn from a reading with process lists on which GPUs each server holds memory, and how much in its state.

    Nobody is placed by some of its ranks alone: the others are looked for, for `FIRST_LOOKS_S`. What is still not seen
    then lies on another host, or in no process of the unit's, and only `gpus` tells.
    """
    if not isinstance(draft.gpus, Known):
        return
    asked_s = draft.gpus.asked_at_s
    for name, record in draft.models.items():
        pids = record.seen.value.pids if isinstance(record.seen, Known) else ()
        unknown = record.life.state is State.UNKNOWN
        if not pids or (unknown and seen_s(record) < record.since_s):
            continue
        held = {g.uuid: b for g in draft.gpus.value if (b := held_bytes(g, pids))}
        beside = _untold(record, draft.gpus.value)
        whole = bool(record.spec.gpus or record.placed_on) or len(held) >= _ranks(record)
        record = _note_part(draft, record, in_part=bool(held) and not whole)
        sought = record.in_part_since_s is not None and draft.mono_s - record.in_part_since_s < FIRST_LOOKS_S
        if unknown or not sought:
            record = draft.change(name, listed_s=asked_s)
        if whole and held and {*held, *beside} != set(record.placed_on):
            draft.change(name, placed_on=(*held, *beside))
        if name in draft.tasks:
            continue
        if unknown and isinstance(record.seen, Known):
            meet_unknown(draft, name, record.seen)
        if whole and held and asked_s >= record.settled_s:
            _note_held(draft, name, held, beside)


def _note_part(draft: Draft, record: ModelRecord, *, in_part: bool) -> ModelRecord:
    if in_part is (record.in_part_since_s is not None):
        return record
    return draft.change(record.spec.name, in_part_since_s=draft.mono_s if in_part else None)


def _untold(record: ModelRecord, gpus: GpusSeen) -> tuple[str, ...]:
    """Its GPUs of which this reading does not tell who holds them: it is as it was there."""
    told = {gpu.uuid for gpu in gpus if gpu.used_by_pid is not None}
    return tuple(uuid for uuid in record.placed_on if uuid not in told)


def _ranks(record: ModelRecord) -> int:
    """On how many GPUs it must be seen at first to be placed. Replicas may be servers of their own, shards and stages
    are not."""
    return record.facts.tensor_parallel * record.facts.pipeline_parallel if record.facts is not None else 1


def _note_held(draft: Draft, name: str, held: dict[str, Bytes], beside: tuple[str, ...]) -> None:
    """`beside`: the GPUs of which nothing was told, where what was known stays."""
    record = draft.models[name]
    awake = held | {u: b for u, b in record.footprint.awake.items() if u in beside}
    asleep = held | {u: b for u, b in record.footprint.asleep.items() if u in beside}
    if record.life.state is State.AWAKE and awake != record.footprint.awake:
        draft.change(name, footprint=replace(record.footprint, awake=awake))
    elif record.life.state in ASLEEP and asleep != record.footprint.asleep:
        draft.change(name, footprint=replace(record.footprint, asleep=asleep))
