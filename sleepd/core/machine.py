"""`step`: the daemon as a function. It never reads a clock, a file or a socket."""

from collections.abc import Sequence

from sleepd.core.asks import ask_reset, ask_sleep, ask_wake, begin_asked_sleeps, change_attendance, forget_caller
from sleepd.core.beginning import newborn
from sleepd.core.choices import begin_wakes, go_on
from sleepd.core.commands import Answer, AnswerKind, OpenGate, RunStep
from sleepd.core.detector import forget_rules
from sleepd.core.direct import due_in_s
from sleepd.core.draft import Draft
from sleepd.core.drain import hurry_sleeps
from sleepd.core.events import (
    CalendarExtended,
    Event,
    GateEmptied,
    GpusLooked,
    HostLooked,
    Leaving,
    ModelLooked,
    SettingsChanged,
    StepEnded,
    Stopping,
    Tick,
    UnitLooked,
)
from sleepd.core.follow import begin_sleeps, remember_rules, take_note, wish_wakes
from sleepd.core.frozen import replace
from sleepd.core.half_way import is_to_be_weighed
from sleepd.core.handover import gate_emptied, settle_turns
from sleepd.core.holds import ask_hold, ask_pin, detach_hold, end_due_holds, end_hold, end_holds
from sleepd.core.lending import make_reserved_room
from sleepd.core.life import ASLEEP, State
from sleepd.core.model import Known, Missing, ModelSpec, Now, Settings
from sleepd.core.owed_wakes import owe_all
from sleepd.core.placing import place
from sleepd.core.progress import end_step
from sleepd.core.record import ModelRecord
from sleepd.core.refusals import refuse_all
from sleepd.core.relief import begin_relief
from sleepd.core.reservations import (
    ask_reservation,
    detach_reservation,
    end_due_reservations,
    end_reservation,
    forget_reserver,
)
from sleepd.core.restarts import owe_restarts
from sleepd.core.served import serve_callers
from sleepd.core.sightings import LOST_AFTER_POLLS, look_at
from sleepd.core.starts import begin_asked_stops, begin_quiet_restarts, begin_starts, lift
from sleepd.core.strangers import asks_only
from sleepd.core.tasks import without_victim
from sleepd.core.turn import Turn
from sleepd.core.unit_asks import ask_start, ask_stop
from sleepd.core.unit_sightings import look_at_unit
from sleepd.core.units import Seconds
from sleepd.core.wishes import (
    Ask,
    AttendanceChanged,
    CallerGone,
    HoldAsked,
    HoldDetached,
    HoldEnded,
    ModelAsk,
    PinAsked,
    ReservationAsked,
    ReservationDetached,
    ReservationEnded,
    SleepAsked,
    StartAsked,
    StopAsked,
    WakeAsked,
)
from sleepd.core.world import World

ASLEEP_POLL_FACTOR = 5.0
"""Sleepers are polled this much more slowly: nothing of theirs moves unless somebody else moves it."""


def step(world: World, events: Sequence[Event], now: Now) -> Turn:
    """Return the world after one batch of events, what must be recorded first, and what is to be done then."""
    draft = Draft(world, now)
    for event in events:
        _take(draft, event)
    end_due_holds(draft)
    end_due_reservations(draft)
    ticked = any(isinstance(e, Tick) for e in events)
    if ticked:
        draft.touched.update(draft.models)
    take_note(draft, world, anew=ticked)
    noted = {name: draft.models.get(name) for name in draft.touched}
    wish_wakes(draft)
    go_on(draft)
    lift(draft)
    hurry_sleeps(draft)
    owe_restarts(draft)
    serve_callers(draft)
    begin_asked_stops(draft)
    begin_asked_sleeps(draft)
    make_reserved_room(draft)
    begin_wakes(draft)
    begin_sleeps(draft)
    begin_relief(draft)
    begin_starts(draft)
    begin_quiet_restarts(draft)
    settle_turns(draft)
    # What this turn began counts for the rules from now on, not from the next look.
    remember_rules(draft, sorted(n for n in draft.touched if draft.models.get(n) is not noted.get(n)))
    return draft.turn()


def answers_first(events: Sequence[Event], turn: Turn) -> bool:
    """Return whether what this turn tells may leave before its records are committed: it ends well what is on record.

    It calls no engine, shuts no gate and takes no wish in, and a crash before the commit leaves the step's own intent,
    from which recovery finds the same end. The caller of a wake need not wait for a disk after the engine answered.
    """
    asked = any(isinstance(e, Ask | HoldDetached | ReservationDetached) for e in events)
    acts = bool(turn.shut) or any(isinstance(c, RunStep) for c in turn.commands)
    served = any(
        isinstance(c, OpenGate) or (isinstance(c, Answer) and c.kind is AnswerKind.DONE) for c in turn.commands
    )
    return served and not asked and not acts and any(isinstance(e, StepEnded) for e in events)


