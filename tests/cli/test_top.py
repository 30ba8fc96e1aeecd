"""`sleepctl top` on a pseudo-terminal: where it cannot be, what it asks of the API, and how it ends."""

import os
import signal
from pathlib import Path

import pytest

from sleepd.api import access
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.wishes import HoldAsked, SleepAsked, WakeAsked
from tests.cli.terminal import Terminal, run
from tests.unit.api_rig import FakeDaemon, serving

OPENED, CLOSED = "\x1b[?1049h", "\x1b[?1049l"
"""xterm's other screen is entered and left."""


@pytest.mark.parametrize(
    ("environ", "words"),
    [({"TERM": "dumb"}, "cannot move its cursor"), ({"TERM": "no-such-terminal"}, "set TERM to one that is")],
    ids=["dumb", "unknown"],
)
async def test_a_terminal_that_cannot_show_it_gets_a_sentence(
    daemon: FakeDaemon, environ: dict[str, str], words: str
) -> None:
    terminal = await Terminal.open("top", **environ)
    assert await terminal.end() == 2
    assert words in terminal.shown
    assert "\x1b" not in terminal.shown


async def test_without_a_terminal_or_a_daemon_it_says_so(daemon: FakeDaemon) -> None:
    piped = await run("top")
    assert (piped.code, piped.out) == (2, "")
    assert "wanted a terminal, found a file or a pipe; use sleepctl status" in piped.err
    nobody = await Terminal.open("top", "--socket", "/nowhere/s")
    as_json = await Terminal.open("top", "--json")
    assert (await nobody.end(), await as_json.end()) == (3, 2)
    assert "no daemon at /nowhere/s" in nobody.shown
    assert "sleepctl status --json" in as_json.shown
    program = "import sys, sleepd.cli.ctl as ctl; sys.modules['_curses'] = None; raise SystemExit(ctl.main())"
    without = await Terminal.open("top", program=program)
    assert await without.end() == 2
    assert "this Python was built without curses" in without.shown
    assert OPENED not in nobody.shown + as_json.shown + without.shown


async def test_keys_ask_the_api_and_refusals_are_told_in_its_words(daemon: FakeDaemon) -> None:
    detail = "you are alice, sleep needs operator"
    daemon.answers["qwen3-32b"] = Answer(1, AnswerKind.REFUSED, problem="not_permitted", detail=detail)
    terminal = await Terminal.open("top")
    await terminal.see("qwen3-32b")
    terminal.type(b"\x1bOFs1")
    await terminal.see(f"not permitted: {detail}")
    terminal.type(b"\x1bOHw")
    terminal.type(b"h\r")
    terminal.type(b"?")
    await terminal.see("without looking whether there is room")
    terminal.type(b"qq")
    assert await terminal.end() == 0
    assert CLOSED in terminal.shown[-80:]
    slept, *more = daemon.asked
    assert isinstance(slept, SleepAsked)
    assert (slept.model, slept.level, slept.wait) == ("qwen3-32b", 1, False)
    assert {(type(wish), wish.model) for wish in more} == {(WakeAsked, "chat"), (HoldAsked, "chat")}  # type: ignore[union-attr]


async def test_who_may_only_look_is_told_so_by_real_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDaemon()
    monkeypatch.setattr(access.os, "getuid", lambda: os.geteuid() + 1)  # the daemon's own user may do everything
    async with serving(fake, tmp_path / "s", {"viewer": ["*"], "operator": ["%llm-ops"]}):
        terminal = await Terminal.open("top", SLEEPD_SOCKET=str(tmp_path / "s"))
        await terminal.see("qwen3-32b")
        terminal.type(b"w")
        await terminal.see("wake needs operator")
        await terminal.see("to group llm-ops")
        await terminal.see("found:  viewer")
        terminal.type(b"e")
        await terminal.see("verdict")
        terminal.type(b"qq")
        assert await terminal.end() == 0
    assert fake.asked == []


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)],
    ids=lambda value: str(value),
)
async def test_signals_end_it_with_the_terminal_as_it_was(
    daemon: FakeDaemon, number: signal.Signals, code: int
) -> None:
    terminal = await Terminal.open("top")
    await terminal.see("qwen3-32b")
    terminal.tell(number)
    assert await terminal.end() == code
    assert terminal.shown.count(OPENED) == terminal.shown.count(CLOSED) == 1
    assert "Traceback" not in terminal.shown


async def test_an_error_of_its_own_is_seen_on_a_terminal_that_works(daemon: FakeDaemon) -> None:
    program = (
        "import sleepd.cli.top.show as show, sleepd.cli.ctl as ctl; show.press = None; raise SystemExit(ctl.main())"
    )
    terminal = await Terminal.open("top", program=program)
    await terminal.see("qwen3-32b")
    terminal.type(b"w")
    assert await terminal.end() == 1
    assert "TypeError" in terminal.shown[terminal.shown.index(CLOSED) :]


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)], ids=["colours", "none"])
async def test_colours_can_be_left_out(daemon: FakeDaemon, environ: dict[str, str], coloured: bool) -> None:
    terminal = await Terminal.open("top", **environ)
    await terminal.see("qwen3-32b")
    terminal.type(b"q")
    assert await terminal.end() == 0
    assert ("\x1b[32m" in terminal.shown) is coloured


async def test_it_starts_without_the_async_world(daemon: FakeDaemon) -> None:
    program = (
        "import sys, sleepd.cli.top.terminal as terminal, sleepd.cli.ctl as ctl; terminal.Terminal = None\n"
        "try: ctl.main()\nexcept TypeError: print('loaded:', *sys.modules)"
    )
    terminal = await Terminal.open("top", program=program)
    assert await terminal.end() == 0
    loaded = set(terminal.shown.partition("loaded:")[2].split())
    assert "sleepd.cli.top.link" in loaded
    assert not loaded & {"asyncio", "aiohttp", "pydantic", "rich", "structlog", "ssl"}
