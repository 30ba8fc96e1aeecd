"""What must hold of rules that go by forecasts whatever happens, looked at as each of their tasks begins."""

from collections.abc import Iterator

from sleepd.core.break_even import GRAIN_S, is_spent
from sleepd.core.foresight import Foresight, foresee, spent_today_s
from sleepd.core.foretelling import foretell
from sleepd.core.limits import ACTIONS_AN_HOUR
from sleepd.core.model import CauseKind, Now
from sleepd.core.record import ModelRecord
from sleepd.core.rules import ActionKind, PredictedIdle, Rule
from sleepd.core.task import Task, TaskKind
from sleepd.core.units import HOUR_S
from sleepd.sim.scenario.stage import Stage


def wakes_ahead_are_foretold_and_can_be_paid(stage: Stage) -> None:
    """no wake ahead begins but for a request that is expected, that may be risked, and that the day's budget allows"""
    for rule, condition, record, found, decided in _begun(stage, TaskKind.WAKE):
        name, world = record.spec.name, stage.daemon.world
        say = f"{name} is woken ahead by {rule.name}"
        within_s = condition.seconds + found.wake_s
        assert found.predicted_s is not None, stage.say(f"{say}, and nothing is foretold: {found}")
        assert 0 < found.predicted_s < within_s, stage.say(f"{say}, and nobody is expected: {found}")
        rest_s = found.credit_s - found.price_s - condition.seconds
        assert rest_s >= -GRAIN_S, stage.say(f"{say}, and no more may be risked: {found}")
        spent_s = spent_today_s(record, world, decided)
        spent = rule.budget_s is not None and spent_s >= rule.budget_s
        assert not spent, stage.say(f"{say}, and its budget of {rule.budget_s}s is spent: {spent_s}s")
        told = foretell(condition, rule, record, world, decided)[1]
        assert told.startswith("one expected in"), stage.say(f"{say}, and the reason told is: {told}")


def sleeps_by_forecast_can_be_paid(stage: Stage) -> None:
    """a rule that goes by forecasts sleeps where none is expected for long and that may be risked, or as a timeout"""
    for rule, condition, record, found, decided in _begun(stage, TaskKind.SLEEP):
        name, told = record.spec.name, foretell(condition, rule, record, stage.daemon.world, decided)[1]
        say = f"{name} is put to sleep by {rule.name}"
        if found.predicted_s is None or is_spent(found.credit_s, found.price_s):
            early_s = condition.seconds - found.silent_s
            assert early_s <= GRAIN_S, stage.say(f"{say} {early_s}s before its timeout: {found}")
            assert "asleep after" in told, stage.say(f"{say}, and the reason told is: {told}")
        else:
            assert found.predicted_s >= condition.seconds, stage.say(f"{say}, and one is expected: {found}")
            by_forecast = told.startswith(("one expected in", "none expected within"))
            assert by_forecast, stage.say(f"{say}, and the reason told is: {told}")


def nobody_is_put_to_sleep_for_a_wake_ahead(stage: Stage) -> None:
    """nobody is put to sleep for a model that only a forecast wants awake"""
    world = stage.daemon.world
    for name, task in world.tasks.items():
        waking = world.tasks.get(task.cause.who) if task.cause.kind is CauseKind.VICTIM else None
        begun = waking is not None and task.started_s == waking.started_s
        ahead = begun and waking is not None and _rule_of(stage, waking) is not None
        assert not ahead, stage.say(f"{name} is put to sleep for a wake ahead of {task.cause.who}")


def forecasts_go_in_no_circles(stage: Stage) -> None:
    """no rule that goes by forecasts wakes or puts to sleep one model more than six times within an hour"""
    if stage.cast.foreseen is None:
        return
    acts, now_s, daemon_s = stage.daemon.world.memory.acts, stage.time.now(), stage.daemon.now().mono_s
    for rule in stage.daemon.settings.rules:
        for name in rule.applies_to if rule.foresees else ():
            at_s = stage.account.acted.setdefault((stage.daemon.tally.deaths, rule.name, name), {})
            # What a stepped clock made older than an hour, while the daemon was away, is no act of this hour.
            at_s.update({s: now_s for s in acts.get((rule.name, name), ()) if daemon_s - s < HOUR_S})
            recent = [s for s in at_s.values() if now_s - s < HOUR_S]
            assert len(recent) <= ACTIONS_AN_HOUR, stage.say(f"{rule.name} acted {len(recent)} times on {name}")


def _begun(stage: Stage, kind: TaskKind) -> Iterator[tuple[Rule, PredictedIdle, ModelRecord, Foresight, Now]]:
    """Tasks of rules that go by forecasts, as they begin: what was foretold when that was decided."""
    world, decided = stage.daemon.world, stage.daemon.decided
    for name, task in world.tasks.items() if stage.cast.foreseen is not None else ():
        rule = _rule_of(stage, task) if task.kind is kind else None
        if rule is None or (stage.daemon.tally.deaths, task.id) in stage.account.foretold:
            continue
        stage.account.foretold.add((stage.daemon.tally.deaths, task.id))
        if task.started_s != decided.mono_s:
            continue  # begun by a turn that could not be recorded, and was taken anew
        found = foresee(world.models[name], world, decided)
        condition = next(c for c in rule.conditions if isinstance(c, PredictedIdle))
        if found is not None:
            yield rule, condition, world.models[name], found, decided


def _rule_of(stage: Stage, task: Task) -> Rule | None:
    """The rule that goes by forecasts and began this task."""
    if task.cause.kind is not CauseKind.RULE or task.kind not in (TaskKind.SLEEP, TaskKind.WAKE):
        return None
    wanted = ActionKind.SLEEP if task.kind is TaskKind.SLEEP else ActionKind.WAKE
    rules = stage.daemon.settings.rules_of.get(task.model, ())
    return next((r for r in rules if r.foresees and r.name == task.cause.who and r.action.kind is wanted), None)
