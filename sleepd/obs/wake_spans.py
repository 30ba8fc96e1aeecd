"""A wake as spans: who waited, for how long room was looked for and made, each call, each proof. Pure.

Spans are made when a wake is over, from what the published turns said: nothing is carried through the core for them.
"""

from dataclasses import dataclass, field

from sleepd.core.commands import RunStep
from sleepd.core.model import Now
from sleepd.core.plan import OBSERVES
from sleepd.core.records import TaskEnded
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import MonotonicS, Seconds, WallS
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.obs.spans import Span, Value

REQUESTS_LIMIT = 32
"""Requests of one wake that get a span of their own; the longest waits, which came first."""
WAKES_LIMIT = 256
"""Wakes that are followed at once, and those kept for who let in last."""


@dataclass(slots=True)
class _Open:
    """A wake on its way. `call`: the step whose call is out, since when, and which attempt it is."""

    wished_wall_s: WallS
    begun_wall_s: WallS
    parts: list[Span] = field(default_factory=list)
    victims: dict[str, WallS] = field(default_factory=dict)
    first_call_wall_s: WallS | None = None
    call: tuple[str, WallS, dict[str, Value]] | None = None


class WakeSpans:
    """Follows every wake; `finished` gives those that are over, once `settle_s` have passed for who waited."""

    def __init__(self, settle_s: Seconds = 2.0) -> None:
        self._settle_s = settle_s
        self._open: dict[int, _Open] = {}
        self._over: list[tuple[MonotonicS, str, Span]] = []
        self._held: dict[str, list[tuple[WallS, Held]]] = {}

    def turned(self, published: Published) -> None:
        """Take in a published turn."""
        before, turn, now = published.before, published.turn, published.now
        for task in turn.world.tasks.values():
            if task.kind is TaskKind.WAKE and task.id not in self._open and len(self._open) < WAKES_LIMIT:
                self._open[task.id] = _Open(_wished_wall_s(task, before, now), now.wall_s)
                if not any(model == task.model for _, model, _ in self._over):
                    self._held.pop(task.model, None)  # they waited for something else, and long ago perhaps
            parent = self._open.get(task.parent) if task.parent is not None else None
            if parent is not None:
                parent.victims.setdefault(task.model, now.wall_s)
        if not self._open:
            return
        for command in turn.commands:
            if isinstance(command, RunStep):
                self._call(command, turn.world, now)
        for record in turn.records:
            if isinstance(record, TaskEnded):
                self._end(record, before, now)
        for gone in self._open.keys() - {task.id for task in turn.world.tasks.values()}:
            del self._open[gone]  # with its model, that nobody manages any more

    def waited(self, held: Held, now: Now) -> None:
        """Take in a request that is held no more."""
        kept = self._held.setdefault(held.model, [])
        if len(kept) < REQUESTS_LIMIT:
            kept.append((now.wall_s, held))

    def finished(self, now: Now) -> list[Span]:
        """Return the wakes that are over, each with the requests that had waited for it, the oldest as its parent."""
        ready = [each for each in self._over if now.mono_s - each[0] >= self._settle_s]
        self._over = [each for each in self._over if now.mono_s - each[0] < self._settle_s]
        spans = []
        for _, model, wake in ready:
            mine = [(w, h) for w, h in self._held.pop(model, []) if w - h.waited_s <= wake.end_wall_s]
            spans.append(_with_requests(wake, mine))
        return spans

    def _call(self, command: RunStep, world: World, now: Now) -> None:
        order = command.order
        wake, task = self._open.get(order.task_id), world.tasks.get(order.model)
        if wake is None or task is None:
            return
        self._close_call(wake, now.wall_s)
        if wake.first_call_wall_s is None:
            wake.first_call_wall_s = now.wall_s
        what = "proof" if order.step.verb in OBSERVES else "call"
        attributes: dict[str, Value] = {
            "sleepd.phase": task.phase.value,
            "sleepd.attempt": task.attempt,
            "sleepd.proof": order.step.proof.value,
        }
        wake.call = (f"{what}: {order.step.verb.value}", now.wall_s, attributes)

    def _close_call(self, wake: _Open, wall_s: WallS) -> None:
        if wake.call is not None:
            name, begun_wall_s, attributes = wake.call
            wake.parts.append(Span(name, begun_wall_s, max(begun_wall_s, wall_s), attributes))
            wake.call = None

    def _end(self, ended: TaskEnded, before: World, now: Now) -> None:
        task = ended.task
        for wake in self._open.values():  # a victim fell asleep, or did not
            begun_wall_s = wake.victims.get(task.model)
            if begun_wall_s is not None and task.kind is TaskKind.SLEEP and now.wall_s >= begun_wall_s:
                attributes: dict[str, Value] = {"sleepd.model": task.model, "sleepd.level": task.level}
                error = "" if ended.done else ended.outcome
                victim = Span(f"victim: {task.model}", begun_wall_s, now.wall_s, attributes, error=error)
                wake.parts.append(victim)
                wake.victims[task.model] = float("inf")
        found = self._open.pop(task.id, None)
        if found is None:
            return
        self._close_call(found, now.wall_s)
        self._over = self._over[-WAKES_LIMIT:]
        self._over.append((now.mono_s, task.model, _wake_span(found, ended, now)))


