"""The world: everything the daemon believes, as one immutable value that only `step` replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from sleepd.core.activity import Owed
from sleepd.core.calendar import Calendar
from sleepd.core.footprint import Footprint
from sleepd.core.life import LEVEL, PUBLIC, Life, State, Weights
from sleepd.core.model import (
    Activity,
    Cause,
    CauseKind,
    ControlCounts,
    EngineFacts,
    Failure,
    Fingerprint,
    GpusSeen,
    HostSeen,
    Missing,
    MissingReason,
    ModelSeen,
    ModelSpec,
    Reading,
    Settings,
)
from sleepd.core.plan import Plan, Verb
from sleepd.core.unit import UnitSeen
from sleepd.core.units import Bytes, MonotonicS, Seconds, WallS

HOST_LOCK = "host"
"""The claim that every level 1 sleep and every reload takes beside its GPUs: both move weights through host RAM."""

WAITERS_LIMIT = 1024
"""Callers that may wait for one model; one more is refused."""
RESERVATIONS_LIMIT = 64
"""Reservations that may stand or wait at once; one more is refused."""
HOLDS_LIMIT = 256
"""Holds that may keep one model awake; one more is refused."""
TASKS_KEPT = 1000
"""Tasks that came to their end and are still told."""


class TaskKind(StrEnum):
    SLEEP = "sleep"
    WAKE = "wake"
    PROVE = "prove"
    START = "start"
    RESTART = "restart"
    STOP = "stop"


UNIT_TASKS = frozenset({TaskKind.START, TaskKind.RESTART, TaskKind.STOP})
"""Tasks on a server's unit: the server itself need not answer for them to go on."""
LIFTS = frozenset({TaskKind.START, TaskKind.RESTART})


class Phase(StrEnum):
    """DO goes forward; UNDO puts half-done work back; FENCE finds out what an unanswered call did; CUT ends the direct
    requests that a sleep waits for."""

    DO = "do"
    UNDO = "undo"
    FENCE = "fence"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Intent:
    """What was true when a step's call left: what recovery compares with what it finds afterwards."""

    incarnation: str | None
    control: ControlCounts | None
    used_by_gpu: Mapping[str, Bytes] = field(default_factory=dict)
    wall_s: WallS = 0.0
    kept_bytes: Bytes | None = None
    """Anon and shmem of its own cgroup: backups show as growth of them."""
    invocation: str = ""
    """The start of the unit that is to be ended; another one is left alone."""


@dataclass(frozen=True, slots=True)
class Task:
    """One sleep, wake or proof in progress. `cursor` is the step now running; `victims` sleep before it starts.

    `claims` are GPU uuids and HOST_LOCK, taken all in one turn; a victim's task runs under its parent's claims.
    """

    id: int
    model: str
    kind: TaskKind
    level: int
    cause: Cause
    plan: Plan
    started_s: MonotonicS
    cursor: int = 0
    phase: Phase = Phase.DO
    attempt: int = 0
    """How often the current step was sent again, for whatever reason."""
    uncounted: tuple[Verb, ...] = ()
    """Calls of ours that left and that no page of counters has shown yet; whatever else moves them is a stranger's."""
    rest: Mapping[str, Bytes] = field(default_factory=dict)
    """What the last stage of its wake still takes, by GPU, as of the stage before; where that is known."""
    refusals: int = 0
    """How often the engine refused the current step's call, over restarts of the daemon too: what a recipe counts."""
    claims: frozenset[str] = frozenset()
    parent: int | None = None
    victim: str | None = None
    chosen: str = ""
    """How the victim was chosen, as a sentence."""
    slept: tuple[str, ...] = ()
    """Victims this task has put to sleep: they are woken again should it fail."""
    intent: Intent | None = None
    resume_s: MonotonicS | None = None
    """When the task pauses: its next attempt. While a call is out: when to look whether direct requests hold it up."""
    running: bool = False
    """A step's call is out: its end is awaited."""
    called_s: MonotonicS | None = None
    """When its first call left: what comes before, room that is made, is not what a wake takes."""
    sent_s: MonotonicS = 0.0
    """When the current step's call left; a fence and a cut belong to the call they follow."""
    forced: bool = False
    """Force asked for this sleep: direct requests may not hold it up for long."""
    drained: Activity | None = None
    """The counters of direct requests that a sleep waits for, as they last moved, at `drained_s`."""
    drained_s: MonotonicS = 0.0


