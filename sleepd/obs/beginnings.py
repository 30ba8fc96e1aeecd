"""Which counters are there before they first count: where a series begins with 1, nobody sees that it was 0 before, and
an alert on its increase comes one failure late.

Bounded by what there is: 20 series for a model, 41 where it has a unit, level 2 and `prime`.
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
REQUEST_FAILURES = (
    *("4xx", "5xx", "broken", "timeout", "queue_full", "unreachable", "bad_upstream"),
    *("engine_failed", "failed", "no_room"),
)
"""How requests mostly fail at the gateway. Everything else begins to be counted when it comes."""


def failures_of(spec: ModelSpec) -> Iterator[tuple[str, str, str, str]]:
    """Kind, level, cause and outcome of every transition of the model that is to be expected, where it fails."""
    for cause in (CauseKind.CHECK, CauseKind.RECOVERY):
        yield _failure(TaskKind.PROVE, 0, cause)
    for kind, causes in _CAUSES.items():
        for cause in (*causes, *((CauseKind.PRIME,) if spec.prime else ())):
            yield _failure(kind, 1, cause)
        for cause in (*causes, CauseKind.CHECK) if spec.max_level == 2 else ():
            yield _failure(kind, 2, cause)
    if spec.unit:
        for kind, causes in _ON_UNITS.items():
            for cause in causes:
                yield _failure(kind, 0, cause)


def _failure(kind: TaskKind, level: int, cause: CauseKind) -> tuple[str, str, str, str]:
    return kind.value, str(level), cause.value, "failed"
