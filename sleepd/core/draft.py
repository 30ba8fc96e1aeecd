"""A turn in the making: the one mutable thing in the core, alive only inside `step`.

It hands out records, states facts through the law, and collects what the turn will bring. What must be committed
is not written by hand: it is the difference between the old world and the new one.
"""

from collections.abc import Mapping
from dataclasses import fields
from math import ceil
from operator import attrgetter, is_
from typing import Any

from sleepd.core.calendar import Calendar
from sleepd.core.commands import Answer, AnswerKind, Command, OpenGate, RunStep
from sleepd.core.detector import Evaluated
from sleepd.core.foresight import account_saved, ahead_saved
from sleepd.core.frozen import replace
from sleepd.core.life import ASLEEP, LEVEL, PUBLIC, SERVING, Fact, State, advance
from sleepd.core.model import Failure, Now, Reading
from sleepd.core.record import ModelRecord, Waiter, serves
from sleepd.core.records import (
    EngineProven,
    HoldSaved,
    ModelSaved,
    Record,
    ReservationDropped,
    ReservationSaved,
    RuleSaved,
    TaskEnded,
    TaskSaved,
)
from sleepd.core.reservation import Reservation
from sleepd.core.seen import GpusSeen, HostSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.turn import Note, Turn
from sleepd.core.units import MonotonicS, Seconds, WallS
from sleepd.core.world import DetectorMemory, World

ACTIVITY_GRAIN_S = 60.0
"""Last use is made durable in steps of this size, rounded up: a busy model must not cost a commit a second."""

_TOLD = {
    State.SLEEP_PENDING: "is falling asleep, unanswered so far",
    State.WAKING_WEIGHTS: "is waking: first the memory of its weights",
    State.RELOADING: "reads its weights anew",
    State.PARTIALLY_AWAKE: "has its weights again",
    State.PROVING: "has its memory; whether it may serve is settled next",
    State.BROKEN: "is half-way after a failed call, to be repaired",
    State.FOREIGN: "is left alone",
}
"""What is said of states that share their public name with others."""


_WORLD = attrgetter(*(f.name for f in fields(World)))


