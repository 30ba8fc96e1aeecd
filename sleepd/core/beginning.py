"""The world a daemon begins with: what the database remembers, to be confirmed by a first look."""

from collections.abc import Mapping

from sleepd.core.activity import Owed, ask_lost
from sleepd.core.break_even import Account
from sleepd.core.budget import MOST_S
from sleepd.core.draft import age_of
from sleepd.core.frozen import replace
from sleepd.core.habits import restore
from sleepd.core.holds import GRACE_S
from sleepd.core.life import ASLEEP, Life, State, Weights
from sleepd.core.model import ModelSpec, Now, Settings
from sleepd.core.owed_wakes import ON_STOP
from sleepd.core.plan import OBSERVES, UNIT_VERBS, Verb
from sleepd.core.record import Ahead, Belief, Hold, ModelRecord
from sleepd.core.records import AccountSaved, AheadSaved, HoldSaved, ModelSaved, RuleSaved, Saved, TaskEnded
from sleepd.core.reservations import remember_reservations
from sleepd.core.task import HOST_LOCK, UNIT_TASKS, Phase, Task
from sleepd.core.tasks import without_victim
from sleepd.core.turn import Turn
from sleepd.core.units import format_duration
from sleepd.core.world import DetectorMemory, RuleKey, World


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
        record = newborn(spec, now) if kept is None else _remember(spec, kept, now, settings)
        if kept is not None and task is not None and _goes_on(task, kept, spec.unit):
            record = replace(record, life=kept.life, belief=None)
            step_verb = task.plan.steps[task.cursor].verb
            left_marks = kept.life.state not in ASLEEP and step_verb not in OBSERVES
            # A step that waited for its moment (for memory, say) was not sent: there is nothing to find out about it,
            # and its intent is still that of the step before.
            fenced = left_marks and task.running and step_verb not in UNIT_VERBS
            phase = Phase.FENCE if fenced and kept.life.state is not State.BROKEN else task.phase
            resume_s = now.mono_s if task.resume_s is not None else None
            phase = Phase.FENCE if task.running and step_verb is Verb.START_UNIT else phase
            called_s = now.mono_s if task.called_s is not None else None
            anew = replace(task, started_s=now.mono_s, sent_s=now.mono_s, called_s=called_s, resume_s=resume_s)
            tasks[name] = replace(anew, phase=phase, running=False, attempt=int(task.kind in UNIT_TASKS))
        if task is not None and task.running and task.plan.steps[task.cursor].verb in (Verb.FINGERPRINT, Verb.PROBE):
            # The question that was out when the former daemon ended may be counted yet.
            known = record.fingerprint
            record = replace(record, owed=ask_lost(Owed(), known.prompt_tokens if known else None))
        models[name] = record
    for gone in saved.models.keys() - models.keys():
        tasks = {n: without_victim(t, gone) for n, t in tasks.items()}
    ended = (TaskEnded(t, "dropped at restart", now.wall_s) for n, t in saved.tasks.items() if n not in tasks)
    world = World(
        settings,
        models,
        _with_claims(tasks, saved),
        memory=_remember_rules(settings, saved.rules, now),
        proven=saved.proven,
        reservations=remember_reservations(saved.reservations, now),
        next_task=saved.next_task,
    )
    return Turn(world, tuple(ended))


def _remember_rules(settings: Settings, kept: Mapping[RuleKey, RuleSaved], now: Now) -> DetectorMemory:
    """Cooldowns, actions and wishes that came true; those of rules that are gone are forgotten.

    An action whose age the clocks cannot tell counts as just now.
    """
    known = {(r.name, m) for r in settings.rules for m in r.applies_to}
    rules = {key: saved for key, saved in kept.items() if key in known}
    return DetectorMemory(
        acts={
            k: tuple(now.mono_s - age_of(at, now) for at in r.acts_wall_s) for k, r in rules.items() if r.acts_wall_s
        },
        achieved=frozenset(k for k, r in rules.items() if r.achieved),
        dealt_with={k: r.dealt_with_wall_s for k, r in rules.items() if r.dealt_with_wall_s is not None},
    )


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


