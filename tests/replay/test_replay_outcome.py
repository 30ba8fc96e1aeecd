"""What a replay comes to, in numbers that are worked out by hand."""

import re
from pathlib import Path

import pytest

from sleepd.replay.hosts import bundled_host
from sleepd.replay.outcome import Outcome, outcome_of
from sleepd.replay.page import make_replay_page
from sleepd.replay.tables import COMPARED, compared_rows
from tests.replay.replays import replay, trace_of

TWO_GPUS = """
[[gpus]]
memory = "80GiB"
[[gpus]]
memory = "80GiB"
[model_defaults]
awake = "30GiB"
gpus = 2
"""


def outcome(tmp_path: Path, *requests: tuple[float, str], until_s: float, config: str = "", host: str = "") -> Outcome:
    host = host or '[[gpus]]\nmemory = "80GiB"\n'
    return outcome_of(replay(tmp_path, trace_of(*requests), config, host=host, until_s=until_s).account, until_s)


def test_a_model_on_two_gpus_holds_its_bytes_on_each(tmp_path: Path) -> None:
    total = outcome(tmp_path, (0.0, "a"), until_s=120.0, host=TWO_GPUS)["total"]
    assert total["awake_gpu_gib_h"] == pytest.approx(2 * 30 * total["awake_h"], abs=0.05)
    assert total["awake_gpu_gib_h"] == pytest.approx(2 * 30 * 120.0 / 3600, abs=0.05)


def test_sleeps_and_wakes_are_told_apart_and_by_level(tmp_path: Path) -> None:
    level_2 = '[model_defaults]\nmax_level = 2\n[[rules]]\nname = "nap"\nwhen = { idle = "2m" }\nthen = { sleep = 2 }\n'
    row = outcome(tmp_path, (0.0, "a"), (300.0, "a"), until_s=330.0, config=level_2)["models"]["a"]
    assert (row["wakes"], row["sleeps"]) == ({"1": 1, "2": 1}, {"1": 0, "2": 1})


def test_who_was_turned_away_is_no_share_of_those_served(tmp_path: Path) -> None:
    crowded = '[[gpus]]\nmemory = "80GiB"\n[model_defaults]\nawake = "70GiB"\noutput_tokens_per_s = 0.1\n'
    asked = ((0.0, "a"), (10.0, "b"), (11.0, "b"), (12.0, "b"))
    total = outcome(tmp_path, *asked, until_s=300.0, host=crowded)["total"]
    assert (total["requests"], total["served"], total["waited"], total["refused"]) == (4, 1, 1, 3)
    assert total["waited_share"] == 1.0


def test_the_second_is_told_as_a_ratio_to_the_first(tmp_path: Path) -> None:
    asked = tuple((90.0 * n, "a") for n in range(6))
    nap = '[[rules]]\nname = "nap"\nwhen = {{ idle = "{}" }}\nthen = {{ sleep = 1 }}\n'
    nap += '[model_defaults]\nmin_awake = "0s"\n'
    one = outcome(tmp_path, *asked, until_s=520.0, config=nap.format("10m"))
    two = outcome(tmp_path, *asked, until_s=520.0, config=nap.format("30s"))
    rows = [dict(zip(COMPARED, row, strict=True)) for row in compared_rows({"one": one, "two": two})]
    assert [row["WAKES"] for row in rows] == ["1", "6 (x6.00)"]
    assert rows[1]["WAITED"] == "100.0% (x6.00)"


def test_the_page_shows_what_each_model_was_and_when(tmp_path: Path) -> None:
    account = replay(tmp_path, trace_of((10.0, "a")), until_s=100.0).account
    page = make_replay_page({"x": account}, {"x": outcome_of(account, 100.0)}, 100.0, ("it is a test",), "One.")
    titles = re.findall(r"<title>((?:awake|asleep)[^<]*)</title>", page)
    assert titles == ["asleep at level 1 for 10s from 0s", "awake for 1m30s from 10s"]
    assert "<p>Note: it is a test.</p>" in page
    assert "1 of 1, 2.0s" in page, "the bar of its waits"


def test_a_request_is_slowed_down_by_those_beside_it() -> None:
    costs = bundled_host().default
    assert costs.request_s(8000, 60, beside=0) == 2.0
    assert costs.request_s(8000, 60, beside=10) == pytest.approx(2.0 * (1 + 10 * costs.slowdown))