class Draft:
    """The world as it will be after this turn, and what the turn brings."""

    def __init__(self, world: World, now: Now) -> None:
        self._old = world
        self.now = now
        self.settings = world.settings
        self.models: dict[str, ModelRecord] = dict(world.models)
        self.tasks: dict[str, Task] = dict(world.tasks)
        self.gpus: Reading[GpusSeen] = world.gpus
        self.host: Reading[HostSeen] = world.host
        self.memory: DetectorMemory = world.memory
        self.calendar: Calendar = world.calendar
        self.missed_polls = world.missed_polls
        self.proven = world.proven
        self.reservations: Mapping[str, Reservation] = world.reservations
        self.given_back_s = world.given_back_s
        self.next_task = world.next_task
        self.leaving = world.leaving
        self.stopping = world.stopping
        self.touched: set[str] = set()
        self.evaluated: dict[str, tuple[ModelRecord, tuple[Evaluated, ...]]] = {}
        """What rules said of a model as it was; host and GPU readings do not change after the events were taken in."""
        self.waits_for: dict[str, tuple[str, ...]] = {}
        """By model that waits for room in this turn: whose turns have to end for it."""
        self._commands: list[Command] = []
        self._ended: list[TaskEnded] = []
        self._notes: list[Note] = []
        self._shown: tuple[tuple[Any, ...], World] | None = None

    @property
    def mono_s(self) -> MonotonicS:
        return self.now.mono_s

    def put(self, record: ModelRecord) -> ModelRecord:
        self.models[record.spec.name] = record
        self.touched.add(record.spec.name)
        return record

    def change(self, name: str, **fields: object) -> ModelRecord:
        record = self.models[name]
        self.touched.add(name)
        # Most looks change next to nothing, and a record costs more to copy than to compare.
        news = {key: value for key, value in fields.items() if getattr(record, key) is not value}
        return self.put(replace(record, **news)) if news else record  # type: ignore[arg-type]

    def state(self, name: str, fact: Fact) -> ModelRecord:
        """Let a fact happen to a model. Raises IllegalTransition where the law has no row for it."""
        record = self.models[name]
        life = advance(record.life, fact)
        if life.state is record.life.state:
            return self.put(replace(record, life=life))
        data = {"from": record.life.state.value, "to": life.state.value, "fact": fact.value, "level": LEVEL[life.state]}
        self.note(
            "state", name, f"{name} {_TOLD.get(life.state) or 'is ' + PUBLIC[life.state].replace('_', ' ')}", data
        )
        awake_since_s = record.awake_since_s
        if life.state in SERVING:
            # Whoever was about to sleep, and serves on, did not wake.
            awake_since_s = awake_since_s if record.life.state is State.DRAINING else self.mono_s
            # What gave up on restarts serves again: in a new process, or because a person took it back.
            record = replace(record, restarts_spent=False)
            self._commands.append(OpenGate(name))
        moment_s, wall_s = self.mono_s, self.now.wall_s
        return self.put(replace(record, life=life, since_s=moment_s, since_wall_s=wall_s, awake_since_s=awake_since_s))

    def fail(self, name: str, code: str, detail: str, step: str = "") -> ModelRecord:
        """Remember and tell a failure; the state is the caller's business."""
        record = self.models[name]
        if record.failure != Failure(code, detail, step):
            self.note("failure", name, detail, {"code": code, "step": step})
        return self.change(name, failure=Failure(code, detail, step), reason=detail)

    def put_task(self, task: Task) -> Task:
        self.tasks[task.model] = task
        self.touched.add(task.model)
        return task

    def end_task(self, task: Task, outcome: str, *, done: bool = False) -> None:
        del self.tasks[task.model]
        for child in [t for t in self.tasks.values() if t.parent == task.id]:
            # A victim that still falls asleep goes on under the claims of whom it made room for.
            self.put_task(replace(child, parent=None, claims=task.claims))
        took_s = round(self.mono_s - task.started_s, 3)
        self._ended.append(TaskEnded(task, outcome, self.now.wall_s, took_s, done))
        self.note(
            "task_ended",
            task.model,
            f"{'proof' if task.kind is TaskKind.PROVE else task.kind} of {task.model} ended: {outcome}",
            {"task": task.id, "cause": f"{task.cause.kind}:{task.cause.who}", "seconds": took_s},
        )
        if task.claims or task.parent is not None:
            # Its claims are free: whoever was spared because of them may go on. Sleepers that wait for a wake stand in
            # line anyhow; the others wait for nothing but a stop.
            self.touched.update(n for n, r in self.models.items() if r.life.state not in ASLEEP or _may_be_stopped(r))

    def prove(self, key: str) -> None:
        self.proven = self.proven | {key}

    def command(self, command: Command) -> None:
        self._commands.append(command)

    def note(self, kind: str, model: str, text: str, data: Mapping[str, object] | None = None) -> None:
        """Tell it, with what is under way with the model: nobody should have to look up which task it was."""
        data, task = data or {}, self.tasks.get(model)
        if task is not None and "task" not in data:
            data = {**data, "task": task.id, "cause": f"{task.cause.kind}:{task.cause.who}"}
        self._notes.append(Note(kind, model, text, data))

    def answer(self, name: str, waiter: Waiter, kind: AnswerKind, **fields: object) -> None:
        """Give a caller its one answer and forget it."""
        record = self.models[name]
        self.change(name, waiters=tuple(w for w in record.waiters if w.id != waiter.id))
        if not waiter.silent:
            waited_s = self.mono_s - waiter.asked_s
            self._commands.append(Answer(waiter.id, kind, waited_s=waited_s, **fields))  # type: ignore[arg-type]

    def refuse(self, waiter: int, problem: str, detail: str, hint: str = "") -> None:
        """Answer a caller at once whose wish is not taken in."""
        self.command(Answer(waiter, AnswerKind.REFUSED, problem=problem, detail=detail, hint=hint))

    def world(self) -> World:
        """The world as it is in this moment of the turn; models and tasks go on changing in it."""
        now = _WORLD(self)
        if self._shown is None or not all(map(is_, now, self._shown[0])):
            self._shown = now, World(*now)
        return self._shown[1]

    def turn(self) -> Turn:
        changed = [n for n, r in self._old.models.items() if self.models.get(n) is not r]
        shut = [n for n in changed if serves(self._old.models[n]) and not self._serves(n)]
        commands = [c for c in self._commands if self._stands(c)]
        return Turn(self.world(), tuple(self._records()), tuple(commands), tuple(self._notes), tuple(shut))

    def _stands(self, command: Command) -> bool:
        """Whether a command still fits the world that this turn ends in: it may have gone on after commanding it."""
        if isinstance(command, OpenGate):
            return self._serves(command.model)
        if isinstance(command, RunStep):
            task = self.tasks.get(command.order.model)
            return task is not None and (task.id, task.cursor) == (command.order.task_id, command.order.cursor)
        return True

    def _serves(self, name: str) -> bool:
        record = self.models.get(name)
        return record is not None and serves(record)

    def _records(self) -> list[Record]:
        records: list[Record] = []
        for name, record in self.models.items():
            old = self._old.models.get(name)
            if old is not record and (saved := news_to_save(old, record, self.now)) is not None:
                records.append(saved)
        records += [TaskSaved(t) for name, t in self.tasks.items() if self._old.tasks.get(name) is not t]
        records += self._ended
        records += _rule_records(self._old.memory, self.memory, self.now)
        records += _reservation_records(self._old.reservations, self.reservations)
        records += [EngineProven(key, self.now.wall_s) for key in sorted(self.proven - self._old.proven)]
        return records


