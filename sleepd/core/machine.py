"""`step`: the daemon as a function. It never reads a clock, a file or a socket."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sleepd.core.activity import Owed, ask_lost
from sleepd.core.asks import ask_reset, ask_sleep, ask_wake, begin_asked_sleeps, forget_caller
from sleepd.core.budget import MOST_S
from sleepd.core.choices import VERIFY_AFTER_S, begin_sleeps, begin_wakes, go_on, serve_callers
from sleepd.core.draft import Draft, age_of
from sleepd.core.drain import hurry_moments, hurry_sleeps
from sleepd.core.events import (
    Answer,
    AnswerKind,
    CallerGone,
    Event,
    GateEmptied,
    GpusLooked,
    HoldSaved,
    HostLooked,
    ModelLooked,
    ModelSaved,
    OpenGate,
    RunStep,
    Saved,
    SettingsChanged,
    StepEnded,
    Stopping,
    TaskEnded,
    Tick,
    Turn,
)
from sleepd.core.holds import GRACE_S, ask_hold, ask_pin, detach_hold, end_due_holds, end_hold, hold_moments
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import (
    Known,
    Missing,
    ModelSpec,
    Now,
    Settings,
)
from sleepd.core.plan import OBSERVES, Verb
from sleepd.core.policy import watch_host
from sleepd.core.progress import end_step
from sleepd.core.rules import HostAvailableBelow, IdleFor
from sleepd.core.sightings import LOST_AFTER_POLLS, look_at, place
from sleepd.core.tasks import refuse_all
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.wishes import Ask, HoldAsked, HoldDetached, HoldEnded, ModelAsk, PinAsked, SleepAsked, WakeAsked
from sleepd.core.world import HOST_LOCK, Belief, Hold, ModelRecord, Phase, Task, World

ASLEEP_POLL_FACTOR = 5.0
"""Sleepers are polled this much more slowly: nothing of theirs moves unless somebody else moves it."""


def step(world: World, events: Sequence[Event], now: Now) -> Turn:
    """Return the world after one batch of events, what must be recorded first, and what is to be done then."""
    draft = Draft(world, now)
    for event in events:
        _take(draft, event)
    end_due_holds(draft)
    draft.memory = watch_host(draft.settings.rules, draft.host, draft.memory)
    if draft.memory is not world.memory:
        draft.touched.update(draft.models)
        _tell_pressure(draft, world)
    if any(isinstance(e, Tick) for e in events):
        draft.touched.update(draft.models)
    go_on(draft)
    hurry_sleeps(draft)
    serve_callers(draft)
    begin_asked_sleeps(draft)
    begin_wakes(draft)
    begin_sleeps(draft)
    return draft.turn()


def answers_first(events: Sequence[Event], turn: Turn) -> bool:
    """Return whether what this turn tells may leave before its records are committed: it ends well what is on record.

    It calls no engine, shuts no gate and takes no wish in, and a crash before the commit leaves the step's own intent,
    from which recovery finds the same end. The caller of a wake need not wait for a disk after the engine answered.
    """
    asked = any(isinstance(e, Ask | HoldDetached) for e in events)
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
    elif isinstance(event, GateEmptied):
        if event.model in draft.models:
            draft.change(event.model, in_flight=0)
    elif isinstance(event, ModelAsk):
        _ask(draft, event)
    elif isinstance(event, HoldEnded):
        end_hold(draft, event)
    elif isinstance(event, HoldDetached):
        detach_hold(draft, event)
    elif isinstance(event, CallerGone):
        forget_caller(draft, event)
    elif isinstance(event, SettingsChanged):
        _change_settings(draft, event.settings)
    elif isinstance(event, Stopping):
        draft.stopping = True


def _ask(draft: Draft, event: ModelAsk) -> None:
    problem = "unknown_model" if event.model not in draft.models else "failed" if draft.stopping else ""
    if problem:
        detail = f"there is no model {event.model!r}" if problem == "unknown_model" else "the daemon is being stopped"
        draft.command(Answer(event.waiter, AnswerKind.REFUSED, problem=problem, detail=detail))
    elif isinstance(event, WakeAsked):
        ask_wake(draft, event)
    elif isinstance(event, SleepAsked):
        ask_sleep(draft, event)
    elif isinstance(event, HoldAsked):
        ask_hold(draft, event)
    elif isinstance(event, PinAsked):
        ask_pin(draft, event)
    else:
        ask_reset(draft, event)


def _look_at_gpus(draft: Draft, event: GpusLooked) -> None:
    reading = event.reading
    if isinstance(reading, Missing):
        was = draft.gpus
        if not isinstance(was, Missing) or (was.reason, was.detail) != (reading.reason, reading.detail):
            draft.note("gpus_missing", "", f"GPU memory cannot be read: {reading.reason}: {reading.detail}")
        draft.gpus = reading
    elif not isinstance(draft.gpus, Known) or reading.asked_at_s >= draft.gpus.asked_at_s:
        if not isinstance(draft.gpus, Known):
            draft.touched.update(draft.models)
        draft.gpus = reading
        if event.listed:
            place(draft)


def _look_at_host(draft: Draft, event: HostLooked) -> None:
    if isinstance(event.reading, Missing) and isinstance(draft.host, Known):
        draft.note("host_missing", "", f"host RAM cannot be read: {event.reading.detail or event.reading.reason}")
    no_limits = event.reading.value.no_limits if isinstance(event.reading, Known) else ""
    told = draft.host.value.no_limits if isinstance(draft.host, Known) else ""
    if no_limits and no_limits != told:
        draft.note("limits_unseen", "", no_limits)
    draft.host = event.reading


def _tell_pressure(draft: Draft, world: World) -> None:
    for rule in draft.settings.rules:
        was, now = rule.name in world.memory.below, rule.name in draft.memory.below
        if was != now:
            text = f"rule {rule.name}: host RAM is {'short' if now else 'enough again'}"
            draft.note("pressure" if now else "pressure_over", "", text)


def _change_settings(draft: Draft, settings: Settings) -> None:
    """Take new settings: models that stay keep their state, removed ones are forgotten, new ones are looked at."""
    draft.settings = settings
    for name in [n for n in draft.models if n not in settings.models]:
        _retire(draft, name, "unknown_model", f"{name} is no longer configured")
        del draft.models[name]
    for name, spec in settings.models.items():
        old = draft.models.get(name)
        if old is not None and old.spec.url != spec.url:
            _retire(draft, name, "engine_failed", f"{name} has another address now: {spec.url}")
        if old is None or old.spec.url != spec.url:
            draft.put(newborn(spec, draft.now))
        elif old.spec != spec:
            # What the files say anew about the pin counts from now on.
            draft.put(replace(old, spec=spec, pin=old.pin if old.spec.pinned is spec.pinned else None))
    draft.touched = set(draft.models)


def _retire(draft: Draft, name: str, problem: str, why: str) -> None:
    """Leave nothing behind that counts on the server a model stood for: its task, its callers, its part in others'."""
    task = draft.tasks.get(name)
    if task is not None:
        draft.end_task(task, why)
    refuse_all(draft, name, problem, why)
    for other in list(draft.tasks.values()):
        draft.put_task(_without(other, name))
    for record in list(draft.models.values()):
        if name in record.made_room:
            draft.put(replace(record, made_room=tuple(n for n in record.made_room if n != name)))


