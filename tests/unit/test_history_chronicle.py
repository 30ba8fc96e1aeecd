"""What is gathered of published turns: states without gaps, causes, requests where they came, energy by use."""

from dataclasses import replace
from typing import Any

import pytest

from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Known, ModelSpec, Now, Settings
from sleepd.core.plan import Plan
from sleepd.core.record import ModelRecord
from sleepd.core.records import TaskEnded
from sleepd.core.seen import Activity, GpuSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.turn import Turn
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.history.chronicle import Chronicle
from sleepd.history.rows import HOUR_S, Batch, Interval, Kept, Result, bucket_of, percentile, seconds_of

WALL_S = 1_767_225_600.0  # a full hour
GIB = 1 << 30
GPU = "GPU-0"
FOOTPRINT = Footprint(awake={GPU: 47 * GIB}, asleep={GPU: GIB})
NAP = Cause(CauseKind.RULE, "nap")
OPERATOR = Cause(CauseKind.OPERATOR, "alice")


class Stage:
    """One or two models, a clock, and a chronicle that hears of what a test makes of them."""

    def __init__(self, *names: str, kept: Kept | None = None) -> None:
        self.mono_s = 500.0
        self.chronicle = Chronicle(kept)
        self.rows = Batch()
        self.world = World(Settings({}), {})
        self.number = 0
        self.entered = dict.fromkeys(names, 0)
        spec = {name: ModelSpec(name, f"http://{name}") for name in names}
        self.publish(**{name: ModelRecord(spec[name], placed_on=(GPU,), footprint=FOOTPRINT) for name in names})

    @property
    def now(self) -> Now:
        return Now(self.mono_s, WALL_S + self.mono_s - 500.0)

    def publish(self, *ended: TaskEnded, tasks: dict[str, Task] | None = None, **records: ModelRecord) -> None:
        gpus = Known((GpuSeen(GPU, 0, 80 * GIB, 30 * GIB),), self.mono_s, self.mono_s)
        after = replace(self.world, models={**self.world.models, **records}, tasks=tasks or {}, gpus=gpus)
        before, self.world = self.world, after
        self.chronicle.turned(Published(before, Turn(after, ended), self.now, 0.001))

    def become(self, name: str, state: State, *ended: TaskEnded, task: Task | None = None, **more: Any) -> None:
        life = Life(state, Weights.LOADED)
        record = replace(self.world.models[name], life=life, since_s=self.mono_s, since_wall_s=self.now.wall_s)
        self.publish(*ended, tasks={name: task} if task else {}, **{name: replace(record, **more)})

    def task(self, name: str, kind: TaskKind, cause: Cause) -> Task:
        self.number += 1
        return Task(self.number, name, kind, 1, cause, Plan(()), self.mono_s)

    def sleep(self, name: str, cause: Cause = NAP) -> None:
        task = self.task(name, TaskKind.SLEEP, cause)
        self.become(name, State.FALLING_ASLEEP, task=task)
        self.mono_s += 2
        self.become(name, State.ASLEEP_L1, TaskEnded(task, "asleep at level 1", self.now.wall_s, 2.0, True))

    def wake(self, name: str, cause: Cause = OPERATOR) -> None:
        task = self.task(name, TaskKind.WAKE, cause)
        self.become(name, State.WAKING, task=task)
        self.mono_s += 4
        self.become(name, State.AWAKE, TaskEnded(task, "awake", self.now.wall_s, 4.0, True))

    def sample(self, energy_j: dict[str, float] | None = None, after_s: float = 0.0) -> Batch:
        """Let time pass in steps as the daemon does, and return what is to be written."""
        while after_s > 0:
            step_s = min(5.0, after_s)
            self.mono_s += step_s
            after_s -= step_s
            self.chronicle.sample(self.world, self.entered.__getitem__, None, self.now)
        self.chronicle.sample(self.world, self.entered.__getitem__, energy_j, self.now)
        return self.chronicle.take(self.now)


def told(batch: Batch, name: str) -> list[tuple[str, float, float | None]]:
    last = {(i.model, i.since_wall_s): i for i in batch.intervals}
    found = [i for i in last.values() if i.model == name and i.until_wall_s != i.since_wall_s]
    ordered = sorted(found, key=lambda i: i.since_wall_s)
    return [(i.state, i.since_wall_s - WALL_S, i.until_wall_s and i.until_wall_s - WALL_S) for i in ordered]


