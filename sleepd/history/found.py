"""What questions to history are answered with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sleepd.core.units import Bytes, WallS
from sleepd.history.rows import Counts, Interval, Spent, Transition


class HistoryUnreadable(Exception):
    """There is no history to be had; the message says why, and what to do."""


class WrongQuestion(ValueError):
    """The question cannot be answered; the message says what was wanted and what was found."""


@dataclass(frozen=True, slots=True)
class Span:
    """From a moment to before another, for models by name; `patterns` empty: for all."""

    from_wall_s: WallS
    to_wall_s: WallS
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MinuteRow:
    minute: int
    model: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class VramRow:
    """`model` "": all of the GPU that was in use."""

    minute: int
    gpu: str
    model: str
    held_bytes: Bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a span in the order of time, at most so many of each kind. `next` "": there are no more."""

    intervals: tuple[Interval, ...] = ()
    minutes: tuple[MinuteRow, ...] = ()
    transitions: tuple[Transition, ...] = ()
    vram: tuple[VramRow, ...] = ()
    next: str = ""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What one model did within `step_s` from `start` on."""

    start: int
    model: str
    counts: Counts
    spent: Spent


@dataclass(slots=True)
class Totals:
    """A span added up: of a model, or of what put models to sleep. `waits`: those who were let in, by bucket."""

    counts: Counts = field(default_factory=Counts)
    spent: Spent = field(default_factory=Spent)
    waits: dict[int, int] = field(default_factory=dict)


ByName: TypeAlias = Mapping[str, Totals]


@dataclass(frozen=True, slots=True)
class Report:
    """Whole hours, from the one in which the span begins. `by` goes by `put_by`: "rule nap", "request", "operator" …
    `gpus_j`: what each GPU took, where NVML told. `since`: the first hour on record, None where there is none."""

    span: Span
    since: int | None
    models: ByName
    by: ByName
    gpus_j: Mapping[str, float]