def _goes_on(task: Task, kept: ModelSaved, unit: str) -> bool:
    """A task goes on where its steps left a mark; a drain that sent nothing is simply dropped, and so is a question."""
    if task.kind in UNIT_TASKS:
        return kept.life.state in (State.STARTING, State.STOPPING) and bool(unit)
    if kept.life.state is State.AWAKE:
        return False
    return task.cursor < len(task.plan.steps) and kept.life.state is not State.DRAINING and kept.incarnation is not None


def _remember(spec: ModelSpec, kept: ModelSaved, now: Now, settings: Settings) -> ModelRecord:
    settled = kept.life.state in (State.AWAKE, State.DRAINING, State.ASLEEP_L1, State.ASLEEP_L2)
    believed = Life(State.AWAKE, kept.life.weights) if kept.life.state is State.DRAINING else kept.life
    terminal = kept.life.state is State.FAILED or (kept.life.state is State.STOPPED and bool(spec.unit))
    weights = kept.life.weights if settled or terminal else Weights.DOUBTFUL
    since_s = now.mono_s - age_of(kept.since_wall_s, now)
    record = ModelRecord(
        spec=spec,
        life=kept.life if terminal else Life(State.UNKNOWN, weights),
        since_s=since_s,
        since_wall_s=kept.since_wall_s,
        incarnation=kept.incarnation,
        belief=Belief(believed, kept.incarnation, kept.control, since_s, kept.since_wall_s) if settled else None,
        control=kept.control,
        last_active_s=now.mono_s - age_of(kept.last_active_wall_s, now),
        fingerprint=kept.fingerprint,
        footprint=kept.footprint,
        prior=kept.prior,
        prime_failed=kept.prime_failed,
        restart_wanted=kept.restart_wanted,
        stopped=kept.stopped,
        restart_due=kept.restart_due,
        restarts_s=tuple(now.mono_s - age_of(wall_s, now) for wall_s in kept.restarts_wall_s),
        restarts_spent=kept.restarts_spent,
        served_as=kept.served_as,
        told_to_stop=kept.told_to_stop,
        failure=kept.failure,
        check_failed=kept.check_failed,
        checking=kept.checking,
        checksums=kept.checksums,
        attempts=kept.attempts,
        cooldown_until_s=now.mono_s + min(max(0.0, kept.cooldown_until_wall_s - now.wall_s), 2 * MOST_S),
        frees_nothing=kept.frees_nothing,
        # What was owed because the daemon would be gone is not owed any more: here it is.
        owed_wake=None if kept.owed_wake is not None and kept.owed_wake.who == ON_STOP else kept.owed_wake,
        unverified=kept.unverified,
        untried=kept.untried,
        holds=tuple(_remember_hold(h, now) for h in kept.holds),
        habits=restore(kept.habits),
        account=_remember_account(kept.account, now) if kept.account is not None else None,
        ahead=_remember_ahead(kept.ahead, now) if kept.ahead is not None else None,
        pin=kept.pin,
        reason=kept.failure.detail if terminal and kept.failure else "remembered, not looked at yet",
    )
    return _go_on_holding_down(record, kept, now, settings)


def _remember_account(kept: AccountSaved, now: Now) -> Account:
    """It was awake, or asleep, all the time for all we know."""
    return Account(kept.credit_s, now.mono_s - age_of(kept.at_wall_s, now), kept.silent_s, kept.awake)


def _remember_ahead(kept: AheadSaved, now: Now) -> Ahead:
    since_s = None if kept.since_wall_s is None else now.mono_s - age_of(kept.since_wall_s, now)
    return Ahead(since_s, kept.day, kept.spent_s, kept.rule)


def _go_on_holding_down(record: ModelRecord, kept: ModelSaved, now: Now, settings: Settings) -> ModelRecord:
    """Whoever drives it does not care that the daemon was restarted: it is left alone as long as was said. A wall clock
    that was set back meanwhile must not make that longer than a whole hold-down."""
    left_s = min(kept.hold_down_until_wall_s - now.wall_s, settings.foreign_hold_down_s)
    if kept.life.state is not State.FOREIGN or left_s <= 0:
        return record
    told = f"somebody else was at it before the daemon was restarted: hands off for {format_duration(left_s)}"
    return replace(record, life=kept.life, hold_down_until_s=now.mono_s + left_s, reason=told)


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