def test_states_follow_one_another_without_a_gap_and_know_why() -> None:
    stage = Stage("a")
    stage.mono_s += 1
    stage.become("a", State.AWAKE)
    stage.mono_s += 9
    stage.sleep("a")
    stage.mono_s += 8
    stage.wake("a")
    batch = stage.sample()
    assert told(batch, "a") == [
        *(("unknown", 0.0, 1.0), ("awake", 1.0, 10.0), ("falling_asleep", 10.0, 12.0)),
        *(("asleep", 12.0, 20.0), ("waking", 20.0, 24.0), ("awake", 24.0, None)),
    ]
    asleep = next(i for i in batch.intervals if i.state == "asleep")
    assert (asleep.by, asleep.who, asleep.task, asleep.freed_bytes) == ("rule", "nap", 1, 46 * GIB)
    assert [(t.kind, t.result, t.who) for t in batch.transitions.values()] == [
        ("sleep", Result.DONE, "nap"),
        ("wake", Result.DONE, "alice"),
    ]
    nap = batch.spent[int(WALL_S), "a", "rule nap"]
    assert (nap.asleep_s, nap.wakes, nap.given_back) == (8.0, 1, 8.0 * 46 * GIB)
    assert batch.spent[int(WALL_S), "a", ""].awake_s == 9.0


def test_a_state_the_last_daemon_left_goes_on_with_its_cause() -> None:
    kept = Interval("a", "asleep", 1, "offloaded", WALL_S - 600, WALL_S - 5, "rule", "nap", 3)
    stage = Stage("a", kept=Kept({"a": kept}))
    stage.mono_s += 1
    since = {"since_s": 0.0, "since_wall_s": WALL_S - 600}
    stage.become("a", State.ASLEEP_L1, **since)
    batch = stage.sample(after_s=10)
    assert told(batch, "a") == [("asleep", -600.0, None)], "what it was called until it was looked at never was"
    assert batch.spent[int(WALL_S), "a", "rule nap"].asleep_s == 10.0


def test_a_state_that_began_anew_meanwhile_does_not() -> None:
    kept = Interval("a", "asleep", 1, "offloaded", WALL_S - 600, WALL_S - 5, "rule", "nap", 3)
    stage = Stage("a", kept=Kept({"a": kept}))
    stage.mono_s += 1
    stage.become("a", State.ASLEEP_L1)
    batch = stage.sample(after_s=10)
    assert told(batch, "a") == [("unknown", 0.0, 1.0), ("asleep", 1.0, None)]
    assert batch.spent[int(WALL_S), "a", "found"].asleep_s == 10.0


def test_time_is_counted_in_the_hour_in_which_it_passed() -> None:
    stage = Stage("a")
    stage.become("a", State.AWAKE)
    stage.mono_s += HOUR_S - 10
    stage.sample()  # too long ago to have been watched
    batch = stage.sample(after_s=20)
    hours = {hour: spent.awake_s for (hour, _, _), spent in batch.spent.items()}
    assert hours == {int(WALL_S): 5.0, int(WALL_S) + HOUR_S: 15.0}


def test_requests_that_waited_count_where_they_came() -> None:
    stage = Stage("a")
    stage.become("a", State.AWAKE)
    stage.sleep("a")
    stage.mono_s = 500.0 + 118
    stage.wake("a")
    for waited_s in (4.0, 70.0):
        stage.chronicle.waited(Held("a", waited_s, HeldEnd.SERVED), stage.now)
    stage.entered["a"] = 3  # and one that found it awake
    batch = stage.sample()
    assert {m - int(WALL_S): c.requests for (m, _), c in batch.minutes.items()} == {0: 1, 60: 1, 120: 1}
    wake = next(t for t in batch.transitions.values() if t.kind == "wake")
    assert (wake.served, wake.longest_wait_s) == (2, 70.0)
    served = {(by, end): n for (_, _, by, end, _), n in batch.waits.items()}
    assert served == {("rule nap", "served"): 1}, "each in a bucket of its own"
    assert sum(batch.waits.values()) == 2


def test_refused_and_impatient_ones_are_told_apart() -> None:
    stage = Stage("a")
    stage.become("a", State.AWAKE)
    stage.sleep("a")
    for end in (HeldEnd.REFUSED, HeldEnd.TIMED_OUT, HeldEnd.LEFT):
        stage.chronicle.waited(Held("a", 2.0, end), stage.now)
    batch = stage.sample()
    assert batch.spent[int(WALL_S), "a", "rule nap"].refused == 2
    assert sorted(end for (_, _, _, end, _) in batch.waits) == ["left", "refused", "timed_out"]
    assert not batch.minutes


def test_tokens_are_the_users_own() -> None:
    stage = Stage("a")
    stage.become("a", State.AWAKE)
    stage.become("a", State.AWAKE, used=Activity(700, 150, 2))
    (counts,) = stage.sample().minutes.values()
    assert (counts.requests, counts.finished, counts.prompt_tokens, counts.output_tokens) == (0, 2, 700, 150)
    assert not stage.sample().minutes, "once"