def _without(task: Task, name: str) -> Task:
    """The task without a victim that is no longer there."""
    if task.victim != name and name not in task.slept:
        return task
    victim = None if task.victim == name else task.victim
    return replace(task, victim=victim, slept=tuple(n for n in task.slept if n != name))


def newborn(spec: ModelSpec, now: Now) -> ModelRecord:
    """A model nothing is known of."""
    return ModelRecord(spec=spec, since_s=now.mono_s, since_wall_s=now.wall_s, last_active_s=now.mono_s)


def begin(settings: Settings, saved: Saved, now: Now) -> Turn:
    """The world a daemon starts with: what the database remembers, to be confirmed by a first look.

    Its records close tasks that left no mark on their engine and are not gone on with.
    """
    models: dict[str, ModelRecord] = {}
    tasks: dict[str, Task] = {}
    for name, spec in settings.models.items():
        kept = saved.models.get(name)
        task = saved.tasks.get(name)
        record = newborn(spec, now) if kept is None else _remember(spec, kept, now)
        if kept is not None and task is not None and _goes_on(task, kept):
            record = replace(record, life=kept.life, belief=None)
            step_verb = task.plan.steps[task.cursor].verb
            fenced = kept.life.state not in (State.ASLEEP_L1, State.ASLEEP_L2) and step_verb not in OBSERVES
            phase = Phase.FENCE if fenced and kept.life.state is not State.BROKEN else task.phase
            resume_s = now.mono_s if task.resume_s is not None else None
            tasks[name] = replace(
                task, phase=phase, running=False, started_s=now.mono_s, sent_s=now.mono_s, attempt=0, resume_s=resume_s
            )
        if task is not None and task.running and task.plan.steps[task.cursor].verb in (Verb.FINGERPRINT, Verb.PROBE):
            # The question that was out when the former daemon ended may be counted yet.
            known = record.fingerprint
            record = replace(record, owed=ask_lost(Owed(), known.prompt_tokens if known else None))
        models[name] = record
    for gone in saved.models.keys() - models.keys():
        tasks = {n: _without(t, gone) for n, t in tasks.items()}
    ended = (TaskEnded(t, "dropped at restart", now.wall_s) for n, t in saved.tasks.items() if n not in tasks)
    world = World(settings, models, _with_claims(tasks, saved), proven=saved.proven, next_task=saved.next_task)
    return Turn(world, tuple(ended))


