"""What rules with `predicted_idle` go by: how long a model was silent, what is expected of it, what may be risked."""

from dataclasses import dataclass

from sleepd.core.break_even import Account, credit_at, may_sleep, may_wake, spent_s
from sleepd.core.calendar import offset_at
from sleepd.core.daybook import DAY_S, LocalS
from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.expected import expected_idle, next_change
from sleepd.core.life import OUT
from sleepd.core.model import Now, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.rules import ActionKind, IdleFor, PredictedIdle, Rule
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.world import World

AHEAD = (ActionKind.WAKE, ActionKind.KEEP_AWAKE)
"""Rules of these kinds ask whether a request is expected soon; all others, whether none is for long."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is known of the next request of one model now. `predicted_s` None: too little was observed to tell."""

    predicted_s: Seconds | None
    silent_s: Seconds
    credit_s: Seconds
    price_s: Seconds
    wake_s: Seconds

    def holds(self, condition: PredictedIdle, rule: Rule) -> bool:
        """Whether the condition holds in this rule; whoever asks knows that nobody uses the model."""
        if rule.action.kind in AHEAD:
            # Woken so much earlier as waking takes.
            return may_wake(self.predicted_s, condition.seconds + self.wake_s, self.credit_s, self.price_s)
        return may_sleep(self.predicted_s, self.silent_s, self.credit_s, self.price_s, condition.seconds)


def foresee(record: ModelRecord, world: World, now: Now) -> Foresight | None:
    """What is foreseen of the model now; None where local time is not known, or no rule asks."""
    offset_s, price_s = offset_at(world.calendar, now.wall_s), price_of(world.settings, record)
    if offset_s is None or not price_s:
        return None
    account = record.account or open_account(record, price_s, now.mono_s)
    return Foresight(
        expected_idle(record.habits, now.wall_s + offset_s),
        silent_since(account, now.mono_s),
        credit_at(account, price_s, now.mono_s),
        price_s,
        expected_wake(record, 1).seconds,
    )


def paying_level(record: ModelRecord, world: World, now: Now) -> int:
    """How deep a sleep is worth its wake: level 2 where no request is foreseen for longer than the price, by as much as
    sleeping and waking at level 2 take longer, as learned."""
    found = foresee(record, world, now)
    if found is None or found.predicted_s is None:
        return 1
    takes_s = [expected_sleep(record, level).seconds + expected_wake(record, level).seconds for level in (1, 2)]
    return 2 if found.predicted_s >= found.price_s * max(1.0, takes_s[1] / takes_s[0]) else 1


def open_account(record: ModelRecord, price_s: Seconds, now_s: MonotonicS) -> Account:
    """The account of a model that none was kept of: as a former daemon left it, else with one price."""
    credit_s = price_s if record.credit_s is None else record.credit_s
    return Account(credit_s, now_s, max(0.0, now_s - record.last_active_s), record.life.state not in OUT)


def silent_since(account: Account, now_s: MonotonicS) -> Seconds:
    """How long nobody has used the model, nor woken it but rules."""
    return account.silent_s + max(0.0, now_s - account.at_s)


def foreseeing(settings: Settings, name: str) -> list[Rule]:
    """The rules that go by what is expected of the model, and are in force."""
    return [r for r in settings.rules_of.get(name, ()) if r.enabled and r.foresees]


def price_of(settings: Settings, record: ModelRecord) -> Seconds:
    """What one sleep and wake of the model are worth in seconds awake: the shortest idle time, predicted or passed,
    after which a rule puts it to sleep, though never less than both take. Where no rule does so after a time, what the
    rules that foresee ask for stands in. 0: no rule foresees anything."""
    rules = foreseeing(settings, record.spec.name)
    if not rules:
        return 0.0
    naps = [r for r in settings.rules_of[record.spec.name] if r.enabled and r.action.kind not in AHEAD] or rules
    waits_s = [c.seconds for r in naps for c in r.conditions if isinstance(c, PredictedIdle | IdleFor)]
    takes_s = expected_sleep(record, 1).seconds + expected_wake(record, 1).seconds
    if waits_s:
        return max(takes_s, min(waits_s))
    return max(takes_s, *(c.seconds for r in rules for c in r.conditions if isinstance(c, PredictedIdle)))


def foreseen_moment(record: ModelRecord, world: World, now: Now) -> MonotonicS | None:
    """When what is foreseen of the model changes by time alone; None: not as far as is known, or no rule asks."""
    offset_s, account = offset_at(world.calendar, now.wall_s), record.account
    if offset_s is None or account is None:
        return None
    local_s, price_s = now.wall_s + offset_s, price_of(world.settings, record)
    moments = [now.mono_s + next_change(record.habits, local_s) - local_s]
    if account.awake:
        moments += [account.at_s + price_s - account.silent_s, spent_s(account, price_s, now.mono_s)]
    return min(moment_s for moment_s in moments if moment_s > now.mono_s)


def spent_today_s(record: ModelRecord, world: World, now: Now) -> Seconds:
    """How long the model was awake since midnight, woken ahead, before a request came or without one."""
    if record.ahead is None:
        return 0.0
    day, passed_s = divmod(_local_s(world, now), DAY_S)
    spent_s = record.ahead.spent_s if record.ahead.day == day else 0.0
    return spent_s + (min(passed_s, now.mono_s - record.ahead.since_s) if record.ahead.since_s is not None else 0.0)


def left_of_budget(record: ModelRecord, world: World, now: Now) -> Seconds | None:
    """How long the rule that woke it ahead may keep it awake today; None: as long as it likes, or nobody woke it so."""
    if record.ahead is None or record.ahead.since_s is None:
        return None
    rules = (r for r in foreseeing(world.settings, record.spec.name) if r.name == record.ahead.rule)
    budget_s = next((rule.budget_s for rule in rules), None)
    return None if budget_s is None else budget_s - spent_today_s(record, world, now)


def local_day(world: World, now: Now) -> int:
    """Today, by the clock on the wall."""
    return int(_local_s(world, now) // DAY_S)


def _local_s(world: World, now: Now) -> LocalS:
    return now.wall_s + (offset_at(world.calendar, now.wall_s) or 0.0)