@pytest.mark.parametrize(
    ("outcome", "attempts", "result"),
    [
        ("refused: 60GiB do not fit", 0, Result.REFUSED),
        ("asleep again", 1, Result.FAILED),
        ("failed: no answer", 0, Result.FAILED),
        ("waits for b", 0, Result.ENDED),
    ],
)
def test_how_a_transition_came_out(outcome: str, attempts: int, result: Result) -> None:
    stage = Stage("a")
    stage.become("a", State.AWAKE)
    stage.sleep("a")
    task = stage.task("a", TaskKind.WAKE, OPERATOR)
    stage.become("a", State.WAKING, task=task)
    stage.become("a", State.ASLEEP_L1, TaskEnded(task, outcome, stage.now.wall_s, 0.0), attempts=attempts)
    batch = stage.sample()
    assert batch.transitions[task.id].result is result
    failures = {by: spent.failures for (_, _, by), spent in batch.spent.items() if by}
    assert failures == ({"rule nap": 1} if result is Result.FAILED else {}), "a report names whom it has something of"


def test_energy_is_shared_by_who_is_awake_on_the_gpu() -> None:
    stage = Stage("a", "b")
    stage.become("a", State.AWAKE)
    stage.become("b", State.AWAKE)
    stage.sample({GPU: 100.0})
    first = stage.sample({GPU: 160.0})
    assert first.energy_j == {(int(WALL_S), GPU): 60.0}
    assert {name: spent.energy_j for (_, name, _), spent in first.spent.items()} == {"a": 30.0, "b": 30.0}
    stage.sleep("b")
    second = stage.sample({GPU: 200.0})
    shares = {name: spent.energy_j for (_, name, by), spent in second.spent.items() if not by}
    assert shares["a"] == 40.0
    assert shares.get("b") is None
    assert not stage.sample({GPU: 5.0}).energy_j, "a count that began anew says nothing"


def test_bytes_are_written_when_they_moved_and_at_most_once_a_minute() -> None:
    stage = Stage("a")
    stage.become("a", State.AWAKE)
    first = stage.sample().vram
    assert {(gpu, name): held for (_, gpu, name), held in first.items()} == {(GPU, ""): 50 * GIB, (GPU, "a"): 47 * GIB}
    stage.sleep("a")
    assert not stage.sample(after_s=30).vram
    assert {name: held for (_, _, name), held in stage.sample(after_s=60).vram.items()} == {"a": GIB}
    assert not stage.sample(after_s=600).vram
    assert len(stage.sample(after_s=1800).vram) == 2


def test_a_model_that_is_managed_no_more_ends() -> None:
    stage = Stage("a", "b")
    stage.mono_s += 3
    before, stage.world = stage.world, replace(stage.world, models={"a": stage.world.models["a"]})
    stage.chronicle.turned(Published(before, Turn(stage.world), stage.now, 0.0))
    assert told(stage.sample(), "b") == [("unknown", 0.0, 3.0)]
    stage.mono_s += 1
    assert told(stage.chronicle.close(stage.now), "a") == [("unknown", 0.0, 4.0)]


def test_percentiles_are_within_five_percent() -> None:
    waits = [0.0005, 0.4, 1.0, 3.0, 3.1, 9.9, 100.0]
    buckets: dict[int, int] = {}
    for waited_s in waits:
        buckets[bucket_of(waited_s)] = buckets.get(bucket_of(waited_s), 0) + 1
        assert waited_s < 0.001 or abs(seconds_of(bucket_of(waited_s)) / waited_s - 1) <= 0.05
    assert percentile(buckets, 0.5) == pytest.approx(3.0, rel=0.05)
    assert percentile(buckets, 0.95) == pytest.approx(100.0, rel=0.05)
    assert percentile({}, 0.5) is None


def test_a_model_that_is_managed_again_brings_no_request_twice() -> None:
    stage = Stage("a", "b")
    stage.entered["a"] = 7
    assert sum(counts.requests for counts in stage.sample().minutes.values()) == 7
    record, before = stage.world.models["a"], stage.world
    stage.world = replace(before, models={"b": before.models["b"]})
    stage.chronicle.turned(Published(before, Turn(stage.world), stage.now, 0.0))
    stage.publish(a=record)
    stage.entered["a"] = 9
    assert sum(counts.requests for counts in stage.sample().minutes.values()) == 2


def test_a_model_that_is_stopped_gives_back_all_it_held() -> None:
    stage = Stage("a")
    stage.become("a", State.STOPPED)
    batch = stage.sample(after_s=10)
    assert told(batch, "a")[-1][0] == "stopped"
    assert sum(spent.given_back for spent in batch.spent.values()) == 10.0 * 47 * GIB
