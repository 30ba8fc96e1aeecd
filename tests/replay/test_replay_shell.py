"""The lean shell: the real decisions at the moments at which the daemon would make them."""

from pathlib import Path

import pytest

from sleepd.core.life import State
from sleepd.core.plan import Verb
from sleepd.replay.energy import Energy
from sleepd.replay.hosts import Watts
from sleepd.replay.outcome import outcome_of
from sleepd.replay.trace import Trace
from tests.replay.replays import replay, switches, trace_of


def test_the_first_request_waits_for_the_wake_and_the_next_does_not(tmp_path: Path) -> None:
    played = replay(tmp_path, trace_of((10.0, "a"), (20.0, "a")), until_s=30.0)
    account = played.account.models["a"]
    assert (account.requests, account.served, len(account.waits_s)) == (2, 2, 1)
    assert account.waits_s[0] == pytest.approx(2.0, abs=0.05)
    assert switches(played) == [("wake", "a", 1)]


def test_idle_time_begins_with_the_end_of_the_last_request(tmp_path: Path) -> None:
    # The last request of five ends about 1 s after it came, and is seen at the next poll of a second.
    played = replay(tmp_path, trace_of(*((10.0 + 200 * n, "a") for n in range(5))), until_s=2000.0)
    assert switches(played) == [("wake", "a", 1), ("sleep", "a", 1)]
    asleep = played.account.switches[1]
    ended_s = 810.0 + 100 / 8000 + 60 / 60
    assert ended_s + 300.0 <= asleep.at_s - asleep.took_s <= ended_s + 302.0


def test_a_model_falls_idle_in_the_moment_in_which_another_is_looked_at(tmp_path: Path) -> None:
    # Seen to end at 5 and at 305: polls are at whole seconds, and so is most of what follows from them.
    b_ends, a_ends = 305.0 - 300.0, 305.0
    trace = trace_of((1.0, "b"))
    long = trace_of((20.0, "a"), tokens=(0, int(60 * (a_ends - 0.5 - 22.0))))
    played = replay(tmp_path, Trace(trace.arrivals + long.arrivals), until_s=600.0)
    asleep = next(s for s in played.account.switches if (s.what, s.model) == ("sleep", "b"))
    assert asleep.at_s - asleep.took_s == pytest.approx(b_ends + 300.0, abs=0.1)


def test_a_moment_by_the_clock_comes_though_a_model_falls_idle_in_it(tmp_path: Path) -> None:
    rules = """
        [[rules]]
        name = "morning"
        when = { cron = "10 0 * * mon", timezone = "UTC" }
        then = { wake = true }
        models = ["b"]
    """
    trace = trace_of((20.0, "a"), tokens=(0, int(60 * (299.5 - 22.0))))
    played = replay(tmp_path, Trace((*trace.arrivals, *trace_of((5000.0, "b")).arrivals)), rules, until_s=700.0)
    at_s = {(s.what, s.model): s.at_s - s.took_s for s in played.account.switches}
    assert at_s["sleep", "a"] == pytest.approx(600.0, abs=0.1)
    assert at_s["wake", "b"] == pytest.approx(600.0 + 1.0, abs=0.1)  # once the sleep beside it has ended


def test_a_request_that_runs_for_long_keeps_its_model_awake(tmp_path: Path) -> None:
    played = replay(tmp_path, trace_of((10.0, "a"), tokens=(0, 60 * 1000)), until_s=2000.0)
    asleep = played.account.switches[1]
    assert 1012.0 + 300.0 <= asleep.at_s <= 1012.0 + 305.0


def test_whoever_does_not_fit_waits_for_room(tmp_path: Path) -> None:
    # Two of 36 GiB fit on 80; the third waits until the first has been awake for min_awake.
    played = replay(tmp_path, trace_of((10.0, "a"), (11.0, "b"), (30.0, "c")), until_s=200.0)
    assert switches(played)[:4] == [("wake", "a", 1), ("wake", "b", 1), ("sleep", "a", 1), ("wake", "c", 1)]
    waited_s = played.account.models["c"].waits_s[0]
    assert 30.0 + waited_s == pytest.approx(10.0 + 2.0 + 60.0 + 1.0 + 2.0, abs=2.5)