def _with_claims(tasks: Mapping[str, Task], saved: Saved) -> dict[str, Task]:
    """A victim's task whose parent is not gone on with takes over the claims it ran under."""
    parents = {t.id: t for t in saved.tasks.values()}
    kept = {t.id for t in tasks.values()}
    found = {}
    for name, task in tasks.items():
        if task.parent is not None and task.parent not in kept:
            claims = parents[task.parent].claims if task.parent in parents else frozenset({HOST_LOCK})
            task = replace(task, parent=None, claims=task.claims | claims)
        found[name] = task
    return found


def _goes_on(task: Task, kept: ModelSaved) -> bool:
    """A task goes on where its steps left a mark; a drain that sent nothing is simply dropped, and so is a question."""
    if kept.life.state is State.AWAKE:
        return False
    return task.cursor < len(task.plan.steps) and kept.life.state is not State.DRAINING and kept.incarnation is not None


def _remember(spec: ModelSpec, kept: ModelSaved, now: Now) -> ModelRecord:
    settled = kept.life.state in (State.AWAKE, State.DRAINING, State.ASLEEP_L1, State.ASLEEP_L2)
    believed = Life(State.AWAKE, kept.life.weights) if kept.life.state is State.DRAINING else kept.life
    terminal = kept.life.state is State.FAILED
    weights = kept.life.weights if settled or terminal else Weights.DOUBTFUL
    return ModelRecord(
        spec=spec,
        life=kept.life if terminal else Life(State.UNKNOWN, weights),
        since_s=now.mono_s - age_of(kept.since_wall_s, now),
        since_wall_s=kept.since_wall_s,
        incarnation=kept.incarnation,
        belief=Belief(believed, kept.incarnation, kept.control) if settled else None,
        control=kept.control,
        last_active_s=now.mono_s - age_of(kept.last_active_wall_s, now),
        fingerprint=kept.fingerprint,
        footprint=kept.footprint,
        prior=kept.prior,
        prime_failed=kept.prime_failed,
        restart_wanted=kept.restart_wanted,
        failure=kept.failure,
        check_failed=kept.check_failed,
        checking=kept.checking,
        attempts=kept.attempts,
        cooldown_until_s=now.mono_s + min(max(0.0, kept.cooldown_until_wall_s - now.wall_s), 2 * MOST_S),
        frees_nothing=kept.frees_nothing,
        owed_wake=kept.owed_wake,
        unverified=kept.unverified and kept.life.state is State.AWAKE,
        holds=tuple(_remember_hold(h, now) for h in kept.holds),
        pin=kept.pin,
        reason=kept.failure.detail if terminal and kept.failure else "remembered, not looked at yet",
    )


