"""`sleepctl hold`: its command's status, signals both ways, and that it always lets go."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.wishes import HoldAsked, HoldEnded, WakeAsked
from tests.cli.terminal import Terminal, finish, run, start
from tests.unit.api_rig import FakeDaemon

PATIENT = "trap 'echo got TERM; exit 6' TERM; trap 'echo got INT; exit 5' INT; echo ready; while :; do sleep 0.05; done"


def holds(daemon: FakeDaemon) -> list[str]:
    return [hold.id for record in daemon.world.models.values() for hold in record.holds]


async def test_the_status_and_the_output_are_the_command_s(daemon: FakeDaemon) -> None:
    ran = await run(
        "hold", "embed", "--reason", "nightly", "--", "sh", "-c", 'echo "$@"; echo e >&2; exit 7', "-", "--x", "--"
    )
    assert (ran.code, ran.out, ran.err) == (7, "--x --\n", "e\n")
    held, woken, *_ = daemon.asked
    assert isinstance(held, HoldAsked)
    assert (held.model, held.reason, held.ttl_s) == ("embed", "nightly", None)
    assert isinstance(woken, WakeAsked)
    assert isinstance(daemon.asked[-1], HoldEnded)
    assert holds(daemon) == []


async def test_a_command_that_cannot_be_run(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("no program")
    missing, plain, folder = await asyncio.gather(
        run("hold", "embed", "--", "no-such-program-here"),
        run("hold", "embed", "--", str(tmp_path / "plain")),
        run("hold", "embed", "--", str(tmp_path)),
    )
    assert (missing.code, plain.code, folder.code) == (127, 126, 126)
    assert missing.err == "sleepctl: no-such-program-here: No such file or directory\n"
    assert holds(daemon) == []


async def test_where_sleepctl_itself_fails_it_is_125(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["chat"] = Answer(1, AnswerKind.REFUSED, problem="no_room", detail="60GiB do not fit")
    refused, nobody, usage, none = await asyncio.gather(
        run("hold", "chat", "--", "echo", "ran"),
        run("--socket", str(tmp_path / "none"), "hold", "chat", "--", "echo", "ran"),
        run("hold", "chat", "--ttl", "5m", "--", "echo", "ran"),
        run("hold", "chat", "--"),
    )
    assert [(r.code, r.out) for r in (refused, nobody, usage, none)] == [(125, "")] * 4
    assert "there is not enough room: 60GiB do not fit" in refused.err
    assert "there is no such socket" in nobody.err
    assert "wanted one of these: MODEL -- CMD, MODEL --ttl D, --release ID" in usage.err
    assert "wanted a command behind --" in none.err


async def test_a_command_that_dies_of_a_signal_is_128_and_it(daemon: FakeDaemon) -> None:
    killed, piped = await asyncio.gather(
        run("hold", "embed", "--", "sh", "-c", "kill -9 $$"), run("hold", "embed", "--", "sh", "-c", "kill -PIPE $$")
    )
    assert (killed.code, piped.code) == (137, 141)  # SIGPIPE too: what Python ignores is not handed down


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_the_command_gets_sigterm_when_sleepctl_is_told_to_end(
    daemon: FakeDaemon, number: signal.Signals
) -> None:
    process = await start("hold", "embed", "--", "sh", "-c", PATIENT)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    ran = await finish(process)
    assert (ran.code, ran.out, ran.err) == (6, "got TERM\n", "")
    assert holds(daemon) == []


async def test_ctrl_c_at_the_terminal_reaches_the_command_once(daemon: FakeDaemon) -> None:
    terminal = await Terminal.open("hold", "embed", "--", "sh", "-c", PATIENT)
    await terminal.see("ready")
    assert len(holds(daemon)) == 1
    terminal.type(b"\x03")
    assert await terminal.end() == 5
    assert "got INT" in terminal.shown
    assert "TERM" not in terminal.shown
    assert holds(daemon) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_told_to_end_while_the_model_wakes(daemon: FakeDaemon, number: signal.Signals, code: int) -> None:
    daemon.never.add("chat")
    process = await start("hold", "chat", "--", "echo", "ran")
    async with asyncio.timeout(30):
        while not any(isinstance(wish, WakeAsked) for wish in daemon.asked):
            await daemon.heard.wait()
            await asyncio.sleep(0.01)
    process.send_signal(number)
    ran = await finish(process)
    assert (ran.code, ran.out) == (code, "")
    assert holds(daemon) == []
    assert daemon.withdrawn == ["chat"]


async def test_a_hold_that_is_lost_is_told_and_the_command_goes_on(daemon: FakeDaemon, tmp_path: Path) -> None:
    wait = f"echo ready; until [ -e {tmp_path}/go ]; do sleep 0.05; done; echo done"
    process = await start("hold", "embed", "--id", "job", "--", "sh", "-c", wait)
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"ready\n"
        assert (await run("hold", "--release", "job")).out == "job: let go of\n"
        told = await process.stderr.readline()
    assert told == b"sleepctl: embed is no longer held: let go of; the command goes on\n"
    (tmp_path / "go").touch()
    ran = await finish(process)
    assert (ran.code, ran.out) == (0, "done\n")


async def test_a_hold_for_a_time_is_named_listed_and_let_go_of(daemon: FakeDaemon) -> None:
    held = await run("hold", "embed", "--ttl", "2h", "--id", "job:1", "--reason", "a long reason")
    assert (held.code, held.out) == (0, "embed: held awake for 2h as job:1\n")
    assert held.err == "let go sooner with: sleepctl hold --release job:1\n"
    raw, shown, other = await asyncio.gather(run("holds", "--json"), run("holds"), run("holds", "chat"))
    (hold,) = json.loads(raw.out)["holds"]
    assert (hold["id"], hold["ttl_s"], hold["attached"]) == ("job:1", 7200.0, False)
    head, row = shown.out.splitlines()
    assert head.split() == ["MODEL", "HOLD", "BY", "SINCE", "ENDS", "REASON"]
    assert row.startswith("embed  job:1")
    assert row.endswith("a long reason")
    assert other.out == "nothing is held awake\n"
    gone, again = await run("hold", "--release", "job:1"), await run("hold", "--release", "job:1", "--json")
    assert gone.out == "job:1: let go of\n"
    assert json.loads(again.out) == {"id": "job:1", "released": False}


@pytest.mark.parametrize(
    "words",
    [
        ["hold"],
        ["hold", "chat"],
        ["hold", "chat", "--release", "x"],
        ["hold", "--ttl", "5m"],
        ["hold", "c", "--ttl", "x"],
    ],
)
async def test_half_a_hold_is_usage(words: list[str]) -> None:
    ran = await run(*words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("usage: sleepctl hold")
