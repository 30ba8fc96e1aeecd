"""The rules of the foresight example in a replay: asleep when nothing is expected, awake in time."""

from pathlib import Path
from random import Random

import pytest

from sleepd.core.explain import explain
from sleepd.core.model import Now
from sleepd.replay.shell import Replay
from sleepd.replay.trace import Trace
from tests.replay.replays import MONDAY_S, replay, trace_of

RULES = (Path(__file__).parents[2] / "etc" / "conf.d" / "foresight.toml.example").read_text()
DAY_S, HOUR_S = 86_400.0, 3600.0
ATE_S = 7 * HOUR_S + 57 * 60


def office(days: int, model: str = "a", seed: int = 1) -> list[tuple[float, str]]:
    """Requests of working days: the first at about 07:57, one every few minutes until noon."""
    random, found = Random(seed), []
    for day in (d for d in range(days) if d % 7 < 5):
        at_s = day * DAY_S + ATE_S + random.uniform(-40.0, 40.0)
        while at_s < day * DAY_S + 12 * HOUR_S:
            found.append((round(at_s, 3), model))
            at_s += random.expovariate(1 / 150.0)
    return found


@pytest.fixture(scope="module")
def office_days(tmp_path_factory: pytest.TempPathFactory) -> tuple[Replay, Replay]:
    """Two weeks by foresight and by the shipped timeout, the second of them judged."""
    trace, until_s = trace_of(*office(12)), 12 * DAY_S
    ahead, timeout = (
        replay(tmp_path_factory.mktemp("x"), trace, rules, until_s=until_s, judge_from_s=7 * DAY_S)
        for rules in (RULES, "")
    )
    return ahead, timeout


def test_far_fewer_wait_for_little_more_gpu_time(office_days: tuple[Replay, Replay]) -> None:
    ahead, timeout = (played.account.models["a"] for played in office_days)
    assert len(ahead.waits_s) < 0.3 * len(timeout.waits_s)
    assert ahead.held_s < 1.25 * timeout.held_s


def test_it_is_awake_before_the_first_request_of_a_day(office_days: tuple[Replay, Replay]) -> None:
    wakes = [s for s in office_days[0].account.switches if s.what == "wake" and s.cause == "rule:wake-ahead"]
    first = {int(s.at_s // DAY_S): s.at_s % DAY_S for s in reversed(wakes)}
    assert [day for day in (7, 8, 9, 10, 11) if ATE_S - 900 < first.get(day, 0.0) < ATE_S - 40] == [7, 8, 9, 10, 11]


def test_it_explains_itself(office_days: tuple[Replay, Replay]) -> None:
    world, at_s = office_days[0].world, 12 * DAY_S
    told = explain(world, "a", Now(at_s, MONDAY_S + at_s)).rules
    nap, ahead = (next(r for r in told if r.rule == name) for name in ("nap", "wake-ahead"))
    assert nap.conditions[0].wanted == "no request expected for 5m"
    assert nap.conditions[0].holds
    assert nap.conditions[0].found == (
        "none expected within 6h; on none of the last 2 days of weekends a request came between 00:00 and 06:00"
    )
    assert ahead.conditions[0].wanted == "a request expected within 5m"
    assert not ahead.conditions[0].holds


def test_before_anything_is_known_it_is_a_timeout(tmp_path: Path) -> None:
    played = replay(tmp_path, trace_of((10.0, "a")), RULES, until_s=HOUR_S)
    wake, sleep = played.account.switches
    assert (wake.cause, sleep.cause) == ("request:gateway", "rule:nap")
    assert sleep.at_s - wake.at_s == pytest.approx(300.0, abs=4.0)


def test_a_wake_ahead_puts_nobody_to_sleep(tmp_path: Path) -> None:
    """Two neighbours are used all morning and fill the GPU: nobody sleeps for the third, which is expected then."""
    busy = [(day * DAY_S + 7.5 * HOUR_S + n * 50.0, model) for day in (11,) for n in range(60) for model in "bc"]
    played = replay(tmp_path, Trace(tuple(sorted((*trace_of(*office(11)).arrivals, *trace_of(*busy).arrivals)))), RULES)
    victims = [s for s in played.account.switches if s.what == "sleep" and s.cause.startswith("victim")]
    assert victims == []
    ahead = [s.at_s for s in played.account.switches if s.cause == "rule:wake-ahead" and s.at_s > 11 * DAY_S]
    assert all(at_s > 11 * DAY_S + 7.5 * HOUR_S + 3000.0 for at_s in ahead)


def test_it_decides_as_where_every_poll_is_told(tmp_path: Path) -> None:
    """A rule on a window has each poll told in its time, as the daemon's are. Requests take longer than a minute."""
    random, at_s, asked = Random(3), 0.0, []
    while at_s < 8 * HOUR_S:
        at_s += random.expovariate(1 / random.choice((20.0, 300.0, 3000.0)))
        asked.append((round(at_s, 3), random.choice("aaab")))
    never = '[[rules]]\nname = "never"\nwhen = { requests_below = "1/h", window = "1h" }\nthen = { sleep = 1 }\n'
    trace = trace_of(*asked, tokens=(0, 70 * 60))
    told, seldom = (replay(tmp_path, trace, RULES + more, until_s=at_s) for more in (f"{never}enabled = false\n", ""))
    assert seldom.turns < told.turns / 2
    assert seldom.account.switches == told.account.switches
    for model, record in seldom.world.models.items():
        assert record.habits == told.world.models[model].habits