class AskKind(StrEnum):
    WAKE = "wake"
    SLEEP = "sleep"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Waiter:
    """A caller who gets exactly one answer, at `deadline_s` at the latest."""

    id: int
    ask: AskKind
    cause: Cause
    asked_s: MonotonicS
    deadline_s: MonotonicS
    level: int = 0
    force: bool = False
    drain_until_s: MonotonicS = 0.0
    via_wake: bool = False
    """A sleeper that is to sleep deeper may be woken for it first."""
    silent: bool = False
    """Its answer went out when it was accepted; only its wish is left."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Keeps a model awake while somebody needs it: only force puts it to sleep.

    It lets go at `until_s`; None: it is attached to the open stream that the ask `stream` began.
    """

    id: str
    uid: int
    who: str
    reason: str
    since_wall_s: WallS
    ttl_s: Seconds | None
    until_s: MonotonicS | None
    until_wall_s: WallS | None
    stream: int | None = None


@dataclass(frozen=True, slots=True)
class LastWake:
    seconds: Seconds
    action: str
    ok: bool
    task_id: int | None = None


@dataclass(frozen=True, slots=True)
class Stopped:
    """We stopped its unit, for `cause`: the next wake starts it. `invocation` names the start of the unit that ended
    then; another one means that somebody started it since."""

    cause: Cause
    invocation: str = ""


@dataclass(frozen=True, slots=True)
class Belief:
    """What the state database said of the same incarnation; a first look confirms or voids it."""

    life: Life
    incarnation: str | None
    control: ControlCounts | None
    since_s: MonotonicS | None = None
    """Since when it was so, where a former daemon knew."""
    since_wall_s: WallS = 0.0


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Everything believed of one model. `settled_s`: readings asked before it prove nothing about the model."""

    spec: ModelSpec
    life: Life = Life(State.UNKNOWN, Weights.DOUBTFUL)
    since_s: MonotonicS = 0.0
    since_wall_s: WallS = 0.0
    seen: Reading[ModelSeen] = Missing(MissingReason.NOT_YET)
    unit_read_s: MonotonicS = 0.0
    """When the look was asked that `unit_memory` is from: not every look reads it."""
    failed_polls: int = 0
    facts: EngineFacts | None = None
    incarnation: str | None = None
    belief: Belief | None = None
    control: ControlCounts | None = None
    control_before: ControlCounts | None = None
    """Before our own last wake, where that was counted unseen: a page may lag behind it."""
    activity: Activity | None = None
    used: Activity = Activity()
    """What users moved of the server's counters while this daemon looked, over its incarnations: our questions are left
    out."""
    in_flight: int = 0
    entered: int = 0
    """Requests its gate had let in as of the last look."""
    last_active_s: MonotonicS = 0.0
    awake_since_s: MonotonicS = 0.0
    settled_s: MonotonicS = 0.0
    placed_on: tuple[str, ...] = ()
    """GPU uuids where its processes were seen holding memory."""
    waiters: tuple[Waiter, ...] = ()
    fingerprint: Fingerprint | None = None
    owed: Owed = Owed()
    """What our own questions moved, or may have moved, of counters not yet seen."""
    not_provable: str = ""
    """Why this incarnation has no known answer, as it was found when one was asked for."""
    direct_not_before_s: MonotonicS = 0.0
    """No direct connection makes a wish before this moment."""
    direct_missing: str = ""
    """Why direct connections cannot be seen, as it was told."""
    unverified: bool = False
    """It serves since a wake whose weights no answer has shown yet: it is asked as soon as that disturbs nobody."""
    footprint: Footprint = Footprint()
    """What was learned of this incarnation."""
    prior: Footprint = Footprint()
    """What was learned of earlier incarnations of the same size."""
    failure: Failure | None = None
    attempts: int = 0
    """Tasks in a row that ended in a failure of the engine."""
    cooldown_until_s: MonotonicS = 0.0
    """After a failure, nothing but a person's wish starts a transition before this moment."""
    not_before_s: MonotonicS = 0.0
    """No rule starts a transition before this moment: after a failure or an overtaken drain."""
    hold_down_until_s: MonotonicS = 0.0
    frees_nothing: bool = False
    checking: bool = False
    """A level 2 check (sleep at level 2, wake with reload, compare) is under way."""
    checksums: str = ""
    """The digest over all weights' checksums before the sleep of the level 2 check that is, or was last, under way."""
    check_failed: str = ""
    owed_wake: Cause | None = None
    """We put it to sleep for something that is over (a check, a wake that failed): it is to be woken again."""
    made_room: tuple[str, ...] = ()
    """Who was put to sleep for a wish that still waits: woken again should it come to nothing."""
    holds: tuple[Hold, ...] = ()
    pin: bool | None = None
    """What an operator said at run time; None: as configured."""
    wanted_by: str = ""
    """The rule that wants this sleeper awake now."""
    last_wake: LastWake | None = None
    listed_s: MonotonicS = -1.0
    """When processes on the GPUs were last listed for it; lists hold a driver-wide lock and are asked for rarely."""
    prime_failed: bool = False
    """A sleep that was to make later ones fast did not come about: not tried again in this incarnation."""
    restart_wanted: str = ""
    """Why a restart in a quiet moment would do it good, as a sentence; it is no failure."""
    unit: Reading[UnitSeen] = Missing(MissingReason.NOT_YET)
    served_as: str = ""
    """The start of its unit (InvocationID) that it was last seen to answer in."""
    told_to_stop: str = ""
    """The start of its unit that somebody else was seen to stop."""
    stopped: Stopped | None = None
    """Who stopped its unit, where that was us; None while it is stopped: a person did, and only a person starts it."""
    start_wanted: Cause | None = None
    """A person wants its unit started."""
    restart_due: str = ""
    """Why its unit is to be restarted, as a sentence."""
    restarts_s: tuple[MonotonicS, ...] = ()
    """When we restarted its unit within the last hour."""
    restarts_spent: bool = False
    """No more restarts of ours before a reset, or before a new incarnation serves."""
    reason: str = "not looked at yet"

    @property
    def learned(self) -> Footprint:
        """What was learned of this incarnation, and where it taught nothing yet, of earlier ones."""
        return self.footprint.over(self.prior) if self.prior.under else self.footprint


