"""What `sleepctl history` and `sleepctl report` show in 80 columns: the why too, and no energy as none."""

from typing import Any

from sleepd.cli.history_table import render_history
from sleepd.cli.report_table import format_energy
from sleepd.cli.screen import Screen

LONG = "llama-3.1-70b-instruct-awq-production"


def page() -> Any:
    since, until = "2026-01-24T08:00:00.123Z", "2026-01-24T09:00:00.000Z"
    span = {"model": LONG, "since": since, "until": until, "by": "rule", "who": "overnight", "freed_bytes": 46 << 30}
    return {"states": [{**span, "state": "asleep", "level": 2}], "wakes": [], "tasks": []}


def test_a_long_name_leaves_room_for_why() -> None:
    head, line = render_history([page()], Screen(80, colour=False, unicode=True), 1e9)
    assert head.split() == ["MODEL", "SINCE", "(UTC)", "STATE", "LASTED", "WHY"]
    assert "rule overnight, frees 46GiB" in line
    assert "01-24 08:00:00  asleep L2" in line
    assert max(len(head), len(line)) <= 80


def test_a_pipe_and_a_wide_screen_get_whole_names_and_moments() -> None:
    for width in (None, 160):
        _, line = render_history([page()], Screen(width, colour=False, unicode=True), 1e9)
        assert "2026-01-24 08:00:00Z" in line
    assert LONG in render_history([page()], Screen(None, colour=False, unicode=True), 1e9)[1]


def test_little_energy_is_not_none() -> None:
    assert [format_energy(joules) for joules in (500.0, 35_000.0, 36_000.0, 3.6e6)] == [
        *("0.1Wh", "9.7Wh", "10Wh", "1.0kWh")
    ]
