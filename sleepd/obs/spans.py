"""A trace as plain data: what an exporter is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sleepd.core.units import WallS

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """`traceparent`: the context of whoever asked, from outside (W3C Trace Context); empty where there is none."""

    name: str
    begin_wall_s: WallS
    end_wall_s: WallS
    attributes: Mapping[str, Value] = field(default_factory=dict)
    children: Sequence["Span"] = ()
    error: str = ""
    traceparent: str = ""
