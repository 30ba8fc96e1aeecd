"""Gathers the rows of history from published turns, requests that waited, and a sample every few seconds. No I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sleepd.core.activity import NOTHING
from sleepd.core.life import ASLEEP, LEVEL, State
from sleepd.core.model import CauseKind, Known, Now
from sleepd.core.record import ModelRecord
from sleepd.core.records import TaskEnded
from sleepd.core.seen import Activity
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Bytes, MonotonicS, WallS
from sleepd.core.world import World, public_state
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.history.rows import (
    HOUR_S,
    Batch,
    Counts,
    Interval,
    Kept,
    Result,
    Spent,
    Transition,
    bucket_of,
    hour_of,
    minute_of,
)

SETTLE_S = 10.0
"""Requests that are let in so soon after a wake had waited for it."""
VRAM_STEP_BYTES = 64 << 20
VRAM_EVERY_S = 1800
"""Bytes held are written when they moved by a step, else this often; once a minute at most."""
GAP_S = 120.0
"""Two samples further apart than this were not made by a daemon that watched meanwhile."""
LATE_LIMIT = 100_000

_GONE = frozenset({"asleep", "stopped"})
_LIFTS = frozenset({TaskKind.WAKE, TaskKind.START})
_SERVES = frozenset({"awake", "draining"})


@dataclass(slots=True)
class _Track:
    """One model as it was when it was looked at last. `put_by`: what last put it to sleep."""

    interval: Interval
    counted_s: MonotonicS
    put_by: str = ""
    used: Activity = NOTHING


class Chronicle:
    """What happened since the last `take`. `kept`: where the history of the last daemon ended."""

    def __init__(self, kept: Kept | None = None) -> None:
        self._kept = dict(kept.intervals) if kept is not None else {}
        self._tracks: dict[str, _Track] = {}
        self._batch = Batch()
        self._fresh: list[tuple[MonotonicS, Transition]] = []
        self._late: dict[str, list[WallS]] = {}
        self._entered: dict[str, int] = {}  # gates outlive their models, and so does what was counted of them
        self._vram: dict[tuple[str, str], tuple[int, Bytes]] = {}
        self._vram_minute = 0
        self._energy_j: Mapping[str, float] = {}

    # what is heard

    def turned(self, published: Published) -> None:
        """Take in a published turn: states that changed, transitions that ended."""
        before, turn, now = published.before, published.turn, published.now
        world = turn.world
        ended = [record for record in turn.records if isinstance(record, TaskEnded)]
        for name, record in world.models.items():
            was = before.models.get(name)
            if was is record and name in self._tracks and world.tasks.get(name) is before.tasks.get(name):
                continue
            if was is not None and name in self._tracks and was.life is record.life and not _depends_on_task(record):
                continue
            task = world.tasks.get(name) or before.tasks.get(name)
            task = task or next((e.task for e in ended if e.task.model == name), None)
            moved = was is None or was.life.state is not record.life.state or name not in self._tracks
            self._see(record, public_state(world, name), task, now, moved=moved)
        if len(self._tracks) > len(world.models):
            for name in self._tracks.keys() - world.models.keys():
                self._lose(name, now)
        for record_ in ended:
            self._end(record_, before, world, now)

    def waited(self, held: Held, now: Now) -> None:
        """Take in a request that is held no more."""
        track = self._tracks.get(held.model)
        by = track.put_by if track is not None else ""
        key = (hour_of(now.wall_s), held.model, by, held.end.value, bucket_of(held.waited_s))
        self._batch.waits[key] = self._batch.waits.get(key, 0) + 1
        if held.end is HeldEnd.SERVED:
            late = self._late.setdefault(held.model, [])
            if len(late) < LATE_LIMIT:
                late.append(now.wall_s - held.waited_s)
            for index in range(len(self._fresh) - 1, -1, -1):
                ended_s, wake = self._fresh[index]
                if wake.model == held.model and wake.kind == TaskKind.WAKE and wake.result is Result.DONE:
                    longest_s = round(max(held.waited_s, wake.longest_wait_s or 0.0), 3)
                    wake = replace(wake, served=wake.served + 1, longest_wait_s=longest_s)
                    self._fresh[index] = (ended_s, wake)
                    self._batch.transitions[wake.task] = wake
                    break
        elif held.end in (HeldEnd.REFUSED, HeldEnd.TIMED_OUT):
            self._spent(now, held.model, by).refused += 1

    def sample(
        self, world: World, entered: Callable[[str], int], energy_j: Mapping[str, float] | None, now: Now
    ) -> None:
        """Take in counters: `entered` per gate since the start, joules per GPU since some moment of their own."""
        for name, track in self._tracks.items():
            record = world.models.get(name)
            if record is None:
                continue
            self._count_time(name, track, now)
            self._count_requests(name, track, record, entered(name), now)
            freed_bytes = freed_of(record) if track.interval.state in _GONE else None
            if freed_bytes is not None and freed_bytes != track.interval.freed_bytes:
                track.interval = replace(track.interval, freed_bytes=freed_bytes)
                self._batch.intervals.append(track.interval)
        self._sample_vram(world, now)
        if energy_j is not None:
            self._count_energy(world, energy_j, now)

    def take(self, now: Now) -> Batch:
        """Return what is to be written now, and begin anew."""
        batch, self._batch = self._batch, Batch()
        batch.wall_s = now.wall_s
        self._fresh = [(s, wake) for s, wake in self._fresh if now.mono_s - s < SETTLE_S]
        return batch

    def restate(self) -> None:
        """What was to be on record by now may not be: write every interval that goes on once more."""
        self._batch.intervals += [track.interval for track in self._tracks.values()]

    def close(self, now: Now) -> Batch:
        """The daemon ends: every interval is known until now. Return all that is left to be written."""
        for name in list(self._tracks):
            self._lose(name, now)
        return self.take(now)

    # states

    def _see(self, record: ModelRecord, state: str, task: Task | None, now: Now, *, moved: bool) -> None:
        """Begin an interval where the state is another. `moved`: by its own life, not by what a task makes of it."""
        name, level, weights = record.spec.name, LEVEL[record.life.state], record.life.weights.value
        track = self._tracks.get(name)
        if track is not None and (track.interval.state, track.interval.level) == (state, level):
            if track.interval.weights != weights:
                track.interval = replace(track.interval, weights=weights)
            return
        # Found as a former daemon had left it, it has been so for as long as was known before.
        since_wall_s = record.since_wall_s if moved and 0 < record.since_wall_s <= now.wall_s else now.wall_s
        if track is not None:
            self._count_time(name, track, now)
            old = track.interval
            self._batch.intervals.append(replace(old, until_wall_s=max(old.since_wall_s, since_wall_s)))
        kept = self._kept.pop(name, None) if state != "unknown" else None
        if kept is not None and _goes_on(kept, state, level, since_wall_s):
            interval = replace(kept, until_wall_s=None)
        else:
            by, who = (task.cause.kind.value, task.cause.who) if task is not None else ("", "")
            interval = Interval(
                name, state, level, weights, since_wall_s, None, by, who, task.id if task is not None else None
            )
        if state in _GONE:
            interval = replace(interval, freed_bytes=freed_of(record))
        self._batch.intervals.append(interval)
        if track is None:
            track = self._tracks[name] = _Track(interval, now.mono_s, used=record.used)
        track.interval = interval
        if state in _GONE and (task is None or task.kind not in _LIFTS):  # one that failed put it back
            track.put_by = put_by(interval.by, interval.who)

    def _lose(self, name: str, now: Now) -> None:
        """Nobody looks after the model any more."""
        track = self._tracks.pop(name)
        self._count_time(name, track, now)
        ended_wall_s = max(now.wall_s, track.interval.since_wall_s)
        self._batch.intervals.append(replace(track.interval, until_wall_s=ended_wall_s))

    def _end(self, ended: TaskEnded, before: World, world: World, now: Now) -> None:
        task = ended.task
        was, record = before.models.get(task.model), world.models.get(task.model)
        failed = was is not None and record is not None and record.attempts > was.attempts
        if ended.done:
            result = Result.DONE
        elif ended.outcome.startswith("refused: "):
            result = Result.REFUSED
        else:
            result = Result.FAILED if failed or ended.outcome.startswith("failed: ") else Result.ENDED
        began_wall_s = ended.wall_s - ended.took_s
        cause, track = task.cause, self._tracks.get(task.model)
        transition = Transition(
            task.id,
            task.model,
            task.kind.value,
            task.level,
            cause.kind.value,
            cause.who,
            began_wall_s,
            ended.wall_s,
            result,
            ended.outcome[:500],
            task.slept,
        )
        self._batch.transitions[task.id] = transition
        self._fresh.append((now.mono_s, transition))
        whose = put_by(cause.kind.value, cause.who)
        if task.kind in _LIFTS:
            whose = track.put_by if track is not None else ""
        if task.kind in _LIFTS and result is Result.DONE:
            self._spent(now, task.model, whose).wakes += 1
        elif result is Result.FAILED:
            self._spent(now, task.model, whose).failures += 1

    # counts

    def _spent(self, now: Now, name: str, by: str) -> Spent:
        return self._batch.spent.setdefault((hour_of(now.wall_s), name, by), Spent())

    def _count_time(self, name: str, track: _Track, now: Now) -> None:
        lasted_s, track.counted_s = now.mono_s - track.counted_s, now.mono_s
        if not 0.0 < lasted_s <= GAP_S:
            return
        interval = track.interval
        if interval.state in _GONE:
            spent = self._spent(now, name, track.put_by)
            spent.asleep_s += lasted_s
            if interval.freed_bytes is None:
                spent.unmeasured_s += lasted_s
            else:
                spent.given_back += lasted_s * interval.freed_bytes
        elif interval.state in _SERVES:
            self._spent(now, name, "").awake_s += lasted_s
        else:
            self._spent(now, name, "").other_s += lasted_s

    def _count_requests(self, name: str, track: _Track, record: ModelRecord, entered: int, now: Now) -> None:
        late = self._late.pop(name, [])
        let_in, self._entered[name] = entered - self._entered.get(name, 0), entered
        used, track.used = record.used - track.used, record.used
        if let_in or used.any():
            counts = self._batch.minutes.setdefault((minute_of(now.wall_s), name), Counts())
            counts.requests += max(0, let_in - len(late))
            counts.finished += max(0, used.requests_done)
            counts.prompt_tokens += max(0, used.prompt_tokens)
            counts.output_tokens += max(0, used.generation_tokens)
        for arrived_wall_s in late[:let_in]:  # what waited counts where it came, not where it was let in
            self._batch.minutes.setdefault((minute_of(arrived_wall_s), name), Counts()).requests += 1

    def _sample_vram(self, world: World, now: Now) -> None:
        minute = minute_of(now.wall_s)
        if minute <= self._vram_minute and self._vram_minute - minute < HOUR_S:
            return  # once a minute; a clock that was set back by far begins anew
        self._vram_minute = minute
        gpus = world.gpus.value if isinstance(world.gpus, Known) else ()
        for gpu in gpus:
            self._note_vram(minute, gpu.uuid, "", gpu.total_bytes - gpu.free_bytes)
        for name, record in world.models.items():
            for uuid, held in held_by(record).items():
                self._note_vram(minute, uuid, name, held)

    def _note_vram(self, minute: int, uuid: str, name: str, held: Bytes) -> None:
        known = self._vram.get((uuid, name))
        moved = known is None or abs(known[1] - held) >= VRAM_STEP_BYTES
        if moved or (known is not None and not 0 <= minute - known[0] < VRAM_EVERY_S):
            self._vram[(uuid, name)] = (minute, held)
            self._batch.vram[(minute, uuid, name)] = held

    def _count_energy(self, world: World, energy_j: Mapping[str, float], now: Now) -> None:
        """Add what each GPU took since the last sample, divided evenly among the models awake on it."""
        hour, before, self._energy_j = hour_of(now.wall_s), self._energy_j, energy_j
        for uuid, joules in energy_j.items():
            taken_j = joules - before.get(uuid, joules)
            if taken_j <= 0:
                continue
            key = (hour, uuid)
            self._batch.energy_j[key] = self._batch.energy_j.get(key, 0.0) + taken_j
            awake = [
                name
                for name, track in self._tracks.items()
                if track.interval.state in _SERVES and uuid in world.models[name].placed_on
            ]
            for name in awake:
                spent = self._spent(now, name, "")
                spent.energy_j = (spent.energy_j or 0.0) + taken_j / len(awake)


def put_by(by: str, who: str) -> str:
    """Return what sleeps are added up by: "rule NAME", else the kind of the cause, "found" where nobody knows."""
    return f"rule {who}" if by == CauseKind.RULE else by or "found"


def freed_of(record: ModelRecord) -> Bytes | None:
    """Return the GPU bytes that the model gives back while it is asleep or stopped: measured, else declared."""
    measured = record.learned.given_back(stopped=record.life.state is State.STOPPED)
    if measured:
        return sum(measured.values())
    declared = record.spec.vram_bytes
    return None if declared is None else declared * max(1, len(record.spec.gpus))


def held_by(record: ModelRecord) -> Mapping[str, Bytes]:
    """Return the bytes that the model's processes hold on each GPU, as last measured in the state it is in."""
    state = record.life.state
    if state is State.AWAKE:
        return record.learned.awake
    if state in ASLEEP:
        return record.learned.asleep
    return dict.fromkeys(record.learned.awake, 0) if state is State.STOPPED else {}


def _depends_on_task(record: ModelRecord) -> bool:
    return record.life.state is State.BROKEN


def _goes_on(kept: Interval, state: str, level: int | None, since_wall_s: WallS) -> bool:
    """Whether the model is in the state in which the last daemon left it, and was all the time."""
    return (kept.state, kept.level) == (state, level) and abs(kept.since_wall_s - since_wall_s) < 0.01
