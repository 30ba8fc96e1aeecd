"""Whether one condition of a rule holds for one model, and when time alone would change that. No texts: see wording.py.

A condition on a missing reading has no opinion: `holds` is None.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from sleepd.core.calendar import Calendar, last_moment, within
from sleepd.core.change_of_mind import change_of_mind_s
from sleepd.core.foresight import Foresight, foresee
from sleepd.core.life import ASLEEP, LEVEL, State
from sleepd.core.memory import find_gpu, placement
from sleepd.core.model import Known, Now
from sleepd.core.record import ModelRecord
from sleepd.core.rules import (
    AsleepFor,
    AwakeFor,
    CronDue,
    During,
    GpuFreeBelow,
    HostAvailableBelow,
    HostPressureAbove,
    IdleFor,
    LastingCondition,
    LevelIs,
    LocalTime,
    MemoryCondition,
    PredictedIdle,
    RequestsBelow,
    Rule,
    UnitMemoryAbove,
)
from sleepd.core.seen import UnitMemory
from sleepd.core.units import Bytes, MonotonicS, Seconds, WallS
from sleepd.core.world import Window, World

WINDOW_BUCKETS = 120


class Judged(NamedTuple):
    """`changes_s`: when time alone changes `holds`; None: never, as far as is known. Of what is foreseen `timed` tells
    it: who decides does not ask, and it takes as long as the rest."""

    holds: bool | None
    changes_s: MonotonicS | None = None


NO_OPINION, YES, NO = Judged(None), Judged(True), Judged(False)


def is_busy(record: ModelRecord) -> bool:
    """Whether a request is in flight or runs at the server right now, as far as it was seen: nothing overrides that."""
    if record.in_flight > 0:
        return True
    if record.life.state is not State.AWAKE or not isinstance(record.seen, Known):
        return False
    return bool(record.seen.value.running) or bool(record.seen.value.waiting)


def idle_s(record: ModelRecord, now_s: MonotonicS) -> Seconds:
    """Seconds since the model was last used, held, woken or became ready; it goes on counting while asleep."""
    return 0.0 if is_busy(record) or record.holds else max(0.0, now_s - record.last_active_s)


def is_idle_for(record: ModelRecord, seconds: Seconds, now_s: MonotonicS) -> bool:
    """Whether the model is neither in use nor held, and was last so at least this long ago."""
    # The deadline is this very sum: a difference of the same floats may fall short of it by an ulp.
    return not is_busy(record) and not record.holds and now_s >= record.last_active_s + seconds


def judge(rule: Rule, at: int, record: ModelRecord, world: World, now: Now) -> Judged:
    """Say whether this condition of the rule holds for the model now."""
    condition = rule.conditions[at]
    return _JUDGES[type(condition)](condition, rule, at, record, world, now)


def judge_all(
    rule: Rule, record: ModelRecord, world: World, now: Now, foreseen: Foresight | None = None
) -> tuple[Judged, ...]:
    """Say of each condition of the rule whether it holds for the model now. `foreseen`: what `foresee` says of it in
    this moment, where that is known already."""
    return tuple(
        [
            _JUDGES[type(c)](c, rule, at, record, world, now)
            if foreseen is None or type(c) is not PredictedIdle
            else _judge_foreseen(c, rule, record, foreseen)
            for at, c in enumerate(rule.conditions)
        ]
    )


Judge: TypeAlias = Callable[[Any, Rule, int, ModelRecord, World, Now], Judged]
"""Gets a condition, its rule and its place there; the world's memory knows it by rule, model and place."""


def due_s(condition: LastingCondition, record: ModelRecord) -> MonotonicS | None:
    """When the condition will hold, or since when it does, should nothing else change; None: not by time alone."""
    since_s = _SINCE[type(condition)](record)
    # Whoever asks compares with this very sum: a difference of the same floats may fall short of it by an ulp.
    return None if since_s is None else since_s + condition.seconds


def _idle_since_s(record: ModelRecord) -> MonotonicS | None:
    return None if not isinstance(record.seen, Known) or record.holds or is_busy(record) else record.last_active_s


def _asleep_since_s(record: ModelRecord) -> MonotonicS | None:
    return record.since_s if record.life.state in ASLEEP else None


def _awake_since_s(record: ModelRecord) -> MonotonicS | None:
    return record.awake_since_s if record.life.state is State.AWAKE else None