def _may_be_stopped(record: ModelRecord) -> bool:
    """Whether a sleeper may yet be stopped: by a rule, or because it leaks."""
    return record.spec.may_stop or bool(record.restart_wanted)


def durable(record: ModelRecord, now: Now) -> ModelSaved:
    """What of a record outlives the daemon."""
    return ModelSaved(
        name=record.spec.name,
        life=record.life,
        incarnation=record.incarnation,
        control=record.control,
        since_wall_s=record.since_wall_s,
        last_active_wall_s=_last_use(record, now),
        fingerprint=record.fingerprint,
        footprint=record.footprint,
        prior=record.prior,
        prime_failed=record.prime_failed,
        restart_wanted=record.restart_wanted,
        failure=record.failure,
        check_failed=record.check_failed,
        checking=record.checking,
        checksums=record.checksums,
        stopped=record.stopped,
        restart_due=record.restart_due,
        restarts_wall_s=tuple(round(now.wall_s - (now.mono_s - at_s)) for at_s in record.restarts_s),
        restarts_spent=record.restarts_spent,
        served_as=record.served_as,
        told_to_stop=record.told_to_stop,
        frees_nothing=record.frees_nothing,
        owed_wake=record.owed_wake,
        unverified=record.unverified,
        untried=record.untried,
        holds=tuple(
            HoldSaved(h.id, h.uid, h.who, h.reason, h.since_wall_s, h.ttl_s, h.until_wall_s) for h in record.holds
        ),
        pin=record.pin,
        attempts=record.attempts,
        cooldown_until_wall_s=_wall_of(record.cooldown_until_s, now),
        hold_down_until_wall_s=_wall_of(record.hold_down_until_s, now),
        habits=record.habits,
        account=account_saved(record.account, now) if record.account is not None else None,
        ahead=ahead_saved(record.ahead, now) if record.ahead is not None else None,
    )


def _wall_of(moment_s: MonotonicS, now: Now) -> WallS:
    """A moment ahead, by the wall clock in whole seconds; 0 once it is past."""
    return round(now.wall_s + moment_s - now.mono_s, 0) if moment_s > now.mono_s else 0.0


