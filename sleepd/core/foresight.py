"""What rules with `predicted_idle` go by: how long a model was silent, what is expected of it, what may be risked."""

from dataclasses import dataclass
from math import ceil, floor

from sleepd.core.break_even import GRAIN_S, Account, credit_at, crossings, may_sleep, may_sleep_deeper, may_wake
from sleepd.core.calendar import offset_at
from sleepd.core.daybook import DAY_S, LocalS
from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.expected import expected_idle, next_change
from sleepd.core.frozen import replace
from sleepd.core.life import OUT, wakes_from
from sleepd.core.model import Now, Settings
from sleepd.core.record import Ahead, ModelRecord
from sleepd.core.records import AccountSaved, AheadSaved
from sleepd.core.rules import ActionKind, IdleFor, PredictedIdle, Rule
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.world import World

GRID_S: Seconds = 0.01
"""What is foreseen is looked at as of the last of these moments: see `_on_grid`."""
AHEAD = (ActionKind.WAKE, ActionKind.KEEP_AWAKE)
"""Rules of these kinds ask whether a request is expected soon; all others, whether none is for long."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is known of the next request of one model now. `predicted_s` None: nothing is foretold, because too little
    was observed, or because it was woken ahead and the budget for that is spent."""

    predicted_s: Seconds | None
    silent_s: Seconds
    credit_s: Seconds
    price_s: Seconds
    wake_s: Seconds
    over_budget: bool = False

    def holds(self, condition: PredictedIdle, rule: Rule) -> bool:
        """Whether the condition holds in this rule; whoever asks knows that nobody uses the model."""
        if rule.action.kind is ActionKind.WAKE and self.same_visit:
            return False  # somebody put it to sleep within the minute: that was not for want of a forecast
        if rule.action.kind in AHEAD:
            return may_wake(self.predicted_s, self.within_s(condition), self.credit_s, self.price_s)
        return may_sleep(self.predicted_s, self.silent_s, self.credit_s, self.price_s, condition.seconds)

    def within_s(self, condition: PredictedIdle) -> Seconds:
        """How soon a request must be expected that is woken ahead of: so much earlier as waking takes."""
        return condition.seconds + self.wake_s

    @property
    def same_visit(self) -> bool:
        """Whether the last request is so near that the next one may belong to it."""
        return self.predicted_s == 0.0


def foresee(record: ModelRecord, world: World, now: Now) -> Foresight | None:
    """What is foreseen of the model now; None where local time is not known, or no rule asks."""
    now = _on_grid(now)
    offset_s, price_s = offset_at(world.calendar, now.wall_s), price_of(world.settings, record)
    if offset_s is None or not price_s:
        return None
    account = record.account or open_account(record, price_s, now.mono_s)
    left_s = left_of_budget(record, world, now)
    over_budget = left_s is not None and left_s <= GRAIN_S
    return Foresight(
        None if over_budget else expected_idle(record.habits, now.wall_s + offset_s),
        silent_since(account, now.mono_s),
        credit_at(account, price_s, now.mono_s),
        price_s,
        waking_s(record),
        over_budget,
    )


def _on_grid(now: Now) -> Now:
    """The last hundredth of a second: so what changes by time alone changes with a deadline, and not just before."""
    passed_s = now.mono_s - floor(now.mono_s / GRID_S + 1e-6) * GRID_S
    return replace(now, mono_s=now.mono_s - passed_s, wall_s=now.wall_s - passed_s)


def paying_level(record: ModelRecord, world: World, now: Now) -> int:
    """How deep a sleep is worth its wake: level 2 where no request is foreseen for longer than it costs, and that much
    may be risked."""
    found = foresee(record, world, now)
    if found is None:
        return 1
    cost_s = cost_of_sleep(record, found.price_s, 2)
    return 2 if may_sleep_deeper(found.predicted_s, found.credit_s, cost_s) else 1


def cost_of_sleep(record: ModelRecord, price_s: Seconds, level: int) -> Seconds:
    """What a sleep at this level and its wake are worth in seconds awake: the price, and at level 2 as much more as
    both take longer there, as learned."""
    if level < 2:
        return price_s
    takes_s = [expected_sleep(record, each).seconds + expected_wake(record, each).seconds for each in (1, level)]
    return price_s * max(1.0, takes_s[1] / takes_s[0])


def waking_s(record: ModelRecord) -> Seconds:
    """How long its wake takes, as learned."""
    return expected_wake(record, wakes_from(record.life.state)).seconds


def open_account(record: ModelRecord, price_s: Seconds, now_s: MonotonicS) -> Account:
    """The account of a model that none was kept of, with one price in it."""
    return Account(price_s, now_s, max(0.0, now_s - record.last_active_s), record.life.state not in OUT)


def silent_since(account: Account, now_s: MonotonicS) -> Seconds:
    """How long nobody has used the model, nor woken it but rules."""
    return account.silent_s + (0.0 if account.in_use else max(0.0, now_s - account.at_s))


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
    """When what is foreseen of the model changes by time alone; None: not as far as is known, or no rule asks.

    The same whenever one asks before it, as long as the clocks agree: see `clocks_apart_s`."""
    offset_s, account = offset_at(world.calendar, now.wall_s), record.account
    if offset_s is None or account is None:
        return None
    price_s = price_of(world.settings, record)
    moments = [next_change(record.habits, now.wall_s + offset_s) - offset_s - clocks_apart_s(now)]
    left_s = left_of_budget(record, world, now)
    if left_s is not None:
        moments.append(now.mono_s + left_s)
    moments += crossings(account, price_s, price_s)
    for rule in foreseeing(world.settings, record.spec.name):
        for condition in (c for c in rule.conditions if isinstance(c, PredictedIdle)):
            if rule.action.kind in AHEAD:
                moments += crossings(account, price_s, price_s + condition.seconds + waking_s(record))
            else:
                moments.append(account.at_s + condition.seconds - account.silent_s)
    return min((s for s in (_told_at(moment_s, now.mono_s) for moment_s in moments) if s is not None), default=None)


def clocks_apart_s(now: Now) -> Seconds:
    """How far the clock is ahead of monotonic time, without what floats of either add to it."""
    return round(now.wall_s - now.mono_s, 6)


def _told_at(moment_s: MonotonicS, now_s: MonotonicS) -> MonotonicS | None:
    """The first of the hundredths around the moment that is to come: what floats cannot tell from the moment itself is
    so with one of these. None: it is past."""
    for grain_s in (-GRAIN_S, 0.0, 2 * GRAIN_S):
        at_s = ceil((moment_s + grain_s) / GRID_S) * GRID_S
        if at_s > now_s:
            return at_s
    return None


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


def account_saved(account: Account, now: Now) -> AccountSaved:
    """The account as a restarted daemon finds it."""
    at_wall_s = round(now.wall_s - (now.mono_s - account.at_s), 3)
    return AccountSaved(round(account.credit_s, 3), round(account.silent_s, 3), at_wall_s, account.awake)


def ahead_saved(ahead: Ahead, now: Now) -> AheadSaved:
    """What wakes ahead took of the day, as a restarted daemon finds it."""
    since_wall_s = None if ahead.since_s is None else round(now.wall_s - (now.mono_s - ahead.since_s), 3)
    return AheadSaved(since_wall_s, ahead.day, ahead.spent_s, ahead.rule)
