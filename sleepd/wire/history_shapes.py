"""What questions to history are answered with, as types: see shapes."""

from typing import Literal

from sleepd.core.model import CauseKind
from sleepd.core.task import TaskKind
from sleepd.wire.shapes import Level, Shape, State, Time


class StateSpan(Shape):
    """A model was in one state."""

    model: str
    """which model"""
    state: State
    """as in Model"""
    level: Level
    """as in Model"""
    weights: str
    """where its weights were at the end: `loaded`, `offloaded`, `blank` or `doubtful`"""
    since: Time
    """when it began"""
    until: Time | None
    """when it ended; null: it goes on. After a crash of the daemon: the last moment that is known of"""
    by: CauseKind | None
    """what put it there; null: it was found so"""
    who: str
    """the rule, the caller, the model that needed the room"""
    task: int | None
    """the task that did it"""
    freed_bytes: int | None
    """asleep: what it gives back on all its GPUs, as measured, else as declared"""


class MinuteRequests(Shape):
    """Requests of a model in one minute. Minutes without any have no row."""

    model: str
    """which model"""
    minute: Time
    """when it began"""
    requests: int
    """that came through the gateway, by their arrival"""
    finished: int
    """by the server's own counter, direct ones too, our questions left out"""
    prompt_tokens: int
    """of these, by the server's own counter"""
    output_tokens: int
    """of these, by the server's own counter"""


class TaskSpan(Shape):
    """A task that is over."""

    task: int
    """its id"""
    model: str
    """whose task it was"""
    kind: TaskKind
    """what was done"""
    level: int
    """the level slept at or woken from"""
    by: CauseKind
    """why"""
    who: str
    """the rule, the caller, the model that needed the room"""
    began: Time
    """when it began"""
    ended: Time
    """when it ended"""
    seconds: float
    """how long it took"""
    result: Literal["done", "refused", "failed", "ended"]
    """`ended`: neither, it was not wanted any more or waits for something"""
    outcome: str
    """the same as a sentence"""
    victims: list[str]
    """who was put to sleep for it"""
    served: int
    """requests that the gateway had held for it and let in then"""
    longest_wait_s: float | None
    """of these, the longest"""


class VramSample(Shape):
    """Bytes held on a GPU from this minute on, until the next sample of the same."""

    minute: Time
    """when"""
    gpu: str
    """its uuid"""
    model: str | None
    """whose; null: of everybody together"""
    held_bytes: int
    """as last measured in the state it was in"""


class History(Shape):
    """What happened in a span of time, in its order."""

    states: list[StateSpan]
    """every state; on the first page also those that had begun before"""
    requests: list[MinuteRequests]
    """by minute and model"""
    wakes: list[TaskSpan]
    """wakes that began in the span"""
    tasks: list[TaskSpan]
    """all other tasks that began in the span: sleeps, proofs, starts, stops, restarts"""
    vram: list[VramSample]
    """written when it moved by 64 MiB, and every half hour"""
    next: str | None
    """null: this is all; else ask again with it as `next`, and all else as before"""


class HistoryBucket(Shape):
    """What one model did in one step of time."""

    model: str
    """which model"""
    start: Time
    """when the step began"""
    requests: int
    """as in MinuteRequests"""
    finished: int
    """as in MinuteRequests"""
    prompt_tokens: int
    """as in MinuteRequests"""
    output_tokens: int
    """as in MinuteRequests"""
    awake_s: float
    """how long it was awake"""
    asleep_s: float
    """how long it was asleep or stopped"""
    other_s: float
    """how long it was anything else"""
    given_back_gib_h: float
    """GPU memory given back: GiB times hours"""
    wakes: int
    """that came about"""
    failures: int
    """sleeps and wakes that the engine did not do"""
    refused: int
    """requests that waited and were refused, or waited too long"""
    energy_j: float | None
    """its share of what its GPUs took while it was awake; null: nobody told"""


class HistoryBuckets(Shape):
    """A span of time in steps. Steps in which nothing is on record have no row."""

    step_s: int
    """how long a step is"""
    buckets: list[HistoryBucket]
    """by start and model"""


class ReportRow(Shape):
    """A model, or what put models to sleep, over a span of time."""

    name: str
    """the model, or `rule NAME`, `operator`, `victim` …; `found`: it was found asleep"""
    given_back_gib_h: float
    """GPU memory given back: GiB times hours"""
    asleep_s: float
    """how long models were asleep or stopped"""
    unmeasured_s: float
    """of this, how long without knowing what is given back"""
    awake_s: float
    """how long it was awake; 0 in rows that are no model"""
    requests: int
    """through the gateway; 0 in rows that are no model"""
    wakes: int
    """that came about; of what put it to sleep: those that ended its sleeps"""
    waits: int
    """requests that the gateway held and then let in"""
    wait_p50_s: float | None
    """half of them waited no longer; within five percent"""
    wait_p95_s: float | None
    """95 of 100 waited no longer"""
    refused: int
    """requests that waited and were refused, or waited too long"""
    failures: int
    """sleeps and wakes that the engine did not do"""
    energy_j: float | None
    """its share of what its GPUs took while it was awake; null: nobody told"""


class GpuEnergy(Shape):
    """What a GPU took."""

    gpu: str
    """its uuid"""
    energy_j: float
    """as NVML tells it"""


class HistoryReport(Shape):
    """A span of time, added up in whole hours."""

    since: Time
    """the hour in which it begins: the one of `from`, or the first on record"""
    until: Time
    """when it ends"""
    total: ReportRow
    """of all models"""
    models: list[ReportRow]
    """by name"""
    by: list[ReportRow]
    """by what put models to sleep, most given back first"""
    gpus: list[GpuEnergy]
    """those of which NVML told energy or power"""


class TimelineModel(Shape):
    """What one model was in, as it is drawn."""

    model: str
    """its name"""
    runs: list[list[int]]
    """[second of the span, index into `states`, index into `causes`]: so it is until the next run begins"""


class TimelineGpu(Shape):
    """What was in use on one GPU, as it is drawn."""

    gpu: str
    """its uuid"""
    points: list[list[int]]
    """[second of the span, bytes]: so it is until the next point; of a step the most"""


class Timeline(Shape):
    """A span of time as it is drawn."""

    since: Time
    """its begin: what seconds are counted from"""
    until: Time
    """its end"""
    step_s: int
    """how fine it is"""
    states: list[str]
    """words for states: "awake", "asleep 1", "asleep 2", …; "" for what is not on record"""
    causes: list[str]
    """words for causes: "rule nap", "request alice", …; "" where it was found so"""
    models: list[TimelineModel]
    """by name"""
    gpus: list[TimelineGpu]
    """by uuid"""