@dataclass(frozen=True, slots=True)
class Reservation:
    """GPU bytes kept free for somebody's job, on all of its GPUs or on none.

    It lets go at `until_s`; None: it is attached to the open stream that the ask `stream` began, or not granted yet.
    """

    id: str
    who: str
    uuids: tuple[str, ...]
    bytes_per_gpu: Bytes
    unmanaged: Mapping[str, Bytes | None] = field(default_factory=dict)
    """What neither we manage nor the job held on each GPU at the grant; None where that could not be told."""
    uid: int = 0
    reason: str = ""
    gpus: tuple[str, ...] = ()
    """The GPUs as they were asked for."""
    pids: tuple[int, ...] = ()
    """The job's process tree when it asked: what that holds already need not be found."""
    managed: tuple[int, ...] = ()
    """Processes of our servers at the grant: after a restart these are known before their servers were looked at."""
    granted: bool = True
    """The bytes were seen free, and are kept since. Before that, nobody else gets them either."""
    asked_s: MonotonicS = 0.0
    since_wall_s: WallS = 0.0
    """When it was asked for: the oldest gets its room first."""
    ttl_s: Seconds | None = None
    """How long it lasts from its grant on; None: as long as its stream."""
    until_s: MonotonicS | None = None
    until_wall_s: WallS | None = None
    stream: int | None = None
    waiter: int | None = None
    """The caller who waits for its grant."""
    deadline_s: MonotonicS = 0.0
    """When its caller gives up, and with it the reservation, should it not be granted before."""
    aside: tuple[str, ...] = ()
    """Models that were put to sleep for it: they are woken again when it ends."""
    waits_for: str = ""
    """What its grant waits for, as a sentence."""
    problem: str = ""
    """What its caller is told whose time runs out while it waits for that."""


RuleKey: TypeAlias = tuple[str, str]
"""A rule's name and a model: there is at most one such rule."""