def _take(draft: Draft, event: Event) -> None:
    if isinstance(event, ModelLooked):
        look_at(draft, event)
    elif isinstance(event, StepEnded):
        if event.model in draft.models:
            end_step(draft, event)
    elif isinstance(event, GpusLooked):
        _look_at_gpus(draft, event)
    elif isinstance(event, HostLooked):
        _look_at_host(draft, event)
    elif isinstance(event, UnitLooked):
        look_at_unit(draft, event)
    elif isinstance(event, GateEmptied):
        if event.model in draft.models:
            gate_emptied(draft, event)
    elif isinstance(event, ModelAsk):
        _ask(draft, event)
    elif isinstance(event, HoldEnded):
        end_hold(draft, event)
    elif isinstance(event, HoldDetached):
        detach_hold(draft, event)
    elif isinstance(event, ReservationAsked):
        _ask_reservation(draft, event)
    elif isinstance(event, ReservationEnded):
        end_reservation(draft, event)
    elif isinstance(event, ReservationDetached):
        detach_reservation(draft, event)
    elif isinstance(event, AttendanceChanged):
        change_attendance(draft, event)
    elif isinstance(event, CallerGone):
        forget_caller(draft, event)
        forget_reserver(draft, event.waiter)
    elif isinstance(event, CalendarExtended):
        draft.calendar = event.calendar
        draft.touched.update(draft.models)
    elif isinstance(event, SettingsChanged):
        _change_settings(draft, event.settings)
    elif isinstance(event, Leaving):
        draft.leaving = True
        owe_all(draft)
    elif isinstance(event, Stopping):
        draft.stopping = True


def _ask_reservation(draft: Draft, event: ReservationAsked) -> None:
    if draft.stopping:
        detail = "the daemon is being stopped"
        draft.refuse(event.waiter, "failed", detail)
    else:
        ask_reservation(draft, event)


def _ask(draft: Draft, event: ModelAsk) -> None:
    problem = "unknown_model" if event.model not in draft.models else "failed" if draft.stopping else ""
    if problem:
        detail = f"there is no model {event.model!r}" if problem == "unknown_model" else "the daemon is being stopped"
        draft.refuse(event.waiter, problem, detail)
    elif isinstance(event, WakeAsked):
        ask_wake(draft, event)
    elif isinstance(event, SleepAsked):
        ask_sleep(draft, event)
    elif isinstance(event, HoldAsked):
        ask_hold(draft, event)
    elif isinstance(event, PinAsked):
        ask_pin(draft, event)
    elif isinstance(event, StopAsked):
        ask_stop(draft, event)
    elif isinstance(event, StartAsked):
        ask_start(draft, event)
    else:
        ask_reset(draft, event)


def _look_at_gpus(draft: Draft, event: GpusLooked) -> None:
    reading = event.reading
    if isinstance(reading, Missing):
        was = draft.gpus
        missed, host_missed = draft.missed_polls
        draft.missed_polls = (missed + 1, host_missed)
        if isinstance(was, Known) and missed + 1 < LOST_AFTER_POLLS:
            return
        if not isinstance(was, Missing) or (was.reason, was.detail) != (reading.reason, reading.detail):
            draft.note("gpus_missing", "", f"GPU memory cannot be read: {reading.reason}: {reading.detail}")
        draft.gpus = reading
    elif not isinstance(draft.gpus, Known) or reading.asked_at_s >= draft.gpus.asked_at_s:
        if not isinstance(draft.gpus, Known):
            draft.touched.update(draft.models)
        draft.gpus, draft.missed_polls = reading, (0, draft.missed_polls[1])
        if event.listed:
            place(draft)


def _look_at_host(draft: Draft, event: HostLooked) -> None:
    missed, host_missed = draft.missed_polls
    draft.missed_polls = (missed, host_missed + 1 if isinstance(event.reading, Missing) else 0)
    if isinstance(draft.host, Known) and 0 < draft.missed_polls[1] < LOST_AFTER_POLLS:
        return
    if isinstance(event.reading, Missing) and isinstance(draft.host, Known):
        draft.note("host_missing", "", f"host RAM cannot be read: {event.reading.detail or event.reading.reason}")
    no_limits = event.reading.value.no_limits if isinstance(event.reading, Known) else ""
    told = draft.host.value.no_limits if isinstance(draft.host, Known) else ""
    if no_limits and no_limits != told:
        draft.note("limits_unseen", "", no_limits)
    draft.host = event.reading


