"""sleepctl on a terminal of 80 columns: every line fits, colours only where they are wanted, --json is the answer."""

import json
import re

import pytest

from sleepd import wire
from sleepd.core.commands import Answer, AnswerKind
from tests.cli.terminal import Terminal, run
from tests.unit.api_rig import FakeDaemon

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
LOOKS = (
    ("status",),
    ("explain", "--all"),
    ("events", "--no-follow"),
    ("holds",),
    ("wake", "--dry-run", "embed"),
    ("--help",),
    ("sleep", "--help"),
    ("hold", "--help"),
)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
async def test_every_line_fits_in_80_columns(daemon: FakeDaemon, words: tuple[str, ...]) -> None:
    daemon.note("chat is going to sleep at level 1: rule nap, because nobody has used it for longer than anybody waits")
    held = await run("hold", "embed", "--ttl", "90m", "--reason", "a reason that is longer than any terminal is wide")
    assert held.code == 0
    terminal = await Terminal.open(*words)
    assert await terminal.end() == 0
    lines = [COLOURS.sub("", line) for line in terminal.shown.replace("\r\n", "\n").splitlines()]
    assert lines
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
async def test_colours_only_where_they_are_wanted(daemon: FakeDaemon, environ: dict[str, str], coloured: bool) -> None:
    for words in (("status",), ("explain", "chat")):
        terminal = await Terminal.open(*words, **environ)
        assert await terminal.end() == 0
        assert bool(COLOURS.search(terminal.shown)) is coloured
    assert not COLOURS.search((await run("status")).out)


async def test_a_narrow_and_a_wide_terminal(daemon: FakeDaemon) -> None:
    for columns in (40, 200):
        terminal = await Terminal.open("status", columns=columns)
        assert await terminal.end() == 0
        lines = [COLOURS.sub("", line) for line in terminal.shown.replace("\r\n", "\n").splitlines()]
        assert max(map(len, lines)) <= columns
        assert any("qwen3-32b" in line for line in lines)


async def test_ctrl_c_ends_what_only_looks(daemon: FakeDaemon) -> None:
    daemon.note("first")
    terminal = await Terminal.open("events")
    await terminal.see("first")
    terminal.type(b"\x03")
    assert await terminal.end() == 130
    assert "Traceback" not in terminal.shown


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (("status",), wire.status_body),
        (("holds",), lambda daemon: wire.holds_body(daemon.world)),
        (("explain", "chat"), lambda daemon: wire.explain_body(daemon.explain("chat"))),
    ],
    ids=["status", "holds", "explain"],
)
async def test_json_is_exactly_what_the_api_answered(daemon: FakeDaemon, words: tuple[str, ...], body: object) -> None:
    terminal = await Terminal.open(*words, "--json")
    assert await terminal.end() == 0
    assert json.loads(terminal.shown) == body(daemon)  # type: ignore[operator]
    assert not COLOURS.search(terminal.shown)


async def test_a_rehearsed_wake_reads_as_tables(daemon: FakeDaemon) -> None:
    ran = await run("wake", "--dry-run", "embed", COLUMNS="80")
    assert ran.out.splitlines() == [
        "embed: would be woken from level 1 in 4.3s, 0.1s of it making room",
        "  MAKES ROOM  LEVEL  PRIO  IDLE  SLEEP  WAKE  AGAIN  FELT  FREES",
        "  qwen3-32b       2     0   40m   0.1s   14s   0.25  3.6s  58GiB",
        "  chosen: cheapest of what 2 could give; 3.6s felt",
        "  STAYS AWAKE  WHY",
        "  chat         4.7s felt, frees 45GiB",
        "  code         it woke recently (over in 12s)",
        "  GPU   FREE  KEPT  FREED  NEEDED   LEFT  UUID",
        "    0  20GiB  1GiB  58GiB   40GiB  38GiB  GPU-11111111-2222-3333-4444-555555555…",
        "  STEP                TAKES",
        "  wake                4.2s",
        "  reset prefix cache  ?",
    ]
    assert max(map(len, ran.out.splitlines())) <= 80
    assert daemon.asked == []


async def test_pin_and_unpin_say_what_is_so(daemon: FakeDaemon) -> None:
    ran = await run("pin", "embed", "chat")
    assert sorted(ran.out.splitlines()) == ["chat: not pinned, waking", "embed: not pinned, asleep at level 1"]


async def test_what_may_not_be_done_names_the_way(daemon: FakeDaemon) -> None:
    daemon.answers["chat"] = Answer(
        1, AnswerKind.REFUSED, problem="not_permitted", detail="you are alice, wake needs operator; ask"
    )
    ran = await run("wake", "chat")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "sleepctl: chat: not permitted: you are alice, wake needs operator; ask\n"
