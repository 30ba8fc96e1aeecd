"""The line that `systemctl status` shows."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, gpus, record, world

from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason
from sleepd.core.task import UNIT_TASKS, Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.world import World
from sleepd.service.status import NAMES_LIMIT, status_line


def with_task(made: World, name: str, kind: TaskKind, level: int) -> World:
    task = Task(1, name, kind, level, Cause(CauseKind.OPERATOR, "root"), (), 0.0)
    return replace(made, tasks={**made.tasks, name: task})


def test_it_counts_models_and_says_what_is_free() -> None:
    made = world(record("a"), record("b", ASLEEP), record("c", Life(State.ASLEEP_L2, Weights.BLANK)), free=41 * GIB)
    assert status_line(made) == "1 awake, 2 asleep, 41GiB free"


def test_it_says_what_goes_on_and_what_failed() -> None:
    failed = record("f", Life(State.FAILED, Weights.DOUBTFUL))
    made = replace(world(record("a"), record("qwen3-32b", ASLEEP), failed), gpus=gpus(3 * GIB))
    made = with_task(with_task(made, "qwen3-32b", TaskKind.WAKE, 0), "a", TaskKind.SLEEP, 1)
    assert status_line(made) == (
        "1 awake, 1 asleep, 3GiB free; putting to sleep at level 1: a; waking qwen3-32b; failed or lost: f"
    )


def test_it_says_nothing_of_memory_that_it_cannot_read() -> None:
    made = replace(world(record("a")), gpus=Missing(MissingReason.NOT_YET))
    assert status_line(made) == "1 awake, 0 asleep"


@pytest.mark.parametrize(("count", "told"), [(0, ""), (NAMES_LIMIT + 3, " and 3 more")])
def test_it_stays_one_line_however_many_fail(count: int, told: str) -> None:
    models = [record(f"m{number}", Life(State.LOST, Weights.DOUBTFUL)) for number in range(count)]
    line = status_line(world(record("a", AWAKE), *models))
    assert line.endswith(told)
    assert len(line) < 120


def test_it_says_where_there_is_nothing_to_do() -> None:
    assert status_line(world()) == "no models are configured"


def test_every_kind_of_task_has_its_verb() -> None:
    for kind in TaskKind:
        line = status_line(with_task(world(record("a")), "a", kind, 1))
        assert line.endswith("ing a" if kind in UNIT_TASKS | {TaskKind.WAKE} else " a")
        assert kind in (TaskKind.SLEEP, TaskKind.WAKE) or "sleep at" not in line
