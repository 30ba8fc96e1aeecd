"""The bodies of the socket API: their shapes as types, and how they are made of the world."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from sleepd.wire.bodies import (
    answer_body,
    event_body,
    explain_body,
    find_task,
    gpu_body,
    hold_body,
    holds_body,
    host_body,
    model_body,
    refusal_body,
    status_body,
    task_body,
    tasks_body,
    unread_models,
)
from sleepd.wire.history import buckets_body, history_body, report_body, timeline_body
from sleepd.wire.plans import plan_body
from sleepd.wire.problems import PROBLEMS, problem_body
from sleepd.wire.reservations import reservation_body, reservations_body
from sleepd.wire.values import format_time

Json: TypeAlias = Mapping[str, Any]

__all__ = [
    "PROBLEMS",
    "Json",
    "answer_body",
    "buckets_body",
    "event_body",
    "explain_body",
    "find_task",
    "format_time",
    "gpu_body",
    "history_body",
    "hold_body",
    "holds_body",
    "host_body",
    "model_body",
    "plan_body",
    "problem_body",
    "refusal_body",
    "report_body",
    "reservation_body",
    "reservations_body",
    "status_body",
    "task_body",
    "tasks_body",
    "timeline_body",
    "unread_models",
]
