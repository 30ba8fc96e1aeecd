"""Wakes ahead of demand by the real daemon: it remembers three weeks, and its next minutes run fast."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from sleepd.core.daybook import SLOT_S, SLOTS
from sleepd.core.habits import Habits
from sleepd.core.records import AccountSaved
from sleepd.core.silences import SILENCES_S
from tests.integration.harness import Daemon, Host
from tests.integration.test_gateway import complete
from tests.integration.waiting import wait_until

SPEED = 100.0
RULES = (Path(__file__).parents[2] / "etc" / "conf.d" / "foresight.toml.example").read_text().replace("5m", "40m")
"""A time that is long on any machine at this speed."""


def test_a_model_is_awake_before_it_is_asked_for_as_on_the_days_before(host: Host) -> None:
    gateway = host.root / "g.sock"
    host.configure("a", extra=f'[gateway]\nlisten = ["unix:{gateway}"]\n')
    whole = host.etc / "sleepd.toml"
    whole.write_text(whole.read_text().replace('poll_every = "100ms"', 'poll_every = "2s"'))
    (host.etc / "conf.d").mkdir()
    (host.etc / "conf.d" / "50-foresight.toml").write_text(RULES)
    host.start_servers("a")
    daemon = host.start_daemon()
    assert daemon.client.sleep("a").status == 200
    daemon.await_model("a", state="asleep")
    assert daemon.terminate() == 0

    state = host.root / "state" / "state.db"
    days = _remember(state, time.time())
    daemon = host.start_daemon(program="tests.integration.hurried", SLEEPD_SPEED=str(SPEED))
    daemon.await_model("a", state="awake")
    assert _counted(daemon, 'sleepd_rule_actions_total{model="a",rule="wake-ahead"}') == 1
    wanted, found = _told(daemon)
    assert wanted == "a request expected within 40m"
    assert found.startswith("one expected in ")
    assert "; on 5 of the last 5 weekdays a request came between " in found or "days of weekends a request" in found
    assert complete(gateway, "a").status == 200
    wait_until(lambda: _counted(daemon, 'sleepd_wakes_ahead_total{model="a",outcome="hit"}') == 1, "it to be told")
    assert daemon.terminate() == 0
    learned = {day: bits for day, bits in _read(state)["habits"]["days"] if days.get(day) != bits}
    assert days | learned == dict(_read(state)["habits"]["days"]), "what it knew"
    assert sum(bits.bit_count() for bits in learned.values()) in (1, 2), "and that it was asked for now"


def _counted(daemon: Daemon, series: str) -> float:
    lines = daemon.ask("GET", "/metrics").text.splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(series))


def _told(daemon: Daemon) -> tuple[str, str]:
    """What the rule that wakes ahead wants, and what it found."""
    rules = daemon.client.explain("a").body["rules"]
    (condition,) = next(rule for rule in rules if rule["rule"] == "wake-ahead")["conditions"]
    return condition["wanted"], condition["found"]


def _remember(state: Path, now_s: float) -> dict[int, int]:
    """Let the daemon remember that the model was asked for on each of the last days, from eight minutes behind this
    time of day on for half an hour, and that it may risk something. Return the days that it remembers."""
    local_s = now_s + time.localtime(now_s).tm_gmtoff
    first, today = int((local_s + 480) // SLOT_S), int(local_s // SLOT_S) // SLOTS
    days = dict.fromkeys(range(today - 20, today + 1), 0)
    for slot in (first + n - ago * SLOTS for ago in range(1, 20) for n in range(6)):
        days[slot // SLOTS] |= 1 << slot % SLOTS
    observed = ((10.0, 10.0),) * len(SILENCES_S)
    habits = Habits(tuple(days.items()), observed, (), local_s - 7200.0)
    known = _read(state) | {
        "habits": TypeAdapter(Habits).dump_python(habits, mode="json"),
        "account": TypeAdapter(AccountSaved).dump_python(AccountSaved(16_000.0, 7200.0, now_s, False), mode="json"),
        "last_active_wall_s": now_s - 7200.0,
    }
    with closing(sqlite3.connect(state, isolation_level=None)) as db:
        db.execute("UPDATE models SET body = ? WHERE name = 'a'", (json.dumps(known),))
    return days


def _read(state: Path) -> dict[str, Any]:
    """What the daemon remembers of the model."""
    with closing(sqlite3.connect(state)) as db:
        (body,) = db.execute("SELECT body FROM models WHERE name = 'a'").fetchone()
    found: dict[str, Any] = json.loads(body)
    return found
