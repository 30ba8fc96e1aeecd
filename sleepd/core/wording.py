"""What a condition wants and what was found, and why a task was begun, as an operator reads it."""

from sleepd.core.calendar import last_moment
from sleepd.core.conditions import Judged, count_requests, idle_s, is_busy, measure
from sleepd.core.foretelling import foretell
from sleepd.core.life import ASLEEP, LEVEL, PUBLIC, State
from sleepd.core.model import Cause, CauseKind, Known, Missing, Now
from sleepd.core.record import ModelRecord
from sleepd.core.reports import ConditionReport
from sleepd.core.rules import (
    EVERY_DAY,
    AsleepFor,
    AwakeFor,
    Condition,
    CronDue,
    During,
    GpuFreeBelow,
    HostAvailableBelow,
    HostPressureAbove,
    IdleFor,
    LevelIs,
    MemoryCondition,
    Observed,
    PredictedIdle,
    RequestsBelow,
    Rule,
    Threshold,
    UnitMemoryAbove,
)
from sleepd.core.units import format_duration, format_share, format_size
from sleepd.core.world import World

NAMES: dict[type[Condition], str] = {
    IdleFor: "idle",
    AsleepFor: "asleep",
    AwakeFor: "awake",
    RequestsBelow: "requests_below",
    HostAvailableBelow: "host_available_below",
    HostPressureAbove: "host_pressure_above",
    UnitMemoryAbove: "unit_memory_above",
    GpuFreeBelow: "gpu_free_below",
    LevelIs: "level",
    During: "between",
    CronDue: "cron",
    PredictedIdle: "predicted_idle",
}
"""Each condition's key in `when`; `days` and `between` are one condition."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def report_condition(
    rule: Rule, index: int, judged: Judged, record: ModelRecord, world: World, now: Now
) -> ConditionReport:
    """Say of one condition what it wants, what was found, and when time alone would change it."""
    condition = rule.conditions[index]
    in_s = None if judged.changes_s is None or judged.holds else max(0.0, judged.changes_s - now.mono_s)
    if judged.holds and not isinstance(condition, During | CronDue):
        in_s = 0.0
    if isinstance(condition, PredictedIdle):
        wanted, found = foretell(condition, rule, record, world, now)
    else:
        wanted, found = _texts(condition, judged, record, world, now, (rule.name, record.spec.name, index))
    return ConditionReport(NAMES[type(condition)], wanted, found, judged.holds, in_s)


def _texts(
    condition: Observed, judged: Judged, record: ModelRecord, world: World, now: Now, key: tuple[str, str, int]
) -> tuple[str, str]:
    if isinstance(condition, IdleFor):
        return f"idle {format_duration(condition.seconds)}", _idle(record, now)
    if isinstance(condition, AsleepFor | AwakeFor):
        return _state_texts(condition, record, now)
    if isinstance(condition, MemoryCondition):
        return _threshold_texts(condition, record, world, key in world.memory.crossed)
    if isinstance(condition, RequestsBelow):
        return _request_texts(condition, record, world, now, key)
    if isinstance(condition, LevelIs):
        level = LEVEL[record.life.state]
        found = PUBLIC[record.life.state].replace("_", " ") if level is None else f"level {level}"
        return f"level {condition.level}", found
    if isinstance(condition, During):
        return _span_wanted(condition), _clock(judged, now, "within it", "outside")
    return _cron_texts(condition, judged, world, now)


def _idle(record: ModelRecord, now: Now) -> str:
    if not isinstance(record.seen, Known):
        return _unknown(record.seen)
    if is_busy(record):
        return "in use"
    return "held" if record.holds else f"idle {format_duration(idle_s(record, now.mono_s))}"


def _state_texts(condition: AsleepFor | AwakeFor, record: ModelRecord, now: Now) -> tuple[str, str]:
    state, wanted = record.life.state, "asleep" if isinstance(condition, AsleepFor) else "awake"
    found = PUBLIC[state].replace("_", " ")
    if state is State.AWAKE:
        found = f"awake {format_duration(max(0.0, now.mono_s - record.awake_since_s))}"
    elif state in ASLEEP:
        found = f"asleep {format_duration(max(0.0, now.mono_s - record.since_s))}"
    return f"{wanted} {format_duration(condition.seconds)}", found


def _threshold_texts(condition: MemoryCondition, record: ModelRecord, world: World, holds: bool) -> tuple[str, str]:
    measured = measure(condition, record, world)
    bound = condition.leave if holds else condition.enter
    if isinstance(condition, HostPressureAbove):
        wanted = f"host memory pressure above {format_share(condition.leave if holds else condition.enter)}"
        if measured is None:
            missing = "this kernel tells no pressure (PSI)" if isinstance(world.host, Known) else _unknown(world.host)
            return wanted, missing
        return wanted, format_share(measured.value)
    assert isinstance(bound, Threshold)
    text = _threshold(bound)
    if measured is not None:
        text = format_size(round(measured.leave if holds else measured.enter))
    found = format_size(round(measured.value)) if measured is not None else ""
    if isinstance(condition, HostAvailableBelow):
        return f"less than {text} of host RAM available", found or _unknown(world.host)
    if isinstance(condition, GpuFreeBelow):
        where = "its GPUs are not known" if isinstance(world.gpus, Known) else _unknown(world.gpus)
        return f"less than {text} free on a GPU of it", found or where
    where = "no memory of its unit is known" if isinstance(record.seen, Known) else _unknown(record.seen)
    if isinstance(record.seen, Known) and record.seen.value.unit_memory is not None:
        where = "no limit lies above its unit"
    return f"more than {text} of memory in its unit", found or where


def _request_texts(
    condition: RequestsBelow, record: ModelRecord, world: World, now: Now, key: tuple[str, str, int]
) -> tuple[str, str]:
    rate, span = condition.enter, format_duration(condition.window_s)
    wanted = f"fewer than {rate.count:g} requests in {format_duration(rate.per_s)}, over {span}"
    window = world.memory.windows.get((key[0], key[1]))
    if window is None or not isinstance(record.seen, Known):
        return wanted, _unknown(record.seen) if isinstance(record.seen, Missing) else "not observed yet"
    count = count_requests(condition, window, now.mono_s)
    watched_s = now.mono_s - window.since_s
    watched = "" if watched_s >= condition.window_s else f", observed for {format_duration(watched_s)} of {span}"
    return wanted, f"{count} requests{watched}"


def _span_wanted(condition: During) -> str:
    days = "every day" if condition.days == EVERY_DAY else ", ".join(_DAYS[d] for d in sorted(condition.days))
    clock = f"{_minute(condition.begin_min)}-{_minute(condition.end_min)}"
    zone = f" ({condition.timezone})" if condition.timezone else ""
    return f"{days} {clock}{zone}"


def _minute(minutes: int) -> str:
    hours = minutes // 60
    return f"{hours if minutes == 1440 else hours % 24:02}:{minutes % 60:02}"


def _clock(judged: Judged, now: Now, inside: str, outside: str) -> str:
    if judged.holds is None:
        return "the calendar is not known yet"
    left = "" if judged.changes_s is None else format_duration(max(0.0, judged.changes_s - now.mono_s))
    if judged.holds:
        return f"{inside}, {left} left" if left else inside
    return f"{outside}, next in {left}" if left else f"{outside}, not within the next days"


def _cron_texts(condition: CronDue, judged: Judged, world: World, now: Now) -> tuple[str, str]:
    zone = f" ({condition.timezone})" if condition.timezone else ""
    wanted = f"{condition.cron}{zone}, within {format_duration(condition.within_s)}"
    found = last_moment(world.calendar, condition, now.wall_s)
    if found is None or not judged.holds or found[0] is None:
        return wanted, _clock(judged, now, "due", "not due")
    return wanted, _clock(judged, now, f"due {format_duration(max(0.0, now.wall_s - found[0]))} ago", "not due")


def _unknown(reading: object) -> str:
    return f"not known: {reading.reason}" if isinstance(reading, Missing) else "not known"


def _threshold(bound: Threshold) -> str:
    return format_size(bound.bytes_) if bound.bytes_ is not None else format_share(bound.share or 0.0)


def describe(cause: Cause) -> str:
    """The cause as a person would say it."""
    return {
        CauseKind.RULE: f"rule {cause.who}",
        CauseKind.OPERATOR: f"asked for by {cause.who}",
        CauseKind.REQUEST: f"a request waits ({cause.who})",
        CauseKind.VICTIM: f"makes room for {cause.who}",
        CauseKind.RESERVATION: f"makes room for reservation {cause.who}",
        CauseKind.CHECK: {"level 2": "checks that level 2 works"}.get(cause.who, f"checks {cause.who}"),
        CauseKind.PRIME: "makes later sleeps fast",
        CauseKind.RECOVERY: f"put back after {cause.who}",
    }[cause.kind]
