"""A state database in memory, for shells without a disk: the same records, all of a batch or none."""

from collections.abc import Sequence
from dataclasses import replace

from sleepd.core.records import (
    EngineProven,
    ModelSaved,
    Record,
    ReservationDropped,
    ReservationSaved,
    RuleSaved,
    Saved,
    TaskEnded,
    TaskSaved,
)
from sleepd.core.world import TASKS_KEPT


def apply_records(saved: Saved, records: Sequence[Record]) -> Saved:
    """What the database holds after these records."""
    models, tasks, proven, rules = dict(saved.models), dict(saved.tasks), set(saved.proven), dict(saved.rules)
    next_task, ended, reservations = saved.next_task, saved.ended, dict(saved.reservations)
    for record in records:
        if isinstance(record, ModelSaved):
            models[record.name] = record
        elif isinstance(record, TaskSaved):
            tasks[record.task.model] = record.task
            next_task = max(next_task, record.task.id + 1)
        elif isinstance(record, TaskEnded):
            if record.task.model in tasks and tasks[record.task.model].id == record.task.id:
                del tasks[record.task.model]
            next_task = max(next_task, record.task.id + 1)
            ended = (*ended, record)[-TASKS_KEPT:]
        elif isinstance(record, RuleSaved):
            rules[(record.rule, record.model)] = record
        elif isinstance(record, EngineProven):
            proven.add(record.key)
        elif isinstance(record, ReservationSaved):
            reservations[record.reservation.id] = record.reservation
        elif isinstance(record, ReservationDropped):
            reservations.pop(record.id, None)
    return replace(
        saved,
        models=models,
        tasks=tasks,
        proven=frozenset(proven),
        next_task=next_task,
        ended=ended,
        rules=rules,
        reservations=reservations,
    )
