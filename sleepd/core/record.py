"""What is believed of one model, who waits for it and who keeps it awake."""

from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.activity import Owed
from sleepd.core.break_even import Account
from sleepd.core.footprint import Footprint
from sleepd.core.habits import Habits
from sleepd.core.life import LEVEL, SERVING, Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Failure, Known, Missing, MissingReason, ModelSpec, Reading
from sleepd.core.seen import Activity, ControlCounts, EngineFacts, Fingerprint, ModelSeen
from sleepd.core.unit import UnitSeen
from sleepd.core.units import MonotonicS, Seconds, WallS

WAITERS_LIMIT = 1024
"""Callers that may wait for one model; one more is refused."""


HOLDS_LIMIT = 256
"""Holds that may keep one model awake; one more is refused."""


PLAIN = frozenset({MissingReason.NO_DEV_MODE, MissingReason.NOT_VLLM, MissingReason.UNAUTHORIZED})
"""Why one look alone shows that a server cannot be read: it answered, and said so."""


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
    attended: bool = True
    """False: whoever waited was told to come back. What was begun goes on, but it costs nobody else anything."""
    place_s: MonotonicS | None = None
    """Since when its model is waited for by those who were told to come back, and did; None: since it asked."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whoever asks by `until_s` comes back to a place in the line that was taken at `since_s`."""

    since_s: MonotonicS
    until_s: MonotonicS


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
class Yielding:
    """Its turn is over: its gate is shut to new requests while those inside are finished, until `until_s` at most;
    then `to` has the room. Forgotten at a restart of the daemon, with the requests and the wishes it is about."""

    to: str
    since_s: MonotonicS
    until_s: MonotonicS


@dataclass(frozen=True, slots=True)
class Awaited:
    """Whose turns come before that of a model that waits for its own, and when the last of them should be over."""

    after: tuple[str, ...]
    at_s: MonotonicS


@dataclass(frozen=True, slots=True)
class Ahead:
    """Awake since `since_s`, woken ahead by `rule`, and no request came yet; None: that is over. On `day` (local, since
    1970) it was so for `spent_s` before."""

    since_s: MonotonicS | None
    day: int = 0
    spent_s: Seconds = 0.0
    rule: str = ""


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
    looked_again: int = 0
    """How often a look that would have opened its gate was too old by its turn."""
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
    untried: bool = False
    """It serves since a wake that nothing has shown to be whole yet: no answer, and no request that came to its end."""
    broke_off_s: MonotonicS = float("-inf")
    """When the connection broke on which it was asked, while awake, for the answer to be known by."""
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
    habits: Habits = Habits()
    account: Account | None = None
    """What foresight may cost; None where no rule foresees anything, or before it was looked at."""
    ahead: Ahead | None = None
    """What became of its wakes ahead of demand, today."""
    holds: tuple[Hold, ...] = ()
    pin: bool | None = None
    """What an operator said at run time; None: as configured."""
    wanted_by: str = ""
    """The rule that wants this sleeper awake now."""
    last_wake: LastWake | None = None
    listed_s: MonotonicS = -1.0
    """When processes on the GPUs were last listed for it; lists hold a driver-wide lock and are asked for rarely."""
    in_part_since_s: MonotonicS | None = None
    """Since when they name it on fewer GPUs than it has ranks; None where they do not, or it is placed."""
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
    yields: Yielding | None = None
    """Its turn is over, and somebody who waits for its room is next."""
    last_drain_s: Seconds = 0.0
    """How long its requests went on when it last gave up a turn."""
    turn_until_s: MonotonicS = 0.0
    """It is not asked to give up its turn before this: when it last was, its requests did not end in time."""
    awaited: Awaited | None = None
    """What it waits for where that is the end of others' turns."""
    place: Place | None = None
    """Its place in the line, kept for callers who were told to come back; gone once it served one."""
    restarts_spent: bool = False
    """No more restarts of ours before a reset, or before a new incarnation serves."""
    reason: str = "not looked at yet"

    @property
    def learned(self) -> Footprint:
        """What was learned of this incarnation, and where it taught nothing yet, of earlier ones."""
        return self.footprint.over(self.prior) if self.prior.under else self.footprint

    @property
    def unreadable(self) -> Failure | None:
        """Why looks at its server tell nothing, where that is how it is now; None where they do, where it is not known
        yet, and where nobody listens: that is a state of its own. `failure` and `reason` tell what was so before, and
        is so again once it answers."""
        if isinstance(self.seen, Known) or self.seen.reason in (MissingReason.NOT_YET, MissingReason.REFUSED):
            return None
        why = self.seen.reason
        if why in PLAIN:
            return Failure(why.name.lower(), f"{why}: {self.seen.detail}")
        return Failure("unreachable", f"{self.spec.name} does not answer at {self.spec.url}: {self.seen.detail}")

    @property
    def why(self) -> str:
        """Why it is as it is: first of all that it cannot be read, else its reason."""
        return self.reason if self.unreadable is None else self.unreadable.detail

    @property
    def failing(self) -> Failure | None:
        """What is wrong with it now: first of all that it cannot be read. That one which failed or was stopped answers
        nobody is no news."""
        told = self.unreadable
        if told is None or (told.code == "unreachable" and self.life.state in (State.FAILED, State.STOPPED)):
            return self.failure
        return told