_SINCE: Mapping[type, Callable[[ModelRecord], MonotonicS | None]] = {
    IdleFor: _idle_since_s,
    AsleepFor: _asleep_since_s,
    AwakeFor: _awake_since_s,
}


def _judge_lasting(
    condition: LastingCondition, rule: Rule, at: int, record: ModelRecord, world: World, now: Now
) -> Judged:
    due = due_s(condition, record)
    if due is None:
        return NO
    return YES if now.mono_s >= due else Judged(False, due)


def _judge_idle(condition: IdleFor, rule: Rule, at: int, record: ModelRecord, world: World, now: Now) -> Judged:
    return _judge_lasting(condition, rule, at, record, world, now) if isinstance(record.seen, Known) else NO_OPINION


def _judge_threshold(
    condition: MemoryCondition, rule: Rule, at: int, record: ModelRecord, world: World, now: Now
) -> Judged:
    if not _is_read(condition, record, world):
        return NO_OPINION
    return YES if (rule.name, record.spec.name, at) in world.memory.crossed else NO


def _judge_level(condition: LevelIs, rule: Rule, at: int, record: ModelRecord, world: World, now: Now) -> Judged:
    level = LEVEL[record.life.state]
    if level is None:
        return NO_OPINION if record.life.state is State.UNKNOWN else NO
    return YES if level == condition.level else NO


def _judge_predicted(
    condition: PredictedIdle, rule: Rule, at: int, record: ModelRecord, world: World, now: Now
) -> Judged:
    return _judge_foreseen(condition, rule, record, foresee(record, world, now))


def _judge_foreseen(condition: PredictedIdle, rule: Rule, record: ModelRecord, found: Foresight | None) -> Judged:
    if found is None or not isinstance(record.seen, Known):
        return NO_OPINION
    if is_busy(record) or record.holds:
        return NO
    return YES if found.holds(condition, rule) else NO


def timed(judged: tuple[Judged, ...], rule: Rule, record: ModelRecord, world: World, now: Now) -> tuple[Judged, ...]:
    """What was said of the rule's conditions, with when what is foreseen changes."""
    if is_busy(record) or record.holds:
        return judged
    return tuple(
        found._replace(changes_s=change_of_mind_s(condition, rule, record, world, now))
        if isinstance(condition, PredictedIdle) and found.holds is not None
        else found
        for condition, found in zip(rule.conditions, judged, strict=True)
    )


# --- local time --------------------------------------------------------------------------------------------------


def judge_local(condition: LocalTime, calendar: Calendar, now: Now) -> Judged:
    """Say whether this hour or moment is now: the same for every model."""
    if isinstance(condition, During):
        found = within(calendar, condition, now.wall_s)
        return NO_OPINION if found is None else Judged(found[0], _mono_of(found[1], now))
    moments = last_moment(calendar, condition, now.wall_s)
    if moments is None:
        return NO_OPINION
    last, following = moments
    if last is not None and now.wall_s < last + condition.within_s:
        return Judged(True, _mono_of(last + condition.within_s, now))
    return Judged(False, _mono_of(following, now))


def _judge_local(condition: LocalTime, rule: Rule, at: int, record: ModelRecord, world: World, now: Now) -> Judged:
    return judge_local(condition, world.calendar, now)


def _mono_of(wall_s: WallS | None, now: Now) -> MonotonicS | None:
    return None if wall_s is None else now.mono_s + (wall_s - now.wall_s)


# --- thresholds --------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """`value` against the bounds where the threshold takes hold and where it lets go, in bytes or as a share."""

    value: float
    enter: float
    leave: float
    below: bool
    """It takes hold below `enter` and lets go above `leave`; else the other way round."""

    @property
    def entered(self) -> bool:
        return self.value < self.enter if self.below else self.value > self.enter

    @property
    def left(self) -> bool:
        return self.value > self.leave if self.below else self.value < self.leave


