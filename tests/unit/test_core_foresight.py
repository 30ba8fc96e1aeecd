"""What rules make of habits: who falls asleep, how deep, who is woken, and what stands in their way."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, KNOWN_ANSWER, NOW, proven, record, world
from rule_worlds import begun, calendar, looked, play, report, rule

from sleepd.core.break_even import Account
from sleepd.core.daybook import SLOT_S, SLOTS
from sleepd.core.events import ModelLooked
from sleepd.core.foresight import paying_level, price_of
from sleepd.core.habits import Habits
from sleepd.core.life import State
from sleepd.core.model import Missing, MissingReason
from sleepd.core.record import Ahead
from sleepd.core.rules import SLEEP_1, SLEEP_2, WAKE, IdleFor, PredictedIdle
from sleepd.core.sightings import LOST_AFTER_POLLS
from sleepd.core.silences import SILENCES_S

TODAY, SLOT = divmod(int((NOW.wall_s + 3600.0) // SLOT_S), SLOTS)
"""By the clock of the calendar's zone, an hour ahead of UTC: a Tuesday, 23:10."""
OBSERVED = ((10.0, 10.0),) * len(SILENCES_S)
GONE = Missing(MissingReason.REFUSED)
NAP, AHEAD = rule("nap", SLEEP_1, PredictedIdle(300.0)), rule("ahead", WAKE, PredictedIdle(300.0))
RICH = Account(2000.0, NOW.mono_s, 4000.0, awake=True)


def habits(*slots, silent_s=4000.0):
    """Asked for in these slots of every day, counted from now, and silent for so long."""
    bits = sum(1 << (SLOT + slot) % SLOTS for slot in slots)
    days = tuple((TODAY - ago, bits if ago else 0) for ago in range(20, -1, -1))
    return Habits(days, OBSERVED, (), NOW.wall_s + 3600.0 - silent_s)


def model(*slots, life=None, spec=None, account=RICH, silent_s=4000.0):
    life = {} if life is None else {"life": life}
    made = record(
        spec=spec or {}, **life, account=account, habits=habits(*slots, silent_s=silent_s), fingerprint=KNOWN_ANSWER
    )
    return replace(made, last_active_s=NOW.mono_s - silent_s)


def made(of, *rules):
    return replace(world(of, rules=rules), calendar=calendar())


@pytest.mark.parametrize(("slots", "sleeps"), [((), True), ((0, 1), False), ((20,), True)])
def test_a_model_sleeps_where_nothing_is_expected(slots, sleeps):
    assert begun(play(made(model(*slots), NAP))) == ("sleep 1" if sleeps else "")


def test_what_may_be_risked_is_spent_and_it_sleeps_whatever_is_expected():
    spent = Account(300.0, NOW.mono_s, 4000.0, awake=True)
    assert begun(play(made(model(0, 1, account=spent), NAP))) == "sleep 1"
    told = report(made(model(0, 1, account=spent), NAP), "nap").conditions[0].found
    assert told == "forecasts cost too much lately: asleep after 5m of silence, 1h7m so far"


def test_where_silences_foretold_better_than_the_clock_that_is_told():
    of = model()
    by_silence = replace(of.habits, trust=(-2.0,) * len(SILENCES_S))
    told = report(made(replace(of, habits=by_silence), NAP), "nap").conditions[0].found
    assert told == (
        "one expected in 4h38m; 11% of silences like this one end within 30m; "
        "on none of the last 5 weekdays a request came between 23:10 and 05:10"
    )


@pytest.mark.parametrize(
    ("slots", "credit_s", "wakes"), [((0, 1), 2000.0, True), ((0, 1), 500.0, False), ((), 2e3, False)]
)
def test_a_sleeper_is_woken_where_a_request_is_expected_and_may_be_waited_for(slots, credit_s, wakes):
    account = Account(credit_s, NOW.mono_s, 4000.0, awake=False)
    of = model(*slots, life=ASLEEP, account=account)
    assert begun(play(made(of, NAP, AHEAD))) == ("wake 1" if wakes else "")


def test_who_is_held_or_in_use_is_asleep_to_no_forecast():
    turn = play(made(model(), NAP), looked(running=1))
    assert begun(turn) == ""
    assert turn.world.models["a"].habits.last_s == NOW.wall_s + 3600.0, "that is a request"


def test_level_2_is_for_what_is_worth_its_wake():
    deep, spec = rule("deep", SLEEP_2, PredictedIdle(300.0)), {"max_level": 2}
    assert begun(play(proven(made(model(spec=spec), deep)))) == "sleep 2"
    of = model(4, 5, spec=spec)
    took = {"sleep1": (1.0,), "wake1": (1.0,), "sleep2": (1.0,), "wake2": (29.0,)}
    soon = proven(made(replace(of, footprint=replace(of.footprint, host_pinned=True, durations=took)), deep))
    assert paying_level(soon.models["a"], soon, NOW) == 1
    assert begun(play(soon)) == "sleep 1"


def test_a_request_ends_the_silence_and_pays_into_the_account():
    before = made(model(account=Account(0.0, NOW.mono_s - 200.0, 100.0, awake=True)), NAP)
    after = play(before, looked(running=1)).world.models["a"]
    # Twice the two hundred seconds that anybody would have been awake for, less those that it was.
    assert after.account == Account(200.0, NOW.mono_s, 0.0, awake=True)


@pytest.mark.parametrize(
    ("rules", "price_s"),
    [
        ((rule("nap", SLEEP_1, IdleFor(300.0)),), 0.0),
        ((NAP,), 300.0),
        ((rule("x", SLEEP_1, IdleFor(60.0)), AHEAD), 60.0),
    ],
)
def test_the_price_is_the_shortest_time_after_which_a_rule_acts(rules, price_s):
    of = made(model(), *rules)
    assert price_of(of.settings, of.models["a"]) == price_s


def test_a_model_that_is_lost_while_awake_ahead_is_told_as_a_miss():
    awake = replace(model(0, 1), ahead=Ahead(NOW.mono_s - 60.0, rule="ahead"))
    turn = play(made(awake, NAP, AHEAD))
    for poll in range(LOST_AFTER_POLLS):
        turn = play(turn.world, ModelLooked("a", GONE), at_s=2.0 * poll)
    assert turn.world.models["a"].life.state is State.LOST
    assert [n.data["outcome"] for n in turn.notes if n.kind == "wake_ahead"] == ["miss"]
    assert turn.world.models["a"].ahead.since_s is None
