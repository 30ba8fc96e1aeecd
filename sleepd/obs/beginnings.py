"""Which counters are there before they first count: where a series begins with 1, nobody sees that it was 0 before, and
an alert on its increase comes one failure late.

Bounded by what there is: 32 series for a model, 74 where it has a unit, level 2 and `prime`.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from sleepd.core.model import CauseKind, ModelSpec
from sleepd.core.task import TaskKind

_Causes: TypeAlias = Mapping[TaskKind, tuple[CauseKind, ...]]

_CAUSES: _Causes = {
    TaskKind.SLEEP: (CauseKind.RULE, CauseKind.OPERATOR, CauseKind.VICTIM, CauseKind.RESERVATION),
    TaskKind.WAKE: (CauseKind.REQUEST, CauseKind.OPERATOR, CauseKind.RULE, CauseKind.RECOVERY),
}
_ON_UNITS: _Causes = {
    TaskKind.START: (CauseKind.REQUEST, CauseKind.OPERATOR, CauseKind.RULE, CauseKind.RECOVERY),
    TaskKind.STOP: (CauseKind.OPERATOR, CauseKind.RULE, CauseKind.RECOVERY),
    TaskKind.RESTART: (CauseKind.OPERATOR, CauseKind.RECOVERY),
}
_ENDS = ("done", "failed")

REQUEST_OUTCOMES = (
    *("2xx", "4xx", "5xx", "broken", "client_left", "timeout", "queue_full", "unreachable", "bad_upstream"),
    *("engine_failed", "failed", "no_room"),
)
"""What mostly becomes of a request at the gateway. Other refusals begin to be counted when they come."""


def transitions_of(spec: ModelSpec) -> Iterator[tuple[str, str, str, str]]:
    """Kind, level, cause and outcome of every transition that is to be expected of the model."""
    for cause in (CauseKind.CHECK, CauseKind.RECOVERY):
        yield from _each(TaskKind.PROVE, 0, cause)
    for kind, causes in _CAUSES.items():
        for cause in (*causes, *((CauseKind.PRIME,) if spec.prime else ())):
            yield from _each(kind, 1, cause)
        for cause in (*causes, CauseKind.CHECK) if spec.max_level == 2 else ():
            yield from _each(kind, 2, cause)
    if spec.unit:
        for kind, causes in _ON_UNITS.items():
            for cause in causes:
                yield from _each(kind, 0, cause)


def _each(kind: TaskKind, level: int, cause: CauseKind) -> Iterator[tuple[str, str, str, str]]:
    for outcome in _ENDS:
        yield kind.value, str(level), cause.value, outcome