def _rule_records(old: DetectorMemory, new: DetectorMemory, now: Now) -> list[Record]:
    """What rules remember that must outlive the daemon: their actions, cooldowns and wishes that came true."""
    if old.acts is new.acts and old.achieved is new.achieved and old.dealt_with is new.dealt_with:
        return []
    keys = {k for k in new.acts if old.acts.get(k) is not new.acts[k]}
    keys |= {k for k in new.dealt_with if old.dealt_with.get(k) != new.dealt_with[k]}
    keys |= old.achieved ^ new.achieved
    return [
        RuleSaved(
            rule,
            model,
            tuple(now.wall_s - (now.mono_s - at_s) for at_s in new.acts.get((rule, model), ())),
            (rule, model) in new.achieved,
            new.dealt_with.get((rule, model)),
        )
        for rule, model in sorted(keys)
    ]


_FLEETING: Mapping[str, Any] = {"waits_for": "", "problem": "", "asked_s": 0.0, "until_s": None, "deadline_s": 0.0}
"""Of a reservation: what is worked out anew after a restart, and moments of a clock that ends with the boot."""


def _reservation_records(old: Mapping[str, Reservation], new: Mapping[str, Reservation]) -> list[Record]:
    """What of reservations must outlive the daemon. A caller and a stream do not, but that there was one tells."""
    if old is new:
        return []
    kept = {i: replace(r, **_FLEETING) for i, r in new.items()}
    was = {i: replace(r, **_FLEETING) for i, r in old.items()}
    saved: list[Record] = [ReservationSaved(r) for i, r in kept.items() if was.get(i) != r]
    return saved + [ReservationDropped(i) for i in old if i not in new]


_WORKED_OUT = (
    *("name", "last_active_wall_s", "cooldown_until_wall_s", "hold_down_until_wall_s", "restarts_wall_s"),
    *("habits", "holds", "account"),
)
_AS_IT_IS = attrgetter(*(f.name for f in fields(ModelSaved) if f.name not in _WORKED_OUT))
"""What is saved of a record as it is."""
_SOURCES = attrgetter("holds", "cooldown_until_s", "hold_down_until_s", "restarts_s")
"""What is worked out from nothing but these, and the time."""


def news_to_save(old: ModelRecord | None, new: ModelRecord, now: Now) -> ModelSaved | None:
    """Return what is to be saved of the record, None where nothing of it is news. Most looks change nothing of it but
    the last use: told by what is saved of them, which is cheaper than to save both."""
    if old is None or _AS_IT_IS(old) != _AS_IT_IS(new):
        return durable(new, now)
    same = _SOURCES(old) == _SOURCES(new) and old.habits.days == new.habits.days
    if same and (old.last_active_s == new.last_active_s or _last_use(old, now) == _last_use(new, now)):
        return None
    saved = durable(new, now)
    return saved if differs(durable(old, now), saved) else None


def _last_use(record: ModelRecord, now: Now) -> WallS:
    return _rounded_up(now.wall_s - (now.mono_s - record.last_active_s))


def _rounded_up(wall_s: WallS) -> WallS:
    return ceil(round(wall_s, 3) / ACTIVITY_GRAIN_S) * ACTIVITY_GRAIN_S


def differs(old: ModelSaved, new: ModelSaved) -> bool:
    """Whether a commit is due: a last use that moved by one grain through rounding of clocks alone is none."""
    if abs(old.last_active_wall_s - new.last_active_wall_s) <= ACTIVITY_GRAIN_S / 2:
        new = replace(new, last_active_wall_s=old.last_active_wall_s)
    if old.habits.days == new.habits.days:
        # What else is learned goes with the next request that is the first in its five minutes.
        new = replace(new, habits=old.habits, account=old.account)
    if abs(max(old.restarts_wall_s, default=0.0) - max(new.restarts_wall_s, default=0.0)) <= 1.0:
        new = replace(new, restarts_wall_s=old.restarts_wall_s)
    return old != new


def age_of(wall_s: WallS, now: Now) -> Seconds:
    """Seconds since a stored moment; 0 where the clock says it lies ahead, as that age cannot be known."""
    return max(0.0, now.wall_s - wall_s)
