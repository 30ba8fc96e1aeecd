"""Footprints: what a proven step teaches about bytes and seconds, and when what sleeps leave behind keeps growing."""

from collections.abc import Mapping, Sequence

from sleepd.core.draft import Draft
from sleepd.core.events import Evidence
from sleepd.core.footprint import STEP, Footprint, added, kept
from sleepd.core.frozen import replace
from sleepd.core.host_room import UNMEASURED_BACKUP_FACTOR
from sleepd.core.memory import find_gpu, held_bytes
from sleepd.core.model import Known, Reading
from sleepd.core.orders import pids_of, uuids_of
from sleepd.core.plan import Verb
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpuSeen, GpusSeen, ModelSeen
from sleepd.core.task import Intent, Phase, Task, TaskKind
from sleepd.core.units import MIB, Bytes, format_size

STILL_BYTES = 64 * MIB
"""What others' memory may move by and still count as standing still: contexts breathe."""
LEAK_SHARE = 0.05
"""Of a GPU: once sleeps leave this much more behind than the first did, a restart is asked for (seen: 412 MiB to 5 GiB
in a day of rotation, vLLM #36651; 3 GiB and more a cycle, #21336)."""
LEAST_SHARE = 0.125
"""Of its checkpoint, at the least in a backup: weights of 32 bits that are quantized to 4 as they are loaded."""
_FIRST = (Verb.SLEEP_L1, Verb.SLEEP_L2)


def learn_sleep(draft: Draft, task: Task, verb: Verb, evidence: Evidence) -> None:
    """Remember what a sleep gave back, what it left behind, what its backup took and how long it lasted."""
    record = draft.models[task.model]
    uuids, pids, footprint = uuids_of(draft, record), pids_of(record), record.footprint
    gave = _freed(evidence, uuids, pids)
    if verb in _FIRST:
        took_s = round(evidence.answered_s - evidence.started_s, 3)
        first = task.level == 1 and not footprint.host_pinned
        footprint = replace(
            footprint,
            freed=added(footprint.freed, gave),
            awake=_held(evidence.gpus_before, uuids, pids) or footprint.awake,
            durations=added(footprint.durations, {f"sleep{task.level}" + ("_first" if first else ""): took_s}),
        )
    footprint = _with_residual(
        footprint, str(task.level), _held(evidence.gpus_after, uuids, pids), count=verb in _FIRST
    )
    if task.level == 1:
        footprint = _with_backup(footprint, pinned_since(record, task.intent, evidence, gave))
    draft.change(task.model, footprint=footprint)
    _tell_shortfall(draft, task)
    _tell_leak(draft, task)


def learn_lost_sleep(draft: Draft, task: Task, evidence: Evidence) -> None:
    """Remember what a sleep did whose answer was lost and which turned out done: no duration, but bytes."""
    record = draft.models[task.model]
    pids, intent = pids_of(record), task.intent
    # Right after a restart of the daemon nobody has listed yet on which GPUs it is; its intent says so.
    uuids = uuids_of(draft, record) or (tuple(intent.used_by_gpu) if intent is not None else ())
    left, footprint, gave = _held(evidence.gpus_after, uuids, pids), record.footprint, dict[str, Bytes]()
    first = task.plan.steps[task.cursor].verb in _FIRST
    if intent is not None and first:
        # With process lists, what the intent holds are the server's own bytes before the call left.
        gave = {uuid: was - left[uuid] for uuid, was in intent.used_by_gpu.items() if was > left.get(uuid, was)}
        footprint = replace(footprint, freed=added(footprint.freed, gave))
    footprint = _with_residual(footprint, str(task.level), left, count=first)
    if task.level == 1:
        footprint = _with_backup(footprint, pinned_since(record, intent, evidence, gave))
    draft.change(task.model, footprint=footprint)
    _tell_shortfall(draft, task)
    _tell_leak(draft, task)


def learn_failed_backup(draft: Draft, task: Task, evidence: Evidence, need: Bytes | None) -> None:
    """A level 1 sleep failed, and part of its backup may be pinned: count what shows, and until host RAM is read again
    take all of it off what is available."""
    record = draft.models[task.model]
    grown = _kept_growth(task.intent, evidence.seen)
    if grown:
        pinned = record.footprint.pinned_bytes + grown
        draft.change(task.model, footprint=replace(record.footprint, pinned_bytes=pinned))
    if isinstance(draft.host, Known) and need and not isinstance(evidence.host_after, Known):
        left = max(0, draft.host.value.available_bytes - need)
        draft.host = replace(draft.host, value=replace(draft.host.value, available_bytes=left))


def learn_wake(draft: Draft, task: Task, evidence: Evidence) -> None:
    """Remember what the model holds awake, and the most it held on its way there."""
    record = draft.models[task.model]
    uuids, pids, footprint = uuids_of(draft, record), pids_of(record), record.footprint
    draft.change(
        task.model,
        footprint=replace(
            footprint,
            awake=_held(evidence.gpus_after, uuids, pids) or footprint.awake,
            taken=added(footprint.taken, _peaks(footprint, evidence, uuids, pids, draft.settings.gpu_margin_bytes)),
        ),
    )


