"""`when` as written to conditions as evaluated."""

from collections.abc import Callable
from typing import Any, TypeAlias

from pydantic_core import PydanticCustomError

from sleepd.config.errors import KeyPath
from sleepd.config.schema_rules import WhenKeys
from sleepd.config.validate import Findings
from sleepd.config.values import read_rate, read_share, read_threshold
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
    PredictedIdle,
    Rate,
    RequestsBelow,
    Threshold,
    UnitMemoryAbove,
)

Bound: TypeAlias = Threshold | Rate | float

_READ_UNTIL: dict[str, Callable[[Any], Bound]] = {
    "requests_below": read_rate,
    "host_available_below": read_threshold,
    "host_pressure_above": read_share,
    "unit_memory_above": read_threshold,
    "gpu_free_below": read_threshold,
}
_NEEDS = {
    "window": ("requests_below",),
    "timezone": ("days", "between", "cron"),
    "within": ("cron",),
}
_CONDITIONS = (*("idle", "asleep", "awake", *_READ_UNTIL, "level", "days", "between", "cron", "predicted_idle"),)


def compile_conditions(when: WhenKeys, path: KeyPath, findings: Findings) -> tuple[Condition, ...]:
    """Return the conditions; what does not fit together is added to the findings."""
    written = {key for key in _CONDITIONS if getattr(when, key) is not None}
    wrong = {str(refused[-1]) for refused in findings.refused if refused[:-1] == path}
    if wrong:  # said already; without it nothing can be said of how they fit together
        return ()
    if not written:
        findings.refuse(path, f"wanted at least one condition ({', '.join(_CONDITIONS)}), found none")
    for key, needed in _NEEDS.items():
        if key in when.model_fields_set and not written & set(needed):
            findings.refuse((*path, key), f"has nothing to apply to: it goes with {' or '.join(needed)}")
    if when.cron is not None and when.for_ >= when.within:
        told = "wanted less than within: a moment of cron does not stay true for that long"
        findings.refuse((*path, "for"), told)
    until = _read_until(when, written, path, findings)
    return (
        *_compile_durations(when),
        *_compile_thresholds(when, until),
        *_compile_calendar(when),
        *([LevelIs(when.level)] if when.level is not None else []),
    )


def _read_until(when: WhenKeys, written: set[str], path: KeyPath, findings: Findings) -> Bound | None:
    """Return where the one threshold lets go, or None where it is not said or not right."""
    thresholds = [key for key in _READ_UNTIL if key in written]
    if when.until is None:
        return None
    if len(thresholds) != 1:
        found = (
            f"{len(thresholds)} ({', '.join(thresholds)}): write a rule each"
            if thresholds
            else f"none: add {', '.join(_READ_UNTIL)}"
        )
        findings.refuse((*path, "until"), f"says where the one threshold of the rule lets go; found {found}")
        return None
    key = thresholds[0]
    try:
        leave = _READ_UNTIL[key](when.until)
    except PydanticCustomError as error:
        findings.refuse((*path, "until"), f"{error.message()} (as {key})")
        return None
    enter = getattr(when, key)
    if isinstance(enter, Threshold) and isinstance(leave, Threshold) and (enter.share is None) != (leave.share is None):
        findings.refuse((*path, "until"), f"wanted the same kind as {key}: both sizes or both shares")
        return None
    above = key.endswith("_above")
    if _compared(leave) > _compared(enter) if above else _compared(leave) < _compared(enter):
        side = "at most" if above else "at least"
        way = "below" if above else "above"
        findings.refuse((*path, "until"), f"wanted {side} {key}: the rule must let go {way} it")
        return None
    return leave


def _compared(bound: Bound) -> float:
    if isinstance(bound, Threshold):
        return bound.of(1 << 40)
    return bound.count / bound.per_s if isinstance(bound, Rate) else bound


def _compile_durations(when: WhenKeys) -> list[Condition]:
    found: list[Condition] = []
    if when.idle is not None:
        found.append(IdleFor(when.idle))
    if when.asleep is not None:
        found.append(AsleepFor(when.asleep))
    if when.awake is not None:
        found.append(AwakeFor(when.awake))
    if when.predicted_idle is not None:
        found.append(PredictedIdle(when.predicted_idle))
    return found


def _compile_thresholds(when: WhenKeys, until: Bound | None) -> list[Condition]:
    found: list[Condition] = []
    rate, share = (until if isinstance(until, Rate) else None), (until if isinstance(until, float) else None)
    leave = until if isinstance(until, Threshold) else None
    if when.requests_below is not None:
        found.append(RequestsBelow(when.requests_below, rate or when.requests_below, when.window))
    if when.host_available_below is not None:
        found.append(HostAvailableBelow(when.host_available_below, leave or when.host_available_below))
    if when.host_pressure_above is not None:
        found.append(HostPressureAbove(when.host_pressure_above, share or when.host_pressure_above))
    if when.unit_memory_above is not None:
        found.append(UnitMemoryAbove(when.unit_memory_above, leave or when.unit_memory_above))
    if when.gpu_free_below is not None:
        found.append(GpuFreeBelow(when.gpu_free_below, leave or when.gpu_free_below))
    return found


def _compile_calendar(when: WhenKeys) -> list[Condition]:
    found: list[Condition] = []
    timezone = when.timezone or ""
    if when.days is not None or when.between is not None:
        begin, end = when.between or (0, 24 * 60)
        found.append(During(when.days or EVERY_DAY, begin, end, timezone))
    if when.cron is not None:
        found.append(CronDue(when.cron, timezone, when.within))
    return found
