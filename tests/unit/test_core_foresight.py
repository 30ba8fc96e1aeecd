"""What rules make of habits: who falls asleep, how deep, who is woken, and what stands in their way."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, KNOWN_ANSWER, NOW, later, proven, record, world
from rule_worlds import begun, calendar, fresh, looked, play, report, rule

from sleepd.core import deadlines
from sleepd.core.break_even import Account, credit_at
from sleepd.core.change_of_mind import next_turn_s
from sleepd.core.daybook import SLOT_S, SLOTS
from sleepd.core.deadlines import Deadlines, next_deadline
from sleepd.core.detector import evaluate_all
from sleepd.core.draft import Draft
from sleepd.core.events import ModelLooked
from sleepd.core.explain import explain
from sleepd.core.foresight import cost_of_sleep, paying_level, price_of, terms_of
from sleepd.core.habits import Habits
from sleepd.core.life import State
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason
from sleepd.core.places import RETURNING
from sleepd.core.policy import kept_from_neighbour
from sleepd.core.record import Ahead, AskKind, Hold, Waiter
from sleepd.core.rules import KEEP_AWAKE, SLEEP_1, SLEEP_2, WAKE, IdleFor, PredictedIdle
from sleepd.core.sightings import LOST_AFTER_POLLS
from sleepd.core.silences import SILENCES_S
from sleepd.core.visits import note_requests

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


def test_what_is_too_little_is_told_as_less_than_what_is_needed():
    of = model()
    few = replace(of.habits, after=((7.97, 1.0), *(((0.0, 1.0),) * (len(SILENCES_S) - 1))))
    told = report(made(replace(of, habits=few), NAP), "nap").conditions[0].found
    assert told.startswith("20 whole days and 7 visits were observed, 2 and 8 are needed: asleep after 5m of silence")


def test_no_more_than_eight_prices_are_put_by():
    assert credit_at(Account(2300.0, 0.0, 0.0, awake=False), 300.0, 40.0) == 2380.0
    assert credit_at(Account(2300.0, 0.0, 0.0, awake=False), 300.0, 1000.0) == 8 * 300.0


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


def test_what_falls_short_of_a_wake_ahead_is_told():
    of = model(0, 1, life=ASLEEP, account=Account(500.0, NOW.mono_s, 4000.0, awake=False))
    told = report(made(of, NAP, AHEAD), "ahead").conditions[0]
    assert not told.holds
    assert told.found.startswith("one expected in ")
    assert told.found.endswith("forecasts cost too much lately")


def test_a_wake_rule_that_may_never_be_risked_says_so():
    hours = rule("ahead", WAKE, PredictedIdle(7200.0))
    of = model(0, 1, life=ASLEEP, account=Account(2400.0, NOW.mono_s, 4000.0, awake=False))
    told = report(made(of, NAP, hours), "ahead").conditions[0]
    assert not told.holds
    assert told.found.endswith("; 2h are more than may ever be risked: 40m, a sleep in it")


def test_whoever_is_put_to_sleep_within_a_minute_of_its_last_use_is_not_woken_ahead():
    of = model(0, 1, life=ASLEEP, silent_s=30.0)
    assert begun(play(made(of, NAP, AHEAD))) == ""
    assert report(made(of, NAP, AHEAD), "ahead").conditions[0].found == (
        "used within the last minute: the same visit may go on"
    )


def test_a_model_woken_ahead_sleeps_when_the_budget_of_its_rule_is_spent():
    """A request is expected all the time, and none comes: it would stay awake as long as the account allows."""
    capped = replace(AHEAD, budget_s=600.0)
    woken = replace(model(0, 1), ahead=Ahead(NOW.mono_s - 590.0, rule="ahead"), last_active_s=NOW.mono_s - 590.0)
    before = made(woken, NAP, capped)
    assert begun(play(before)) == ""
    assert next_deadline(before, NOW) == pytest.approx(NOW.mono_s + 10.0)
    after = play(fresh(before, 10.0), at_s=10.0)
    assert begun(after) == "sleep 1"
    told = [report(before, rule, at_s=10.0).conditions[0].found for rule in ("nap", "ahead")]
    assert told == [
        "woken ahead, it was awake for the budget of today: asleep after 5m of silence, 1h7m so far",
        "woken ahead, it was awake for the budget of today: nothing is done ahead",
    ]
    assert begun(play(made(woken, NAP, AHEAD), at_s=10.0)) == "", "no budget"


@pytest.mark.parametrize(
    ("slots", "credit_s", "stays"), [((0, 1), 2e3, True), ((0, 1), 500.0, False), ((), 2e3, False)]
)
def test_keep_awake_holds_where_a_request_is_expected_and_may_be_waited_for(slots, credit_s, stays):
    """Against a timeout that is over, and against a neighbour that waits for the room."""
    kept = rule("kept", KEEP_AWAKE, PredictedIdle(300.0))
    of = model(*slots, account=Account(credit_s, NOW.mono_s, 4000.0, awake=True))
    before = made(of, rule("nap", SLEEP_1, IdleFor(300.0)), kept)
    assert begun(play(before)) == ("" if stays else "sleep 1")
    assert kept_from_neighbour(before, of, 0, NOW) == ("rule kept keeps it awake" if stays else "")
    assert kept_from_neighbour(before, of, 9, NOW) == "", "whoever matters more has its room"
    assert report(before, "kept").conditions[0].holds is stays


def test_who_is_to_be_woken_earlier_than_its_timeout_lets_go_of_it_needs_to_be_kept_awake_too():
    """One is expected in seven minutes: the sleep rule outranks a wake rule, and a keep_awake rule outranks that."""
    of = model(1, 2, life=ASLEEP)
    early, kept = rule("ahead", WAKE, PredictedIdle(900.0)), rule("kept", KEEP_AWAKE, PredictedIdle(900.0))
    assert begun(play(made(of, NAP, early))) == ""
    assert begun(play(made(of, NAP, early, kept))) == "wake 1"


def test_keep_awake_lets_go_when_nothing_more_may_be_risked():
    kept = rule("kept", KEEP_AWAKE, PredictedIdle(300.0))
    of = model(0, 1, account=Account(700.0, NOW.mono_s, 4000.0, awake=True))
    before = made(of, rule("nap", SLEEP_1, IdleFor(300.0)), kept)
    assert begun(play(before)) == ""
    due_s = next_deadline(before, NOW) - NOW.mono_s
    assert due_s < 100.0, "not with the next five minutes of the clock"
    assert begun(play(fresh(before, due_s), at_s=due_s)) == "sleep 1"


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


def test_level_2_is_for_whose_dearer_wake_may_be_risked_and_is_charged_with_it():
    deep, spec = rule("deep", SLEEP_2, PredictedIdle(300.0)), {"max_level": 2}
    took = {"sleep1": (1.0,), "wake1": (1.0,), "sleep2": (1.0,), "wake2": (3.0,)}
    for credit_s, begins in ((650.0, "sleep 2"), (550.0, "sleep 1")):
        of = model(spec=spec, account=Account(credit_s, NOW.mono_s, 4000.0, awake=True))
        of = replace(of, footprint=replace(of.footprint, host_pinned=True, durations=took))
        turn = play(proven(made(of, deep)))
        assert begun(turn) == begins
        level = int(begins[-1])
        assert cost_of_sleep(turn.world.models["a"], 300.0, level) == 300.0 * level
        before = replace(turn.world, tasks={"a": turn.world.tasks["a"]})
        slept = replace(before.models["a"], life=ASLEEP, since_s=NOW.mono_s)
        draft = Draft(before, NOW)
        draft.put(slept)
        note_requests(draft, before)
        assert draft.models["a"].account.credit_s == pytest.approx(credit_s - 300.0 * level)


@pytest.mark.parametrize(("kind", "costs_s"), [(CauseKind.RULE, 300.0), (CauseKind.OPERATOR, 0.0)])
def test_a_sleep_is_charged_where_a_rule_asked_for_it(kind, costs_s):
    before = play(made(model(account=Account(900.0, NOW.mono_s, 4000.0, awake=True)), NAP)).world
    asked = replace(before.tasks["a"], cause=Cause(kind, "nap"))
    before = replace(before, tasks={"a": asked})
    draft = Draft(before, NOW)
    draft.put(replace(before.models["a"], life=ASLEEP, since_s=NOW.mono_s))
    note_requests(draft, before)
    assert draft.models["a"].account.credit_s == 900.0 - costs_s


def test_a_hold_ends_the_silence():
    before = made(model(), NAP)
    draft = Draft(before, NOW)
    draft.change("a", holds=(Hold("h", 1, "ann", "", 0.0, None, None, None),))
    note_requests(draft, before)
    assert draft.models["a"].account.silent_s == 0.0


@pytest.mark.parametrize(("number", "ended"), [(7, True), (RETURNING, False)])
def test_who_waits_for_a_sleeper_ends_its_silence_and_who_was_told_to_come_back_does_not(number, ended):
    before = made(model(life=ASLEEP), AHEAD)
    draft = Draft(before, NOW)
    wish = Waiter(number, AskKind.WAKE, Cause(CauseKind.REQUEST, "web"), NOW.mono_s, NOW.mono_s + 5.0)
    draft.change("a", waiters=(wish,))
    note_requests(draft, before)
    assert (draft.models["a"].habits.last_s != before.models["a"].habits.last_s) is ended


def test_a_request_ends_the_silence_and_pays_into_the_account():
    before = made(model(account=Account(0.0, NOW.mono_s - 200.0, 100.0, awake=True)), NAP)
    after = play(before, looked(running=1)).world.models["a"]
    # Twice the two hundred seconds that anybody would have been awake for, less those that it was.
    assert after.account == Account(200.0, NOW.mono_s, 0.0, awake=True, in_use=True)
    still = play(play(before, looked(running=1)).world, looked(running=1, at_s=900.0), at_s=900.0).world.models["a"]
    assert still.account.credit_s == 200.0, "while it is in use nothing is put by"


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


def turn_s(before, now):
    return next_turn_s(terms_of(before.models["a"], before, now), before.calendar, now)


@pytest.mark.parametrize("credit_s", [0.0, 300.0, 500.0, 600.9, 700.0, 2000.0])
@pytest.mark.parametrize("silent_s", [0.0, 70.0, 299.0, 4000.0])
def test_moments_that_are_past_come_not_again(credit_s, silent_s):
    """From one deadline to the next: a few an hour, whatever may be risked, and none of them now."""
    of = model(0, 1, account=Account(credit_s, NOW.mono_s, silent_s, awake=True))
    kept = rule("kept", KEEP_AWAKE, PredictedIdle(300.0))
    before, at_s, moments = made(of, rule("nap", SLEEP_1, PredictedIdle(300.0)), kept), 0.0, 0
    while at_s < 3600.0:
        at_s, was_s, moments = turn_s(before, later(at_s)) - NOW.mono_s, at_s, moments + 1
        assert at_s > was_s
    assert moments < 12


@pytest.mark.parametrize(
    ("slots", "credit_s", "asleep"), [((0, 1, 5), 2e3, False), ((3, 9, 20), 2e3, True), ((), 500.0, False)]
)
def test_no_rule_changes_its_mind_before_it_is_told(slots, credit_s, asleep):
    """And between two moments that are told, most of the time, none does at all: they are few."""
    account = Account(credit_s, NOW.mono_s, 50.0, awake=not asleep)
    of = model(*slots, account=account, silent_s=50.0, life=ASLEEP if asleep else None, spec={"max_level": 2})
    rules = NAP, AHEAD, rule("kept", KEEP_AWAKE, PredictedIdle(900.0)), rule("deep", SLEEP_2, PredictedIdle(600.0))
    before, at_s, told = made(of, *rules), 0.0, 0

    def said(at_s):
        now = later(at_s)
        return [found.all_hold for found in evaluate_all(of, before, now)], paying_level(of, before, now)

    due_s = turn_s(before, NOW) - NOW.mono_s
    while at_s < 3 * 3600.0:
        says = said(at_s)
        while at_s + 31.7 < due_s:
            at_s += 31.7
            assert said(at_s) == says
        at_s, told = due_s, told + 1
        due_s = turn_s(before, later(at_s)) - NOW.mono_s
    assert told < 25


def test_a_kept_moment_is_the_one_worked_out_anew_and_is_worked_out_once(monkeypatch):
    """What is foreseen of silent models is not worked out in every turn: whatever changes it is told apart."""
    asked_s, of = [], model(0, 1)
    before = made(of, NAP, AHEAD)
    monkeypatch.setattr(deadlines, "next_turn_s", lambda *asked: asked_s.append(asked[2].mono_s) or next_turn_s(*asked))
    kept = Deadlines()
    for turn in range(200):
        looked_at, now = replace(before, models={"a": replace(of, failed_polls=turn % 2)}), later(3.5 * turn)
        read_after = replace(now, wall_s=now.wall_s + turn % 4 * 1e-6)  # one clock is read after the other
        assert kept.after(looked_at, read_after) == turn_s(before, now)
    assert len(asked_s) < 5
    set_forth = replace(later(50.0), wall_s=NOW.wall_s + 180.0)
    poorer = replace(of, account=replace(RICH, credit_s=680.0))
    for world_, now in (
        (before, set_forth),
        (replace(before, models={"a": poorer}), later(50.0)),
        (replace(before, settings=made(of, AHEAD).settings), later(50.0)),
        (replace(before, calendar=replace(before.calendar, offsets=((0.0, 0.0),))), later(50.0)),
        (replace(before, calendar=replace(before.calendar, until_wall_s=NOW.wall_s)), later(50.0)),
    ):
        was_s = kept.after(before, later(50.0))
        assert was_s != kept.after(world_, now) == next_deadline(world_, now)
    assert kept.after(before, later(700.0)) != kept.after(before, NOW) == next_deadline(before, NOW)


def test_when_a_rule_changes_its_mind_is_told_of_it_and_of_who_is_kept_awake_by_it():
    of, kept = model(0, 1), rule("kept", KEEP_AWAKE, PredictedIdle(300.0))
    before = made(of, NAP, kept, rule("late", SLEEP_1, IdleFor(4001.0)))
    in_s = report(before, "nap").due_in_s
    assert 2.0 < in_s == report(before, "nap").conditions[0].in_s
    assert not report(before, "nap", at_s=in_s - 0.1).holds
    assert report(before, "nap", at_s=in_s).holds
    assert explain(before, "a", NOW).next.in_s == pytest.approx(in_s), "what keeps it awake ends no sooner"


def test_a_rule_that_does_not_change_its_mind_for_hours_tells_no_moment():
    before = made(model(life=ASLEEP), NAP, AHEAD)
    assert not report(before, "ahead").holds
    assert report(before, "ahead").due_in_s is None
    assert explain(before, "a", NOW).next is None