def learn_reload(draft: Draft, task: Task, evidence: Evidence) -> None:
    """Remember the most that was held while weights were read anew, and how long that took."""
    record = draft.models[task.model]
    uuids, pids, footprint = uuids_of(draft, record), pids_of(record), record.footprint
    took_s = round(evidence.answered_s - evidence.started_s, 3)
    footprint = replace(
        footprint,
        reloaded=added(footprint.reloaded, _peaks(footprint, evidence, uuids, pids, draft.settings.gpu_margin_bytes)),
        durations=added(footprint.durations, {"reload": took_s}),
    )
    draft.change(task.model, footprint=footprint)


def learn_step(draft: Draft, task: Task, verb: Verb, evidence: Evidence) -> None:
    """Remember how long one step of a wake took, whatever it moved."""
    if task.kind is TaskKind.WAKE and task.phase is Phase.DO:
        learn_duration(draft, draft.models[task.model], STEP + verb, evidence.answered_s - evidence.started_s)


def learn_duration(draft: Draft, record: ModelRecord, key: str, seconds: float) -> None:
    """Remember how long a whole wake took, from its first call to its proof."""
    durations = added(record.footprint.durations, {key: round(seconds, 3)})
    draft.change(record.spec.name, footprint=replace(record.footprint, durations=durations))


# VRAM


def _held(reading: Reading[GpusSeen] | None, uuids: Sequence[str], pids: Sequence[int]) -> dict[str, Bytes]:
    if not isinstance(reading, Known) or not pids:
        return {}
    gpus = [gpu for uuid in uuids if (gpu := find_gpu(reading.value, uuid)) is not None]
    return {gpu.uuid: held for gpu in gpus if (held := held_bytes(gpu, pids)) is not None}


def _freed(evidence: Evidence, uuids: Sequence[str], pids: Sequence[int]) -> dict[str, Bytes]:
    """Bytes a sleep gave back per GPU: its own by NVML, else the device's where nobody else's memory moved."""
    was, now = _held(evidence.gpus_before, uuids, pids), _held(evidence.gpus_after, uuids, pids)
    freed: dict[str, Bytes] = {}
    for uuid in uuids:
        gave = was[uuid] - now[uuid] if uuid in was and uuid in now else _device_freed(evidence, uuid)
        if gave is not None and gave > 0:
            freed[uuid] = gave
    return freed


def _device_freed(evidence: Evidence, uuid: str) -> Bytes | None:
    """What the device's free memory grew by; None where it moved before the call too, or up and down during it: then
    somebody else's bytes are in it. (After it, the proof itself took two equal readings.)"""
    earlier, before, after = (
        _gpu(reading, uuid) for reading in (evidence.gpus_earlier, evidence.gpus_before, evidence.gpus_after)
    )
    if earlier is None or before is None or after is None:
        return None
    if abs(before.free_bytes - earlier.free_bytes) > STILL_BYTES:
        return None
    span = evidence.span.get(uuid)
    if span is not None and (
        span.least_free_bytes < before.free_bytes - STILL_BYTES or span.most_free_bytes > after.free_bytes + STILL_BYTES
    ):
        return None
    return after.free_bytes - before.free_bytes


def _peaks(
    footprint: Footprint, evidence: Evidence, uuids: Sequence[str], pids: Sequence[int], margin_bytes: Bytes
) -> dict[str, Bytes]:
    """The most held above what is held asleep: its own bytes at the end, and what free memory dipped by meanwhile where
    nobody else's moved."""
    held_after, held_before = _held(evidence.gpus_after, uuids, pids), _held(evidence.gpus_before, uuids, pids)
    peaks: dict[str, Bytes] = {}
    for uuid, held in held_after.items():
        asleep, span = footprint.asleep.get(uuid), evidence.span.get(uuid)
        before, after = _gpu(evidence.gpus_before, uuid), _gpu(evidence.gpus_after, uuid)
        if asleep is None or after is None:
            continue
        dip = 0
        if span is not None and before is not None:
            others_moved = (before.free_bytes - after.free_bytes) - (held - held_before.get(uuid, asleep))
            dip = max(0, after.free_bytes - span.least_free_bytes) if abs(others_moved) <= STILL_BYTES else 0
            # Somebody may have come and left meanwhile: beside what is here now, what went well fits again.
            dip = min(dip, max(0, after.free_bytes - margin_bytes))
        if held + dip > asleep:
            peaks[uuid] = held + dip - asleep
    return peaks


def _gpu(reading: Reading[GpusSeen] | None, uuid: str) -> GpuSeen | None:
    return find_gpu(reading.value, uuid) if isinstance(reading, Known) else None


# residuals


