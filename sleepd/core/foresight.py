"""What rules with `predicted_idle` go by: how long a model was silent, what is expected of it, what may be risked."""

from dataclasses import dataclass
from math import floor

from sleepd.core.break_even import GRAIN_S, Account, credit_at, may_sleep, may_sleep_deeper, may_wake
from sleepd.core.calendar import offset_at
from sleepd.core.daybook import DAY_S, LocalS
from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.expected import Outlook, expected_idle
from sleepd.core.habits import Habits
from sleepd.core.life import OUT, wakes_from
from sleepd.core.model import Now, Settings
from sleepd.core.record import Ahead, ModelRecord
from sleepd.core.records import AccountSaved, AheadSaved
from sleepd.core.rules import AHEAD, ActionKind, PredictedIdle, Rule
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.world import World

GRID_S: Seconds = 0.01
"""What is foreseen is looked at as of the last of these moments: see `last_hundredth_s`."""


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

    def pays(self, cost_s: Seconds) -> bool:
        """Whether a sleep is worth this much."""
        return may_sleep_deeper(self.predicted_s, self.credit_s, cost_s)

    def within_s(self, condition: PredictedIdle) -> Seconds:
        """How soon a request must be expected that is woken ahead of: so much earlier as waking takes."""
        return condition.seconds + self.wake_s

    @property
    def same_visit(self) -> bool:
        """Whether the last request is so near that the next one may belong to it."""
        return self.predicted_s == 0.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What is foreseen of a model goes by these and by the time, and so does what its rules make of it."""

    rules: tuple[Rule, ...]
    habits: Habits
    account: Account
    price_s: Seconds
    deeper_s: Seconds | None
    """What a sleep at level 2 costs; None where no rule asks for one."""
    wake_s: Seconds
    offset_s: Seconds
    """By how much local time is ahead of the clock."""
    apart_s: Seconds
    """By how much the clock is ahead of monotonic time."""
    budget_until_s: MonotonicS | None
    """Until when the rule that woke it ahead may keep it awake; None: as long as it likes, or nobody woke it so."""

    @property
    def local_ahead_s(self) -> Seconds:
        """By how much local time is ahead of monotonic time."""
        return self.apart_s + self.offset_s

    def at(self, now_s: MonotonicS, outlook: Outlook | None = None) -> Foresight:
        """What is known of the next request at this hundredth of a second; `outlook`: of its habits, where one asks for
        one moment after another."""
        local_s = now_s + self.local_ahead_s
        over_budget = self.budget_until_s is not None and self.budget_until_s - now_s <= GRAIN_S
        expected_s = expected_idle(self.habits, local_s) if outlook is None else outlook.at(local_s)
        return Foresight(
            None if over_budget else expected_s,
            silent_since(self.account, now_s),
            credit_at(self.account, self.price_s, now_s),
            self.price_s,
            self.wake_s,
            over_budget,
        )


def foresee(record: ModelRecord, world: World, now: Now) -> Foresight | None:
    """What is foreseen of the model now; None where local time is not known, or no rule asks."""
    terms = terms_of(record, world, now)
    return None if terms is None else terms.at(last_hundredth_s(now.mono_s))


def terms_of(record: ModelRecord, world: World, now: Now) -> Terms | None:
    """What `foresee` goes by until anything but time changes; None where local time is not known, or no rule asks."""
    price_s = price_of(world.settings, record)
    offset_s = offset_at(world.calendar, now.wall_s) if price_s else None
    if offset_s is None:
        return None
    left_s = left_of_budget(record, world, now)
    rules = world.settings.foreseeing[record.spec.name]
    return Terms(
        rules,
        record.habits,
        record.account or open_account(record, price_s, last_hundredth_s(now.mono_s)),
        price_s,
        cost_of_sleep(record, price_s, 2) if any(rule.action.level == 2 for rule in rules) else None,
        waking_s(record),
        offset_s,
        clocks_apart_s(now),
        None if left_s is None else now.mono_s + left_s,
    )


def last_hundredth_s(now_s: MonotonicS) -> MonotonicS:
    """The last hundredth of a second: so what changes by time alone changes with a deadline, and not just before."""
    return floor(now_s / GRID_S + 1e-6) * GRID_S


def paying_level(record: ModelRecord, world: World, now: Now) -> int:
    """How deep a sleep is worth its wake: level 2 where no request is foreseen for longer than it costs, and that much
    may be risked."""
    found = foresee(record, world, now)
    return 2 if found is not None and found.pays(cost_of_sleep(record, found.price_s, 2)) else 1


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


def price_of(settings: Settings, record: ModelRecord) -> Seconds:
    """What one sleep and wake of the model are worth in seconds awake: the shortest idle time, predicted or passed,
    after which a rule puts it to sleep, though never less than both take. 0: no rule foresees anything."""
    shortest_nap_s = settings.shortest_naps_s.get(record.spec.name)
    if shortest_nap_s is None:
        return 0.0
    return max(shortest_nap_s, expected_sleep(record, 1).seconds + expected_wake(record, 1).seconds)


def clocks_apart_s(now: Now) -> Seconds:
    """How far the clock is ahead of monotonic time, to the millisecond: one is read after the other, and their floats
    are coarse. What is kept as long as no clock is set would else be worked out anew in every other turn."""
    return round(now.wall_s - now.mono_s, 3)


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
    rules = (r for r in world.settings.foreseeing.get(record.spec.name, ()) if r.name == record.ahead.rule)
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