def test_a_wait_that_is_too_long_is_turned_away(tmp_path: Path) -> None:
    rule = '[model_defaults]\nmin_awake = "10m"\nmax_wait = "30s"\n'
    played = replay(tmp_path, trace_of((10.0, "a"), (11.0, "b"), (30.0, "c")), rule, until_s=400.0)
    account = played.account.models["c"]
    assert (account.requests, account.served, account.refused) == (1, 0, 1)
    sooner = replay(tmp_path, trace_of((10.0, "a"), (11.0, "b"), (30.0, "c")), rule, until_s=59.0)
    assert sooner.account.models["c"].refused == 0
    then = replay(tmp_path, trace_of((10.0, "a"), (11.0, "b"), (30.0, "c")), rule, until_s=61.0)
    assert then.account.models["c"].refused == 1


@pytest.mark.parametrize("min_awake", ["80s", "150s"])
def test_nobody_sleeps_for_who_has_gone(tmp_path: Path, min_awake: str) -> None:
    """The wish goes on for a minute, as the gateway's does: until 120 s. Nobody makes room for it, then or later."""
    rule = f'[model_defaults]\nmin_awake = "{min_awake}"\nmax_wait = "30s"\n'
    played = replay(tmp_path, trace_of((10.0, "a"), (11.0, "b"), (30.0, "c")), rule, until_s=400.0)
    assert switches(played) == [("wake", "a", 1), ("wake", "b", 1), ("sleep", "a", 1), ("sleep", "b", 1)]
    assert played.account.switches[2].at_s > 310.0, "of idleness"


def test_a_full_queue_turns_away(tmp_path: Path) -> None:
    played = replay(tmp_path, trace_of(*((1.0, "a"),) * 5), "[gateway]\nqueue = 3\n", until_s=10.0)
    assert (played.account.models["a"].served, played.account.models["a"].refused) == (3, 2)


def test_slots_that_are_taken_make_others_wait_inside(tmp_path: Path) -> None:
    # Four requests of ten seconds each through one slot: the server is in use for forty seconds.
    host = '[[gpus]]\nmemory = "80GiB"\n[model_defaults]\nslots = 1\nslowdown = 0\n'
    played = replay(tmp_path, trace_of(*((1.0, "a"),) * 4, tokens=(0, 600)), host=host, until_s=400.0)
    asleep = played.account.switches[1]
    assert asleep.at_s == pytest.approx(1.0 + 1.5 + 40.0 + 300.0 + 1.2, abs=1.5)


def test_a_backup_stays_in_host_ram_whatever_the_next_sleep_is(tmp_path: Path) -> None:
    server = replay(tmp_path, trace_of((1.0, "a")), until_s=2.0).servers["a"]
    for verb in (Verb.WAKE, Verb.SLEEP_L2):
        server.begin_call(verb)
        server.end_call(verb)
    assert (server.level, server.pinned) == (2, True)


def test_a_model_with_a_unit_is_played_without_it_and_where_its_processes_would_be(tmp_path: Path) -> None:
    unit = '[models.a]\nurl = "http://127.0.0.1:8001"\nunit = "vllm-a.service"\nmay_stop = true\n'
    played = replay(tmp_path, trace_of((10.0, "a")), unit, until_s=400.0)
    assert switches(played) == [("wake", "a", 1), ("sleep", "a", 1)]
    assert {(spec.unit, spec.cgroup) for spec in played.settings.models.values()} == {("", "")}


def test_a_cron_wakes_by_the_clock_that_the_trace_begins_at(tmp_path: Path) -> None:
    rules = '[[rules]]\nname = "morning"\nwhen = { cron = "30 0 * * mon", timezone = "UTC" }\nthen = { wake = true }\n'
    played = replay(tmp_path, trace_of((1.0, "a"), (7200.0, "a")), rules, until_s=3000.0)
    wakes = [s for s in played.account.switches if s.what == "wake"]
    assert [s.cause for s in wakes] == ["request:gateway", "rule:morning"]
    assert wakes[1].at_s == pytest.approx(1800.0 + 2.0, abs=0.5)


def test_a_window_counts_requests_when_they_were_seen(tmp_path: Path) -> None:
    # One a minute for an hour is above the rate; it sleeps when the window has run dry enough.
    rules = '[[rules]]\nname = "nap"\nwhen = { requests_below = "20/h", window = "1h" }\nthen = { sleep = 1 }\n'
    played = replay(tmp_path, trace_of(*((60.0 * n, "a") for n in range(1, 91))), rules, until_s=4 * 3600.0)
    asleep = next(s for s in played.account.switches if s.what == "sleep")
    # 20 are left in the window of an hour when the 71st leaves it: an hour after minute 71.
    assert asleep.at_s == pytest.approx(60.0 * (71 + 60), abs=90.0)