def _with_residual(footprint: Footprint, level: str, asleep: Mapping[str, Bytes], *, count: bool) -> Footprint:
    """`count`: a sleep of its own, not one that put a failed wake back."""
    if not asleep:
        return footprint
    footprint = replace(footprint, asleep=asleep)
    if not count:
        return footprint
    return replace(
        footprint,
        sleeps=footprint.sleeps + 1,
        residual={**footprint.residual, level: added(footprint.residual.get(level, {}), asleep)},
        first_residual={level: asleep, **footprint.first_residual},
    )


def growth_bytes(footprint: Footprint) -> dict[str, Bytes]:
    """By GPU, how much more the last sleep left behind than the first of the same level and process."""
    grown: dict[str, Bytes] = {}
    for level, first in footprint.first_residual.items():
        for uuid, then in first.items():
            samples = footprint.residual.get(level, {}).get(uuid, ())
            if samples:
                grown[uuid] = max(grown.get(uuid, 0), samples[-1] - then)
    return grown


def _tell_shortfall(draft: Draft, task: Task) -> None:
    """Tell with the first sleep of a process that it gave back too little. It counts: what it gave back is measured."""
    footprint = draft.models[task.model].footprint
    found = footprint.shortfall() if footprint.sleeps == 1 else None
    if found is not None:
        freed, held = found
        text = f"a sleep of {task.model} gave back {format_size(freed)} of the {format_size(held)} that it held"
        draft.note(
            "frees_little",
            task.model,
            f"{text}: see docs/troubleshooting.md",
            {"freed_bytes": freed, "held_bytes": held},
        )


def _tell_leak(draft: Draft, task: Task) -> None:
    """Ask for a restart in a quiet moment, once per process; nothing failed, and nothing is done about it meanwhile."""
    record = draft.models[task.model]
    if record.restart_wanted or not isinstance(draft.gpus, Known):
        return
    for uuid, grown in growth_bytes(record.footprint).items():
        gpu = find_gpu(draft.gpus.value, uuid)
        if gpu is None or grown <= LEAK_SHARE * gpu.total_bytes:
            continue
        sleeps, held = record.footprint.sleeps, record.footprint.asleep.get(uuid, 0)
        each = format_size(round(grown / max(1, sleeps - 1)))
        wanted = (
            f"asleep it holds {format_size(held)} of GPU {gpu.index}, {format_size(grown)} more than after its first"
            f" sleep ({sleeps} sleeps, {each} each): restart it in a quiet moment"
        )
        data = {"gpu": uuid, "asleep_bytes": held, "grown_bytes": grown, "sleeps": sleeps}
        draft.change(task.model, restart_wanted=wanted)
        draft.note("restart_wanted", task.model, f"{task.model}: {wanted}", data)
        return


# host RAM


def pinned_since(
    record: ModelRecord, intent: Intent | None, evidence: Evidence, gave: Mapping[str, Bytes]
) -> Bytes | None:
    """Host bytes that a sleep pinned: what its unit's cgroup kept more, else what available RAM fell by. None where,
    with what is pinned already, neither can be a backup: too little is one that reuses a stranger's, or noise, and a
    fall that is out of proportion is somebody else's too. `gave`: what the GPUs got back.

    Where RAM fell by more than twice what the unit shows, the driver's pages are not charged to it: the fall counts.
    """
    weights, already = record.facts.checkpoint_bytes if record.facts else None, record.footprint.pinned_bytes
    grown, fell = _kept_growth(intent, evidence.seen), _fall(evidence)
    if grown is not None and already + grown < max(STILL_BYTES, LEAST_SHARE * (weights or 0)):
        grown = None
    most = UNMEASURED_BACKUP_FACTOR * (weights or sum(gave.values()))
    if fell is not None and not max(STILL_BYTES, weights or 0) <= already + fell <= (most or already + fell):
        fell = None
    return fell if fell is not None and (grown is None or fell > 2 * grown) else grown


def _fall(evidence: Evidence) -> Bytes | None:
    before, after = evidence.host_before, evidence.host_after
    if not isinstance(before, Known) or not isinstance(after, Known):
        return None
    return before.value.available_bytes - after.value.available_bytes


def _kept_growth(intent: Intent | None, after: Reading[ModelSeen] | None) -> Bytes | None:
    now = after.value.unit_memory if isinstance(after, Known) else None
    if intent is None or intent.kept_bytes is None or now is None or not now.own:
        return None
    return max(0, now.kept_bytes - intent.kept_bytes)


def _with_backup(footprint: Footprint, pinned: Bytes | None) -> Footprint:
    """A whole backup was made: the first of a process tells what one takes, later ones use the same blocks again."""
    total = footprint.pinned_bytes + (pinned or 0)
    if footprint.host_pinned:
        return footprint
    backups = kept(footprint.backups, total) if total else footprint.backups
    return replace(footprint, host_pinned=True, pinned_bytes=total, backups=backups)
