"""The status table: readable at a glance, and never wider than its screen."""

import re
from dataclasses import replace
from typing import Any

import pytest
from api_rig import GPU, WALL_S, FakeDaemon
from hypothesis import given
from hypothesis import strategies as st

from sleepd import wire
from sleepd.cli.columns import Columns
from sleepd.cli.screen import Screen, clean
from sleepd.cli.table import render_status
from sleepd.core.model import Missing, MissingReason

PLAIN = Screen(80, colour=False, unicode=True)
COLOURS = re.compile(r"\x1b\[[\d;]*m")


def status() -> dict[str, Any]:
    return wire.status_body(FakeDaemon())


def test_the_table_as_a_person_sees_it() -> None:
    assert render_status(status(), PLAIN, WALL_S) == [
        "NAME          STATE        SINCE   IDLE   VRAM  NEXT",
        "chat          ◐ waking        3s     3s      -  1 waiting; chat is as it is bec…",
        "embed         ○ asleep L1   2h3m   2h3m   2GiB  wakes in 4.2s when asked",
        "gpt-oss-120b  ✗ failed     1m30s  1m30s      -  wake_refused: POST /wake_up ans…",
        "qwen3-32b     ● awake      4m10s  4m10s  60GiB  sleep 1 in 50s (nap)",
        "",
        "GPU 0  ████████████████████░░░░  66GiB of 80GiB, free 13GiB + margin 1GiB",
        "RAM    ██████████░░░░░░░░░░░░░░  212GiB of 512GiB, free 292GiB + reserve 8GiB",
    ]


def test_colours_change_nothing_but_colours() -> None:
    painted = render_status(status(), Screen(PLAIN.width, colour=True, unicode=PLAIN.unicode), WALL_S)
    assert [COLOURS.sub("", line) for line in painted] == render_status(status(), PLAIN, WALL_S)
    assert "\x1b[31m✗ failed" in painted[3]
    assert "\x1b[32m● awake" in painted[4]


def test_a_plain_terminal_gets_plain_characters() -> None:
    lines = render_status(status(), Screen(PLAIN.width, PLAIN.colour, unicode=False), WALL_S)
    assert all(line.isascii() for line in lines)
    assert "! failed" in lines[3]
    assert "####" in lines[6]


@given(st.integers(1, 200), st.booleans())
def test_no_line_is_wider_than_the_screen(width: int, colour: bool) -> None:
    body = status() | {"notes": ["the GPUs: unreadable " + "x" * 90]}
    body["models"][0]["name"] = "a-very-long-model-name-that-fills-all-of-its-63-characters-0123"
    lines = render_status(body, Screen(width, colour, unicode=True), WALL_S)
    if width >= 31:  # a bar and its label are drawn whole
        assert max(len(COLOURS.sub("", line)) for line in lines) <= width


def test_a_pipe_gets_whole_sentences() -> None:
    lines = render_status(status(), Screen(None, False, True), WALL_S)
    assert lines[1].endswith("1 waiting; chat is as it is because the rig says so, at some length")
    assert lines[3].endswith("wake_refused: POST /wake_up answered 500: CUDA out of memory")


def test_missing_readings_are_said_and_nothing_is_made_up() -> None:
    daemon = FakeDaemon()
    gone = Missing(MissingReason.UNREADABLE, "no driver")
    daemon.world = replace(daemon.world, gpus=gone, host=gone)
    lines = render_status(wire.status_body(daemon), PLAIN, WALL_S)
    assert lines[-2:] == ["! the GPUs: unreadable (no driver)", "! host memory: unreadable (no driver)"]
    empty = wire.status_body(FakeDaemon(replace(daemon.world, models={}, tasks={})))
    assert render_status(empty, PLAIN, WALL_S)[0] == "no model is configured"


@pytest.mark.parametrize(("key", "value"), [("running", 2), ("waiting", 1), ("in_flight", 1)])
def test_a_busy_model_is_busy(key: str, value: int) -> None:
    body = status()
    body["models"][3][key] = value
    assert "  busy  " in render_status(body, PLAIN, WALL_S)[4]


def test_unknown_states_of_a_newer_daemon_are_shown() -> None:
    body = status()
    body["models"][3] |= {"state": "dreaming", "gpus": [{"uuid": GPU, "awake_bytes": None, "asleep_bytes": None}]}
    assert "? dreaming" in render_status(body, PLAIN, WALL_S)[4]


@given(st.text())
def test_text_from_servers_cannot_steer_the_terminal(text: str) -> None:
    assert clean(text).isprintable() or not text
    assert clean("\x1b]0;evil\x07\n\x9b31m") == " ]0;evil   31m"


def test_many_holds_are_counted_not_listed() -> None:
    body = status()
    body["models"][0] |= {"state": "awake", "holds": [f"h{n}" for n in range(256)], "next": None, "queued": 0}
    assert "held: h0, h1 and 254 more" in render_status(body, Screen(None, False, True), WALL_S)[1]


def test_long_names_can_be_told_apart_and_are_whole_in_a_pipe() -> None:
    names = [f"qwen3-235b-a22b-instruct-2507-{kind}" for kind in ("fp8", "int4")]
    columns = Columns(("NAME", "NEXT"), [(name, "x") for name in names], right=())
    piped = columns.render(Screen(None, False, True), [{}, {}])
    assert [line.split()[0] for line in piped[1:]] == names
    shown = [line.split()[0] for line in columns.render(Screen(80, False, True), [{}, {}])[1:]]
    assert shown == ["qwen3-235b-a…ct-2507-fp8", "qwen3-235b-a…t-2507-int4"]


def test_what_is_only_observed_is_told_as_would() -> None:
    body = status()
    coming = {"rule": "nap", "action": "sleep 1", "in_s": 0.0}
    body["models"][0] |= {"mode": "observe", "next": coming, "queued": 0, "failure": None}
    assert "would sleep 1 now (nap)" in render_status(body, Screen(None, False, True), WALL_S)[1]