def _remember_hold(kept: HoldSaved, now: Now) -> Hold:
    """A hold goes on where it was; one whose stream broke with the daemon lasts until its owner can be back.

    A wall clock that was set back meanwhile must not make it last longer than was asked for.
    """
    if kept.until_wall_s is None:
        left_s = GRACE_S
    else:
        left_s = min(max(0.0, kept.until_wall_s - now.wall_s), GRACE_S if kept.ttl_s is None else kept.ttl_s)
    until_s, until_wall_s = now.mono_s + left_s, now.wall_s + left_s
    return Hold(kept.id, kept.uid, kept.who, kept.reason, kept.since_wall_s, kept.ttl_s, until_s, until_wall_s)


def next_deadline(world: World, now_s: MonotonicS) -> MonotonicS | None:
    """The next moment after `now_s` at which time alone changes something; a Tick is due then."""
    moments: list[float] = []
    for name, record in world.models.items():
        moments += [w.deadline_s for w in record.waiters]
        moments += hold_moments(record)
        moments += [w.drain_until_s for w in record.waiters if w.drain_until_s]
        task = world.tasks.get(name)
        if task is not None and task.resume_s is not None:
            moments.append(task.resume_s)
        if task is not None:
            moments += hurry_moments(task, world.settings.late_drain_s)
        moments.append(record.cooldown_until_s)
        if record.life.state is State.FOREIGN:
            moments.append(record.hold_down_until_s)
        if record.life.state is State.AWAKE:
            moments += [record.awake_since_s + VERIFY_AFTER_S] if record.unverified and record.fingerprint else []
            moments += [record.awake_since_s + record.spec.min_awake_s, record.not_before_s]
            moments += [record.last_active_s + record.spec.min_awake_s]
            moments += _rule_moments(world, record)
    ahead = [m for m in moments if m > now_s]
    return min(ahead) if ahead else None


def _rule_moments(world: World, record: ModelRecord) -> list[MonotonicS]:
    moments = []
    for rule in world.settings.rules:
        if record.spec.name not in rule.applies_to or not rule.enabled:
            continue
        for condition in rule.conditions:
            if isinstance(condition, IdleFor):
                moments.append(record.last_active_s + condition.seconds)
            elif isinstance(condition, HostAvailableBelow):
                since_s = world.memory.held_since_s.get((rule.name, record.spec.name))
                moments += [since_s + rule.for_s] if since_s is not None else []
    return moments


def poll_after_s(record: ModelRecord, settings: Settings) -> Seconds:
    """Seconds until the next look at this server: sleepers and the lost are looked at more slowly."""
    quiet = record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2, State.FAILED) and not record.waiters
    unsure = 0 < record.failed_polls < LOST_AFTER_POLLS
    return settings.poll_every_s * (ASLEEP_POLL_FACTOR if quiet and not unsure else 1.0)


def asks_sleeping(record: ModelRecord) -> bool:
    """Whether a look must ask /is_sleeping, which blocks behind engine calls: only where the state is unknown."""
    return record.life.state in (State.UNKNOWN, State.LOST)


def wants_processes(world: World) -> bool:
    """Whether the next GPU reading needs process lists, which hold a driver-wide lock.

    Only to place new servers, to see once in each state what they hold, and to see what a half-done wake holds already:
    that much its repetition need not find. Where a list did not tell, it is not asked for again.
    """
    if any(world.models[name].life.state is State.BROKEN for name in world.tasks):
        return True
    return any(
        r.listed_s < r.since_s
        and isinstance(r.seen, Known)
        and bool(r.seen.value.pids)
        and n not in world.tasks
        and (not r.placed_on or _bytes_unknown(r))
        for n, r in world.models.items()
    )


def _bytes_unknown(record: ModelRecord) -> bool:
    state, learned = record.life.state, record.footprint
    return (state is State.AWAKE and not learned.awake) or (
        state in (State.ASLEEP_L1, State.ASLEEP_L2) and not learned.asleep
    )


def is_ready(world: World) -> bool:
    """Whether every model answered or was found unreachable at least once."""
    return all(
        isinstance(r.seen, Known) or r.failed_polls >= LOST_AFTER_POLLS or r.failure for r in world.models.values()
    )