@dataclass(frozen=True, slots=True)
class Window:
    """Requests seen since `since_s`: (number, count) of the buckets that are not empty, oldest first.

    A bucket is a 120th of the window; its number is the moment divided by its length.
    """

    since_s: MonotonicS
    buckets: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Relief:
    """A sleeper that a rule stopped for its RAM, and how the host was before: what it gave back is measured."""

    rule: str
    model: str
    host: HostSeen
    kept_bytes: Bytes | None


@dataclass(frozen=True, slots=True)
class DetectorMemory:
    """What rules remember between turns."""

    held_since_s: Mapping[RuleKey, MonotonicS] = field(default_factory=dict)
    """Since when all conditions of a rule with `for` were seen to hold."""
    crossed: frozenset[tuple[str, str, int]] = frozenset()
    """Rule, model and condition whose threshold was crossed and has not let go yet."""
    windows: Mapping[RuleKey, Window] = field(default_factory=dict)
    achieved: frozenset[RuleKey] = frozenset()
    """Wake rules whose wish came true while they hold: they wish nothing more before they held no longer."""
    dealt_with: Mapping[RuleKey, WallS] = field(default_factory=dict)
    """The last moment of a `cron` at which what the rule wants was achieved."""
    acts: Mapping[RuleKey, tuple[MonotonicS, ...]] = field(default_factory=dict)
    """When the rule began something with the model, the last few times."""
    relief: Relief | None = None
    told: frozenset[tuple[str, str, str]] = frozenset()
    """What was said of a rule and a model, once, and need not be said again until the rule lets go."""


@dataclass(frozen=True, slots=True)
class World:
    settings: Settings
    models: Mapping[str, ModelRecord]
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """Running tasks by model name: a model has at most one."""
    gpus: Reading[GpusSeen] = Missing(MissingReason.NOT_YET)
    host: Reading[HostSeen] = Missing(MissingReason.NOT_YET)
    memory: DetectorMemory = DetectorMemory()
    calendar: Calendar = Calendar()
    missed_polls: tuple[int, int] = (0, 0)
    """How many readings of the GPUs and of the host failed in a row."""
    proven: frozenset[str] = frozenset()
    """Engines (release and arguments) whose level 2 cycle was checked and passed."""
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    next_task: int = 1
    leaving: bool = False
    """Sleepers are being woken before the daemon ends: nothing is put to sleep by itself any more."""
    stopping: bool = False


def public_state(world: World, name: str) -> str:
    """The contract's name of a model's state. A failed call that is to be repeated or undone within seconds is no
    failure yet: while a task goes on with a broken engine, it is what that task makes of it."""
    state, task = world.models[name].life.state, world.tasks.get(name)
    if state is not State.BROKEN or task is None:
        return PUBLIC[state]
    return PUBLIC[State.FALLING_ASLEEP if task.kind is TaskKind.SLEEP else State.WAKING]


def is_pinned(record: ModelRecord) -> bool:
    """Whether nothing but force may put the model to sleep: said at run time, else configured."""
    return record.spec.pinned if record.pin is None else record.pin


def is_wanted_awake(record: ModelRecord) -> bool:
    """Whether anybody wants this sleeper awake: a caller, a rule, a debt of ours, or who wants it to sleep deeper."""
    if record.owed_wake or record.wanted_by:
        return True
    return any(w.ask is AskKind.WAKE or wants_deeper(record, w) for w in record.waiters)


def wants_deeper(record: ModelRecord, waiter: Waiter) -> bool:
    """Whether this caller waits for a sleeper to be woken, so that it can sleep deeper."""
    return waiter.via_wake and waiter.level > (LEVEL[record.life.state] or 0)


def is_start_wanted(record: ModelRecord) -> bool:
    """Whether its unit is to be started or restarted: owed after a failure, wanted by a person, or wanted awake by
    anybody while it is stopped by us."""
    if record.life.state is State.STOPPED:
        ours = record.stopped is not None and (
            record.stopped.cause.kind is CauseKind.RECOVERY or is_wanted_awake(record)
        )
        return record.start_wanted is not None or ours
    return record.life.state in (State.FAILED, State.LOST) and bool(record.restart_due or record.start_wanted)


def proof_key(facts: EngineFacts) -> str:
    """What a passed level 2 check is remembered under: release, model and arguments."""
    return f"{facts.version} {facts.model_path} {facts.arguments_hash}"