def gate_hold_id(model: str) -> str:
    """The id of the hold that is taken for whoever asked at the gate and sends its request past the gateway."""
    return f"gate-{model}"


def placed_s(waiter: Waiter) -> MonotonicS:
    """Since when it has its place in the line."""
    return waiter.asked_s if waiter.place_s is None else waiter.place_s


def serves(record: ModelRecord) -> bool:
    """Whether its gate is open: it is awake, and its turn is not over."""
    return record.life.state in SERVING and record.yields is None


def is_used_since_wake(record: ModelRecord) -> bool:
    """Whether it was used since it woke: a wake itself counts as no use."""
    return record.last_active_s > record.awake_since_s


def is_pinned(record: ModelRecord) -> bool:
    """Whether nothing but force may put the model to sleep: said at run time, else configured."""
    return record.spec.pinned if record.pin is None else record.pin


def wakes_asked(record: ModelRecord) -> bool:
    """Whether somebody waits for it to be awake, rather than that a rule or a debt of ours wants it so, or a wish that
    nobody waits behind any more."""
    return any(w.ask is AskKind.WAKE and w.attended for w in record.waiters)


def is_wanted_awake(record: ModelRecord) -> bool:
    """Whether anybody wants this sleeper awake: a caller, a rule, a debt of ours, or who wants it to sleep deeper."""
    if record.owed_wake or record.wanted_by:
        return True
    if not record.waiters:
        return False
    return any(w.ask is AskKind.WAKE or wants_deeper(record, w) for w in record.waiters)


def wants_deeper(record: ModelRecord, waiter: Waiter) -> bool:
    """Whether this caller waits for a sleeper to be woken, so that it can sleep deeper."""
    return waiter.via_wake and waiter.level > (LEVEL[record.life.state] or 0)


def is_start_wanted(record: ModelRecord) -> bool:
    """Whether its unit is to be started or restarted: owed after a failure, wanted by a person, or wanted awake by
    anybody while it is stopped by us."""
    if record.start_wanted is None and record.stopped is None and not record.restart_due:
        return False  # nearly all: asked of every model in every turn
    if record.life.state is State.STOPPED:
        ours = record.stopped is not None and (
            record.stopped.cause.kind is CauseKind.RECOVERY or is_wanted_awake(record)
        )
        return record.start_wanted is not None or ours
    return record.life.state in (State.FAILED, State.LOST) and bool(record.restart_due or record.start_wanted)
