"""The world: everything the daemon believes, as one immutable value that only `step` replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from sleepd.core.calendar import Calendar
from sleepd.core.life import PUBLIC, State
from sleepd.core.model import Missing, MissingReason, Reading, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.reservation import Reservation
from sleepd.core.seen import EngineFacts, GpusSeen, HostSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import Bytes, MonotonicS, WallS

TASKS_KEPT = 1000
"""Tasks that came to their end and are still told."""


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
    given_back_s: MonotonicS = 0.0
    """When a reservation ended last: a reading asked before may still show what its job held."""
    next_task: int = 1
    leaving: bool = False
    """Sleepers are being woken before the daemon ends: nothing is put to sleep by itself any more."""
    stopping: bool = False


def public_state(world: World, name: str) -> str:
    """The contract's name of a model's state. A failed call that is to be repeated or undone within seconds is no
    failure yet: while a task goes on with a broken engine, it is what that task makes of it. A model whose turn is over
    drains."""
    record, task = world.models[name], world.tasks.get(name)
    state = record.life.state
    if state is State.AWAKE and record.yields is not None:
        return PUBLIC[State.DRAINING]
    if state is not State.BROKEN or task is None:
        return PUBLIC[state]
    return PUBLIC[State.FALLING_ASLEEP if task.kind is TaskKind.SLEEP else State.WAKING]


def proof_key(facts: EngineFacts) -> str:
    """What a passed level 2 check is remembered under: release, model and arguments."""
    return f"{facts.version} {facts.model_path} {facts.arguments_hash}"