def _wake_span(wake: _Open, ended: TaskEnded, now: Now) -> Span:
    task = ended.task
    attributes: dict[str, Value] = {
        "sleepd.model": task.model,
        "sleepd.task": task.id,
        "sleepd.level": task.level,
        "sleepd.cause.kind": task.cause.kind.value,
        "sleepd.cause.who": task.cause.who,
        "sleepd.outcome": ended.outcome,
    }
    room_end_wall_s = now.wall_s if wake.first_call_wall_s is None else wake.first_call_wall_s
    victims = [part for part in wake.parts if part.name.startswith("victim: ")]
    told: dict[str, Value] = {"sleepd.victims": ", ".join(part.name.removeprefix("victim: ") for part in victims)}
    parts = [
        Span("queue", wake.wished_wall_s, wake.begun_wall_s),
        Span("preflight", wake.begun_wall_s, max(wake.begun_wall_s, room_end_wall_s), told, victims),
        *(part for part in wake.parts if not part.name.startswith("victim: ")),
    ]
    begin_wall_s = min(wake.wished_wall_s, wake.begun_wall_s)
    error = "" if ended.done else ended.outcome
    return Span(f"wake {task.model}", begin_wall_s, max(begin_wall_s, now.wall_s), attributes, parts, error)


def _wished_wall_s(task: Task, before: World, now: Now) -> WallS:
    """When the oldest caller that still waits asked for it; now where nobody does."""
    record = before.models.get(task.model)
    asked = [waiter.asked_s for waiter in record.waiters] if record is not None else []
    return now.wall_s - max(0.0, now.mono_s - min(asked, default=now.mono_s))


def _with_requests(wake: Span, waited: list[tuple[WallS, Held]]) -> Span:
    """The wake as a child of the request that waited longest, with a span of each other one beside it."""
    if not waited:
        return wake
    requests = []
    for released_wall_s, held in sorted(waited, key=lambda each: each[0] - each[1].waited_s):
        error = "" if held.end is HeldEnd.SERVED else held.end.value
        attributes: dict[str, Value] = {"sleepd.model": held.model, "sleepd.end": held.end.value}
        begin_wall_s = released_wall_s - held.waited_s
        requests.append(Span("request waits", begin_wall_s, released_wall_s, attributes, (), error, held.traceparent))
    first, others = requests[0], requests[1:]
    return Span(
        *(first.name, first.begin_wall_s, first.end_wall_s, first.attributes),
        children=(wake, *others),
        error=first.error,
        traceparent=first.traceparent,
    )