def test_level_2_is_slept_and_woken_from_where_backups_do_not_fit(tmp_path: Path) -> None:
    host = '[host]\nram = "40GiB"\nused = "8GiB"\n[[gpus]]\nmemory = "80GiB"\n'
    config = "[model_defaults]\nmax_level = 2\n"
    played = replay(tmp_path, trace_of((1.0, "a"), (2.0, "b")), config, host=host, until_s=60.0)
    assert sorted(switches(played)) == [("wake", "a", 1), ("wake", "b", 2)]
    assert played.account.models["b"].waits_s[0] > 11.0
    assert played.world.models["b"].life.state is State.AWAKE


def test_only_what_is_judged_is_counted(tmp_path: Path) -> None:
    trace = trace_of((10.0, "a"), (500.0, "a"), (510.0, "a"))
    whole = outcome_of(replay(tmp_path, trace, until_s=600.0).account, 600.0)["total"]
    part = outcome_of(replay(tmp_path, trace, until_s=600.0, judge_from_s=505.0).account, 600.0)["total"]
    assert (whole["requests"], whole["wakes"]["1"], part["requests"], part["waited"]) == (3, 2, 1, 0)
    assert part["awake_h"] == pytest.approx(95.0 / 3600, abs=0.001)
    assert part["host_gib_h"] == pytest.approx(16 * 95.0 / 3600, abs=0.001)


def test_energy_adds_up_what_each_gpu_did(tmp_path: Path) -> None:
    host = (
        '[power]\nasleep = 100\nawake = 200\nbusy = 1000\n[[gpus]]\nmemory = "80GiB"\n'
        '[model_defaults]\nwake1 = "2s"\nslowdown = 0\n'
    )
    energy = replay(tmp_path, trace_of((100.0, "a"), tokens=(0, 600)), host=host, until_s=200.0).account.energy
    awake_j = 2.0 * 200 + 10.0 * 1000 + 88.0 * 200
    assert energy.of_nobody_j == pytest.approx(100.0 * 100, rel=0.001)
    assert energy.of_model_j == {"a": pytest.approx(awake_j, rel=0.001)}


def test_energy_is_shared_by_memory_while_nobody_serves_and_evenly_by_those_that_serve() -> None:
    energy, gpus = Energy(Watts(asleep=100, awake=200, busy=1000), ("one", "two"), from_s=50.0), ("one",)
    energy.hold("a", gpus, 30, 0.0)
    energy.hold("b", gpus, 10, 0.0)
    energy.serve("a", gpus, 100.0)
    energy.serve("b", gpus, 110.0)
    energy.rest("a", gpus, 120.0)
    energy.release("a", gpus, 130.0)
    energy.close(140.0)
    assert energy.of_nobody_j == 90.0 * 100, "the other GPU, from where it is judged"
    assert energy.of_model_j["a"] == pytest.approx(80.0 * 150 + 10.0 * 800 + 10.0 * 400)
    assert energy.of_model_j["b"] == pytest.approx(80.0 * 50 + 10.0 * 200 + 10.0 * 400 + 20.0 * 800)


def test_what_the_models_and_nobody_drew_is_what_all_gpus_drew(tmp_path: Path) -> None:
    trace = trace_of(*((400.0 * n, "abc"[n % 3]) for n in range(1, 40)), tokens=(1000, 3000))
    outcome = outcome_of(replay(tmp_path, trace, until_s=20000.0).account, 20000.0)
    of_models = [row["energy_kwh"] for row in outcome["models"].values()]
    assert min(of_models) > 0
    assert outcome["nobody_kwh"] > 0
    assert outcome["energy_kwh"] == outcome["total"]["energy_kwh"]
    assert sum(of_models) + outcome["nobody_kwh"] == pytest.approx(outcome["energy_kwh"], abs=0.003)


def test_the_same_trace_gives_the_same_numbers(tmp_path: Path) -> None:
    trace = trace_of(*((30.0 * n, "abc"[n % 3]) for n in range(1, 40)))
    first, second = (replay(tmp_path, trace, until_s=3000.0) for _ in range(2))
    assert outcome_of(first.account, 3000.0) == outcome_of(second.account, 3000.0)
    assert first.account.switches == second.account.switches
