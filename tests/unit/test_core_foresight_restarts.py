"""What foresight knows outlives the daemon: habits, what may be risked, and what the day's budget has left."""

from dataclasses import replace

import pytest
from core_worlds import NOW, later
from rule_worlds import calendar, play, rule
from test_core_foresight import AHEAD, NAP, RICH, habits, made, model

from sleepd.core.beginning import begin
from sleepd.core.break_even import Account, credit_at
from sleepd.core.daybook import DAYS_KEPT, SLOTS
from sleepd.core.draft import durable
from sleepd.core.events import SettingsChanged
from sleepd.core.expected import expected_idle
from sleepd.core.foresight import spent_today_s
from sleepd.core.habits import Compared, Habits, attend, likelier_following, restore, trust_in_calendar, watch
from sleepd.core.record import Ahead
from sleepd.core.records import Saved
from sleepd.core.rules import WAKE, PredictedIdle
from sleepd.core.silences import BUSIEST, SILENCES_S

LOCAL_S = NOW.wall_s + 3600.0


def restarted(of, after_s=60.0, *rules):
    """The model as a daemon knows it that starts so long after its predecessor was killed."""
    now = later(after_s)
    before = made(of, *rules or (NAP, AHEAD))
    found = begin(before.settings, Saved({"a": durable(of, NOW)}), now).world
    return replace(found, calendar=calendar()), found.models["a"], now


def test_a_restart_in_the_middle_of_the_day_loses_nothing():
    of = model(0, 1)
    _, found, _ = restarted(of)
    assert found.habits == of.habits


def test_what_may_be_risked_goes_on_where_it_was():
    """Awake in vain for ten minutes since it was written down: that is not given back."""
    spent = Account(1500.0, NOW.mono_s - 600.0, 4000.0, awake=True)
    _, found, now = restarted(model(account=spent), 60.0)
    assert credit_at(found.account, 300.0, now.mono_s) == pytest.approx(1500.0 - 660.0)
    assert credit_at(restarted(model(account=spent), -1e9)[1].account, 300.0, -1e9) <= 1500.0, "a clock set back"


@pytest.mark.parametrize("since_s", [None, NOW.mono_s - 500.0])
def test_what_wakes_ahead_took_of_the_day_is_not_forgotten(since_s):
    capped = rule("ahead", WAKE, PredictedIdle(300.0), budget_s=1800.0)
    today = int(LOCAL_S // 86_400.0)
    of = replace(model(0, 1), ahead=Ahead(since_s, today, 900.0, "ahead"))
    made_, found, now = restarted(of, 60.0, NAP, capped)
    assert spent_today_s(found, made_, now) == pytest.approx(900.0 if since_s is None else 900.0 + 560.0)
    assert found.ahead.rule == "ahead"


def test_an_address_that_changes_leaves_habits_account_and_budget_as_they_were():
    of = replace(model(0, 1), ahead=Ahead(None, 7, 60.0, "ahead"))
    before = made(of, NAP, AHEAD)
    moved = {"a": replace(of.spec, url="http://elsewhere")}
    after = play(before, SettingsChanged(replace(before.settings, models=moved))).world.models["a"]
    assert (after.habits, after.account, after.ahead) == (of.habits, RICH, of.ahead)


def test_habits_go_by_the_name():
    of = model(0, 1)
    before = made(of, NAP, AHEAD)
    renamed = {"b": replace(of.spec, name="b")}
    after = play(before, SettingsChanged(replace(before.settings, models=renamed))).world.models
    assert set(after) == {"b"}
    assert after["b"].habits == Habits()


ODD = {
    "fewer lengths of silence": {"after": ((1.0, 1.0),) * 5},
    "more lengths of silence": {"after": ((1.0, 1.0),) * (len(SILENCES_S) + 4)},
    "fewer kinds of hours": {"following": ((1.0, 1.0),)},
    "a busier hour": {"busy": BUSIEST + 5},
    "no hour": {"busy": -3},
    "numbers beyond all": {"after": ((1e308, 1e308),) * len(SILENCES_S)},
    "numbers below nothing": {"following": ((-1.0, -1.0),) * (BUSIEST + 1)},
    "no numbers": {"after": ((float("nan"), 1.0),) * len(SILENCES_S)},
    "silences of fewer lengths": {"by_silence": (((1.0, 1.0),) * 5,) * (BUSIEST + 1)},
    "silences after busier hours": {"by_silence": ((),) * (BUSIEST + 4)},
    "silences below nothing": {"by_silence": (((-1.0, -1.0),) * len(SILENCES_S),) * (BUSIEST + 1)},
    "silences of no numbers": {"by_silence": (((float("nan"),) * 2,) * len(SILENCES_S),) * (BUSIEST + 1)},
    "silences longer than all time": {"by_silence": (((1.0, 1e308),) * len(SILENCES_S),) * (BUSIEST + 1)},
    "trust in fewer lengths": {"trust": (0.0,) * 3},
    "trust beyond all": {"trust": (1e308,) * len(SILENCES_S)},
    "no trust": {"trust": (float("nan"),) * len(SILENCES_S)},
    "trust that is a number once": {"trust": (0.0, *(float("nan"),) * (len(SILENCES_S) - 1))},
    "a day of more slots": {"days": ((20_000, 1 << SLOTS + 7), (20_001, -1))},
    "a day twice": {"days": ((20_000, 1), (20_000, 2))},
    "a thousand days": {"days": tuple((day, 1) for day in range(1000))},
    "a day beyond all": {"days": ((1 << 70, 5), (-(1 << 70), 5))},
    "a last request beyond all": {"last_s": 1e300},
    "no last request": {"last_s": float("nan")},
    "compared by fewer lengths": {"compared": Compared(60.0, (0.0,) * 3)},
    "compared for ever": {"compared": Compared(1e300)},
    "expected beyond all": {"compared": Compared(expected=float("nan"))},
    "told beyond all": {"compared": Compared(told=(1e308,) * len(SILENCES_S))},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_habits_that_somebody_else_wrote_break_nothing(odd):
    """A newer release, or an older one: what fits is used, the rest learned anew."""
    kept = restore(replace(habits(0, 1), **odd))
    assert len(kept.days) <= DAYS_KEPT
    assert likelier_following(kept) > 0
    assert all(0 <= trust_in_calendar(kept, silence) <= 1 for silence in range(len(SILENCES_S)))
    used = attend(watch(kept, LOCAL_S), LOCAL_S)
    assert expected_idle(used, LOCAL_S + 600.0) is None or expected_idle(used, LOCAL_S + 600.0) > 0
    assert restore(used) == used


def test_what_fits_is_kept_as_it_is():
    assert restore(habits(0, 1)) == habits(0, 1)