def _change_settings(draft: Draft, settings: Settings) -> None:
    """Take new settings: models that stay keep their state, removed ones are forgotten, new ones are looked at."""
    draft.memory = forget_rules(draft.memory, draft.settings, settings)
    draft.settings = settings
    for name in [n for n in draft.models if n not in settings.models]:
        _retire(draft, name, "unknown_model", f"{name} is no longer configured")
        end_holds(draft, name, f"{name} is no longer configured")
        del draft.models[name]
    for name, spec in settings.models.items():
        old = draft.models.get(name)
        if old is not None and old.spec.url != spec.url:
            _retire(draft, name, "engine_failed", f"{name} has another address now: {spec.url}")
        if old is None:
            draft.put(newborn(spec, draft.now))
        elif old.spec != spec:
            # What the files say anew about the pin counts from now on. Who holds or pinned it means its name, and with
            # it whatever server answers to that.
            pin = old.pin if old.spec.pinned is spec.pinned else None
            same = old if old.spec.url == spec.url else _renewed(old, spec, draft.now)
            draft.put(replace(same, spec=spec, pin=pin))
    draft.touched = set(draft.models)


def _renewed(old: ModelRecord, spec: ModelSpec, now: Now) -> ModelRecord:
    """A model at another address: who holds it, and who asks for it when, goes by its name."""
    ahead = replace(old.ahead, since_s=None) if old.ahead is not None else None
    return replace(newborn(spec, now), holds=old.holds, habits=old.habits, account=old.account, ahead=ahead)


def _retire(draft: Draft, name: str, problem: str, why: str) -> None:
    """Leave nothing behind that counts on the server a model stood for: its task, its callers, its part in others'."""
    task = draft.tasks.get(name)
    if task is not None:
        draft.end_task(task, why)
    refuse_all(draft, name, problem, why)
    for other in list(draft.tasks.values()):
        draft.put_task(without_victim(other, name))
    for record in list(draft.models.values()):
        if name in record.made_room:
            draft.put(replace(record, made_room=tuple(n for n in record.made_room if n != name)))


def poll_after_s(record: ModelRecord, settings: Settings) -> Seconds:
    """Seconds until the next look at this server: sleepers and the lost are looked at more slowly."""
    quiet = record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2, State.FAILED) and not record.waiters
    unsure = 0 < record.failed_polls < LOST_AFTER_POLLS
    after_s = settings.poll_every_s * (ASLEEP_POLL_FACTOR if quiet and not unsure else 1.0)
    due_s = due_in_s(record)
    return after_s if due_s is None else min(after_s, due_s)


def is_looked_at(world: World, name: str) -> bool:
    """Whether polls look at this server now: not while a step of ours is out that looks itself. A step that only asks
    a question takes up to a minute, and shows nothing of what strangers do meanwhile; and whether direct requests hold
    up a call to sleep that somebody wants done is seen on the page alone."""
    task = world.tasks.get(name)
    if task is None or not task.running or task.resume_s is not None:
        return True
    return asks_only(world.models[name], task)


def asks_sleeping(record: ModelRecord) -> bool:
    """Whether a look must ask /is_sleeping, which blocks behind engine calls: only where the state is unknown."""
    return record.life.state in (State.UNKNOWN, State.LOST)


def wants_processes(world: World) -> bool:
    """Whether the next GPU reading needs process lists, which hold a driver-wide lock.

    Only to place new servers (one whose wake a former daemon left unsent waits for that too), to see once in each state
    what they hold, and to see what a half-done wake holds already: that much its repetition need not find. Where a list
    did not tell, it is not asked for again. And as long as there is a reservation: what its job took already is told
    from what our servers took.
    """
    if world.reservations or any(world.models[name].life.state is State.BROKEN for name in world.tasks):
        return True
    return any(
        r.listed_s < r.since_s
        and isinstance(r.seen, Known)
        and bool(r.seen.value.pids)
        and not (n in world.tasks and world.tasks[n].running)
        and (not r.placed_on or _bytes_unknown(r) or is_to_be_weighed(r))
        for n, r in world.models.items()
    )


def _bytes_unknown(record: ModelRecord) -> bool:
    state, learned = record.life.state, record.footprint
    return (state is State.AWAKE and not learned.awake) or (state in ASLEEP and not learned.asleep)
