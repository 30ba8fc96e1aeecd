"""What the socket API needs of the daemon; the engine's loop and the composition root provide it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sleepd.api.access import Peer, Role
from sleepd.core.commands import Answer
from sleepd.core.model import Now
from sleepd.core.records import TaskEnded
from sleepd.core.rehearse import WakePlan
from sleepd.core.reports import Explanation, NextAction
from sleepd.core.turn import Note
from sleepd.core.units import Seconds, WallS
from sleepd.core.wishes import Ask as Ask
from sleepd.core.world import World
from sleepd.doctor.findings import Finding
from sleepd.history.found import Bucket, Page, Report, Span
from sleepd.history.timeline import Timeline


@dataclass(frozen=True, slots=True)
class RingEvent:
    """One event on record: `id` is "<epoch>-<n>", n rising by one; epoch changes with each daemon start."""

    id: str
    wall_s: WallS
    note: Note
    gpus: tuple[str, ...] = ()
    """Where the note's model is."""


@dataclass(frozen=True, slots=True)
class EventsRead:
    """`gap`: events after the wanted id were lost (dropped from the ring, or of another epoch)."""

    events: Sequence[RingEvent]
    gap: bool
    last_id: str


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """`errors` not empty: the running settings were kept. `changed`: one line per change that took effect."""

    changed: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UiToken:
    """Lets somebody in at the page, once. `pages`: where it is, as far as the daemon knows."""

    token: str
    role: Role
    until_wall_s: WallS
    pages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NotAwake:
    """Why nothing should be sent to a model now. `kind` is a problem's, `retry_after_s` when to ask again, AT_ONCE_S
    (core/wishes.py) at least."""

    kind: str
    detail: str
    retry_after_s: Seconds


class History(Protocol):
    """What happened. Raises HistoryUnreadable where none is kept, WrongQuestion for what cannot be asked."""

    async def page(self, span: Span, limit: int, after: str) -> Page: ...

    async def buckets(self, span: Span, step_s: int) -> Sequence[Bucket]: ...

    async def report(self, span: Span) -> Report: ...

    async def timeline(self, span: Span, step_s: int) -> Timeline: ...


class Daemon(Protocol):
    @property
    def world(self) -> World: ...

    @property
    def started_wall_s(self) -> WallS: ...

    def now(self) -> Now: ...

    async def ask(self, make: Callable[[int], Ask]) -> Answer:
        """Return the one answer to `make(waiter_id)`. Cancelling the await withdraws the wish."""
        ...

    async def ask_gate(self, model: str, who: str, wait_s: Seconds) -> NotAwake | None:
        """Return None once the model is awake, and held so for a while; else why not, `wait_s` later at most. Waits in
        the gateway's queue; cancelled, nobody waits any more."""
        ...

    def detach_hold(self, hold_id: str, stream: int) -> None:
        """The stream that began with the ask `stream` ended: its hold lasts a moment longer."""
        ...

    def detach_reservation(self, reservation_id: str, stream: int) -> None:
        """The stream that began with the ask `stream` ended: its reservation lasts a moment longer."""
        ...

    async def process_tree(self, pid: int) -> tuple[int, ...]:
        """This process and its descendants, as far as they can be seen."""
        ...

    @property
    def ended(self) -> Sequence[TaskEnded]:
        """The last tasks that came to their end, the newest last."""
        ...

    def plan_of_wake(self, model: str) -> WakePlan:
        """What a wake asked now would do; nothing is done."""
        ...

    def explain(self, model: str) -> Explanation: ...

    def reason(self, model: str) -> str:
        """One sentence: why the model is in its state."""
        ...

    def next_action(self, model: str) -> NextAction | None: ...

    def eta_s(self, model: str) -> Seconds | None:
        """Seconds until the model would be awake if asked now, from learned durations; None where unknown."""
        ...

    def in_flight(self, model: str) -> int:
        """Requests inside the model's gate right now."""
        ...

    def queued(self, model: str) -> int:
        """Requests that the gateway holds for the model right now; one wish in the world stands for all of them."""
        ...

    def read_events(self, since_id: str | None) -> EventsRead: ...

    async def wait_events(self, last_id: str) -> None:
        """Return when an event after `last_id` exists."""
        ...

    @property
    def history(self) -> History: ...

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """Content type and body of /metrics, in a format that the Accept header takes."""
        ...

    def let_in(self, peer: Peer, role: Role, ttl_s: Seconds) -> UiToken | None:
        """Return a token for the page, with this role or the peer's, whichever is less; None where there is no page."""
        ...

    async def examine(self) -> Sequence[Finding]:
        """What is wrong with the daemon, its host and its models, and what is right. Waits for one look at the GPUs."""
        ...

    async def reload(self) -> ReloadOutcome: ...