def measure(condition: MemoryCondition, record: ModelRecord, world: World) -> Measured | None:
    """What the condition reads, beside its bounds; None where that reading is missing."""
    if isinstance(condition, HostAvailableBelow):
        if not isinstance(world.host, Known):
            return None
        host = world.host.value
        enter, leave = condition.enter.of(host.total_bytes), condition.leave.of(host.total_bytes)
        return Measured(host.available_bytes, enter, leave, below=True)
    if isinstance(condition, HostPressureAbove):
        if not isinstance(world.host, Known) or world.host.value.pressure_some_avg10 is None:
            return None
        return Measured(world.host.value.pressure_some_avg10, condition.enter, condition.leave, below=False)
    if isinstance(condition, GpuFreeBelow):
        return _measure_gpus(condition, record, world)
    unit = record.seen.value.unit_memory if isinstance(record.seen, Known) else None
    if unit is None:
        return None
    used, total = _unit_use(condition.enter.share is not None, unit)
    return None if total is None else Measured(used, condition.enter.of(total), condition.leave.of(total), below=False)


def _is_read(condition: MemoryCondition, record: ModelRecord, world: World) -> bool:
    """Whether `measure` finds what the condition reads."""
    if isinstance(condition, HostAvailableBelow):
        return isinstance(world.host, Known)
    return measure(condition, record, world) is not None


def _unit_use(shared: bool, unit: UnitMemory) -> tuple[Bytes, Bytes | None]:
    """What counts and of how much: a share is of the tightest limit, against which neighbours may count too."""
    return (unit.limit_used_bytes, unit.limit_bytes) if shared else (unit.used_bytes, 0)


def _measure_gpus(condition: GpuFreeBelow, record: ModelRecord, world: World) -> Measured | None:
    """The GPU of the model that is nearest to its bound."""
    if not isinstance(world.gpus, Known):
        return None
    found = []
    for uuid in placement(record.spec, record.placed_on, world.gpus.value):
        gpu = find_gpu(world.gpus.value, uuid)
        if gpu is None:
            return None
        enter, leave = condition.enter.of(gpu.total_bytes), condition.leave.of(gpu.total_bytes)
        found.append(Measured(gpu.free_bytes, enter, leave, below=True))
    return min(found, key=lambda m: m.value - m.leave, default=None)


# --- rates -------------------------------------------------------------------------------------------------------


def bucket_of(condition: RequestsBelow, at_s: MonotonicS) -> int:
    return int(at_s // (condition.window_s / WINDOW_BUCKETS))


def count_requests(condition: RequestsBelow, window: Window, now_s: MonotonicS) -> int:
    """Requests within the window, to a 120th of it."""
    oldest = bucket_of(condition, now_s) - WINDOW_BUCKETS
    return sum(count for number, count in window.buckets if number > oldest)


def _judge_requests(
    condition: RequestsBelow, rule: Rule, at: int, record: ModelRecord, world: World, now: Now
) -> Judged:
    now_s = now.mono_s
    window = world.memory.windows.get((rule.name, record.spec.name))
    if window is None or not isinstance(record.seen, Known):
        return NO_OPINION
    most = condition.enter.count / condition.enter.per_s * condition.window_s
    count = count_requests(condition, window, now_s)
    if now_s < window.since_s + condition.window_s:
        # So many already that more of them change nothing; else too little was observed to tell.
        return NO if count >= most else Judged(None, window.since_s + condition.window_s)
    if (rule.name, record.spec.name, at) in world.memory.crossed:
        most = condition.leave.count / condition.leave.per_s * condition.window_s
        return YES if count <= most else Judged(False, _below_at_s(condition, window, most, now_s))
    return YES if count < most else Judged(False, _below_at_s(condition, window, most, now_s))


def _below_at_s(condition: RequestsBelow, window: Window, most: float, now_s: MonotonicS) -> MonotonicS | None:
    """When enough requests will have left the window, should no more come."""
    left = count_requests(condition, window, now_s)
    oldest, length_s = bucket_of(condition, now_s) - WINDOW_BUCKETS, condition.window_s / WINDOW_BUCKETS
    for number, count in window.buckets:
        if number <= oldest:
            continue
        left -= count
        if left < most:
            return (number + WINDOW_BUCKETS) * length_s
    return None


_JUDGES: Mapping[type, Judge] = {
    IdleFor: _judge_idle,
    AsleepFor: _judge_lasting,
    AwakeFor: _judge_lasting,
    RequestsBelow: _judge_requests,
    HostAvailableBelow: _judge_threshold,
    HostPressureAbove: _judge_threshold,
    UnitMemoryAbove: _judge_threshold,
    GpuFreeBelow: _judge_threshold,
    LevelIs: _judge_level,
    During: _judge_local,
    CronDue: _judge_local,
    PredictedIdle: _judge_predicted,
}
