"""What is foreseen of a model, as an operator reads it."""

from sleepd.core.break_even import MOST_PRICES, is_spent
from sleepd.core.calendar import offset_at
from sleepd.core.conditions import is_busy
from sleepd.core.daybook import DAY_S, SLOT_S, SLOTS, LocalS, is_working_day, like_days, whole_days
from sleepd.core.expected import AHEAD_S, FEWEST_DAYS, FEWEST_VISITS, days_observed
from sleepd.core.foresight import Foresight, foresee
from sleepd.core.habits import Habits, trust_in_calendar, visits
from sleepd.core.model import Now
from sleepd.core.record import ModelRecord
from sleepd.core.rules import AHEAD, PredictedIdle, Rule
from sleepd.core.silences import SHORTEST_S, chance_within, length_of
from sleepd.core.units import Seconds, format_duration
from sleepd.core.world import World

TOO_DEAR = "forecasts cost too much lately"
SOON_S: Seconds = 1800.0
"""How soon silences end is told for so long."""
WINDOW_SLOTS = 4
"""Requests of twenty minutes are told together."""


def foretell(condition: PredictedIdle, rule: Rule, record: ModelRecord, world: World, now: Now) -> tuple[str, str]:
    """What the condition wants, and what was found."""
    span = format_duration(condition.seconds)
    ahead = rule.action.kind in AHEAD
    wanted = f"a request expected within {span}" if ahead else f"no request expected for {span}"
    found, offset_s = foresee(record, world, now), offset_at(world.calendar, now.wall_s)
    if found is None or offset_s is None:
        return wanted, "the calendar is not known yet"
    if is_busy(record):
        return wanted, "in use"
    if record.holds:
        return wanted, "held"
    local_s = now.wall_s + offset_s
    foretold = _foretold(found, record.habits, local_s)
    instead = _instead(found, record.habits, local_s)
    if ahead:
        soon = found.predicted_s is not None and found.predicted_s < found.within_s(condition)
        if soon and not instead and not found.holds(condition, rule) and not found.same_visit:
            # More may be risked than one sleep costs, but not as much as to be awake in vain for as long as this.
            most_s = MOST_PRICES * found.price_s
            never = found.price_s + found.within_s(condition) > most_s
            beyond = f"{span} are more than may ever be risked: {format_duration(round(most_s))}, a sleep in it"
            return wanted, f"{foretold}; {beyond if never else TOO_DEAR}"
        return wanted, f"{instead}: nothing is done ahead" if instead else foretold
    silent = format_duration(round(found.silent_s))
    return wanted, f"{instead}: asleep after {span} of silence, {silent} so far" if instead else foretold


def _instead(found: Foresight, habits: Habits, local_s: LocalS) -> str:
    """Why the rule is a plain timeout; empty where it goes by what is foretold."""
    if found.over_budget:
        return "woken ahead, it was awake for the budget of today"
    if found.predicted_s is None:
        return _too_little(habits, local_s)
    return TOO_DEAR if is_spent(found.credit_s, found.price_s) else ""


def _foretold(found: Foresight, habits: Habits, local_s: LocalS) -> str:
    """What is expected and why."""
    if found.predicted_s is None:
        return ""
    if found.same_visit:
        return "used within the last minute: the same visit may go on"
    if found.predicted_s >= AHEAD_S:
        return f"none expected within {format_duration(AHEAD_S)}; {_goes_by(habits, local_s)}"
    return f"one expected in {format_duration(round(found.predicted_s))}; {_goes_by(habits, local_s)}"


def _goes_by(habits: Habits, local_s: LocalS) -> str:
    """What was observed by local time; before it, what silences tell, where they are trusted more."""
    silent_s = max(SHORTEST_S, local_s - habits.last_s)
    if trust_in_calendar(habits, length_of(silent_s)) >= 0.5:
        return recall(habits, local_s)
    share = chance_within(habits.by_silence, habits.busy, silent_s, SOON_S)
    return f"{share:.0%} of silences like this one end within {format_duration(SOON_S)}; {recall(habits, local_s)}"


def _too_little(habits: Habits, local_s: LocalS) -> str:
    if habits.last_s > local_s:
        return "the clock was set back behind its last request"
    days, came = days_observed(habits, local_s), int(visits(habits))
    return f"{days} whole days and {came} visits were observed, {FEWEST_DAYS} and {FEWEST_VISITS} are needed"


def recall(habits: Habits, local_s: LocalS) -> str:
    """What was observed of the hours ahead: "on 4 of the last 5 weekdays a request came between 07:50 and 08:10"."""
    first = int(local_s // SLOT_S)
    day = first // SLOTS
    bits_of = dict(habits.days)
    alike = like_days((d for d, _ in whole_days(habits.days, day)), day)
    days = "weekdays" if is_working_day(day) else "days of weekends"
    if not alike:
        return f"no {days} were observed yet"
    if alike != like_days(range(alike[0], day), day):
        days += " that were observed"
    ahead = int(AHEAD_S / SLOT_S)
    windows = (
        (sum(_came(bits_of, first + at - (day - d) * SLOTS) for d in alike), -at)
        for at in range(ahead - WINDOW_SLOTS + 1)
    )
    count, at = max(windows)
    begin, end = (first, first + ahead) if not count else (first - at, first - at + WINDOW_SLOTS)
    which = f"on {count or 'none'} of the last {len(alike)} {days}"
    return f"{which} a request came between {_clock(begin)} and {_clock(end)}"


def _came(bits_of: dict[int, int], slot: int) -> bool:
    """Whether a request came in the window that begins with this slot, counted since 1970."""
    day, at = divmod(slot, SLOTS)
    bits = bits_of.get(day, 0) | bits_of.get(day + 1, 0) << SLOTS
    return bits >> at & (1 << WINDOW_SLOTS) - 1 > 0


def _clock(slot: int) -> str:
    minutes = int(slot * SLOT_S % DAY_S // 60)
    return f"{minutes // 60:02}:{minutes % 60:02}"
