"""sleepctl as a program against a served API: what it prints, where, and its exit codes."""

import asyncio
import gzip
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from sleepd import wire
from sleepd.api.daemon import ReloadOutcome
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.units import format_duration
from sleepd.core.wishes import SleepAsked, WakeAsked
from tests.unit.api_rig import WALL_S, FakeDaemon

SLEEPCTL = [sys.executable, "-m", "sleepd.cli.ctl"]


@dataclass
class Ran:
    code: int
    out: str
    err: str


async def run(*arguments: str, **environ: str) -> Ran:
    process = await asyncio.create_subprocess_exec(
        *SLEEPCTL,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONUTF8": "1"} | environ,
    )
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


async def test_status_for_people_and_for_programs(daemon: FakeDaemon) -> None:
    shown, asked, some = await asyncio.gather(run("status"), run("status", "--json"), run("status", "qwen*"))
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines()[0].split() == ["NAME", "STATE", "SINCE", "IDLE", "VRAM", "NEXT"]
    assert "\x1b" not in shown.out
    assert json.loads(asked.out) == wire.status_body(daemon)
    assert asked.out.count("\n") == 1
    assert "qwen3-32b" in some.out
    assert "embed" not in some.out


async def test_wake_and_sleep_say_what_became_of_each(daemon: FakeDaemon) -> None:
    daemon.answers["chat"] = Answer(1, AnswerKind.DONE)
    woken = await run("wake", "qwen*", "chat", "--timeout", "1m30s", "--force")
    assert (woken.code, woken.err) == (0, "")
    assert sorted(woken.out.splitlines()) == ["chat: waking already", "qwen3-32b: awake after 4.2s"]
    assert {(w.model, w.timeout_s, w.force) for w in daemon.asked if isinstance(w, WakeAsked)} == {
        ("chat", 90.0, True),
        ("qwen3-32b", 90.0, True),
    }
    daemon.answers["embed"] = Answer(1, AnswerKind.ACCEPTED, task_id=9)
    slept = await run("sleep", "embed", "--level", "2", "--drain", "5s", "--no-wait")
    assert (slept.code, slept.out) == (0, "embed: sleep accepted (task 9), asleep at level 1 now\n")
    wish = daemon.asked[-1]
    assert isinstance(wish, SleepAsked)
    assert (wish.level, wish.drain_s, wish.wait) == (2, 5.0, False)


async def test_history_and_report_fit_80_columns(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.wall_offset_s = time.time() - WALL_S
    listed, report = await asyncio.gather(run("history", "chat", COLUMNS="80"), run("report", COLUMNS="80"))
    assert (listed.code, listed.err, report.code, report.err) == (0, "", 0, "")
    lines = listed.out.splitlines()
    assert lines[0].split() == ["MODEL", "SINCE", "(UTC)", "STATE", "LASTED", "WHY"]
    assert "found so" in lines[1]
    assert "asleep L1" in lines[2]
    assert "rule nap, frees" in lines[2]
    assert "sleep failed" in lines[3]
    assert "given back: 1,288.9 GiB-hours of GPU memory" in report.out
    assert "wakes: 9; requests that waited: 9, half of them no longer than" in report.out
    rows = [line.split() for line in report.out.splitlines()]
    assert ["chat", "1,288.9", "22h13m", "9", "4.2s", "9.0s", "2", "1", "1.0kWh"] in rows
    assert ["embed", "0.0", "0s", "0", "-", "-", "0", "0", "-"] in rows
    assert all(len(line) <= 80 for line in (listed.out + report.out).splitlines())
    assert len(daemon.history.asked) == 3, "a page that says there is more is not the last one"


async def test_history_ends_at_the_daemons_now(daemon: FakeDaemon) -> None:
    """`sleepd demo` has a clock of its own, faster than the caller's."""
    ahead_s = 7200.0
    daemon.wall_offset_s = time.time() - WALL_S + ahead_s
    listed, traced = await asyncio.gather(run("history", "chat"), run("history", "--trace"))
    assert (listed.code, traced.code) == (0, 0)
    assert all(span.to_wall_s >= WALL_S + daemon.wall_offset_s for span in daemon.history.asked)
    asleep = next(line for line in listed.out.splitlines() if "asleep L1" in line)
    assert format_duration(float(int(900.0 + daemon.wall_offset_s))) in asleep


async def test_history_becomes_a_trace(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.wall_offset_s = time.time() - WALL_S
    packed = tmp_path / "t.csv.gz"
    shown, written = await asyncio.gather(run("history", "--trace"), run("history", "--trace", str(packed)))
    # Two pages with the same row: in its minute twice as many came.
    assert shown.out.splitlines()[0] == "seconds,model,prompt_tokens,output_tokens"
    assert len(shown.out.splitlines()) == 1 + 6
    assert f"6 requests of 1 models in {packed}" in written.err
    assert gzip.decompress(packed.read_bytes()).decode() == shown.out
    assert {line.partition(",")[2] for line in shown.out.splitlines()[1:]} == {"chat,700,150"}
    nowhere = await run("history", "--trace", "/nowhere/t.csv")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "/nowhere/t.csv cannot be written: No such file or directory" in nowhere.err
    exact = await run("report", "--json", "--since", "1d")
    assert json.loads(exact.out)["total"]["wakes"] == 9


async def test_a_report_becomes_a_page_of_its_own(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.wall_offset_s = time.time() - WALL_S
    file = tmp_path / "week.html"
    written, shown = await asyncio.gather(run("report", "--html", str(file)), run("report", "--json", "--html", "-"))
    assert (written.code, written.out, written.err) == (0, "", "")
    page = file.read_text(encoding="utf-8")
    assert "given back: 1,288.9 GiB-hours of GPU memory" in page
    assert "1 model from " in page
    assert "rule nap" in page
    assert "GPU 0: 60GiB of 80GiB at most" in page
    whole, _, answer = shown.out.partition("</html>\n")
    assert whole.startswith("<!doctype html>")
    assert json.loads(answer)["total"]["wakes"] == 9
    nowhere = await run("report", "--html", "/nowhere/week.html")
    assert (nowhere.code, nowhere.out) == (1, "")
    assert "/nowhere/week.html cannot be written: No such file or directory" in nowhere.err


async def test_all_means_all_and_json_is_the_answer(daemon: FakeDaemon) -> None:
    ran = await run("reset", "--all", "--json")
    assert ran.code == 0
    assert {json.loads(line)["model"]["name"] for line in ran.out.splitlines()} == set(daemon.world.models)


async def test_refusals_are_1_timeouts_4_and_the_worse_one_counts(daemon: FakeDaemon) -> None:
    daemon.answers["chat"] = Answer(
        1,
        AnswerKind.REFUSED,
        problem="no_room",
        detail="no fit",
        wanted="60GiB",
        found="13GiB",
        hint="sleep one",
    )
    daemon.answers["embed"] = Answer(1, AnswerKind.TIMED_OUT, waited_s=5)
    refused, late, both = await asyncio.gather(
        run("wake", "chat"), run("wake", "embed", "--json"), run("wake", "chat", "embed", "qwen3-32b")
    )
    assert (refused.code, refused.out) == (1, "")
    assert refused.err == (
        "sleepctl: chat: there is not enough room: no fit\n  wanted: 60GiB\n  found:  13GiB\n  hint:   sleep one\n"
    )
    assert (late.code, json.loads(late.out)["kind"]) == (4, "timeout")
    assert "the task goes on" in late.err
    assert (both.code, both.out) == (1, "qwen3-32b: awake after 4.2s\n")


async def test_names_that_match_nothing_are_1(daemon: FakeDaemon) -> None:
    unknown, no_match = await asyncio.gather(run("wake", "chatt"), run("wake", "z*"))
    assert (unknown.code, no_match.code) == (1, 1)
    assert 'did you mean "chat"?' in unknown.err
    assert "no model matches z*" in no_match.err
    assert daemon.asked == []


async def test_is_awake_is_quiet(daemon: FakeDaemon) -> None:
    awake, not_all = await asyncio.gather(run("is-awake", "qwen3-32b"), run("is-awake", "--all"))
    assert (awake, not_all) == (Ran(0, "", ""), Ran(1, "", ""))


async def test_explain_prints_every_condition(daemon: FakeDaemon) -> None:
    ran, raw = await asyncio.gather(run("explain", "chat"), run("explain", "chat", "--json"))
    assert ran.code == 0
    assert "rule nap (sleep 1): does not hold, due in 50s" in ran.out
    assert "✗ idle: wanted 5m, found 4m10s (in 50s)" in ran.out
    assert "? host_available_below: wanted 10%, found not read yet" in ran.out
    assert "protected:\n  awake for 40s of its min_awake 1m\n" in ran.out
    assert json.loads(raw.out) == wire.explain_body(daemon.explain("chat"))


async def test_events_on_record_of_one_model_and_after_an_id(daemon: FakeDaemon) -> None:
    for n in range(7):
        daemon.note(f"step {n}", "chat" if n % 2 else "embed")
    shown, rest = await asyncio.gather(
        run("events", "--no-follow", "ch*"), run("events", "--no-follow", "--since", "e1-1", "--json")
    )
    assert shown.out.splitlines() == [
        "2026-01-01 00:00:00Z  chat: step 3",
        "2026-01-01 00:00:00Z  chat: step 5",
    ]
    kinds = [json.loads(line)["kind"] for line in rest.out.splitlines()]
    assert kinds == ["gap"] + ["state"] * 5


async def test_following_events_ends_quietly_with_ctrl_c(daemon: FakeDaemon) -> None:
    daemon.note("first")
    process = await asyncio.create_subprocess_exec(
        *SLEEPCTL, "events", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert b"first" in await process.stdout.readline()
        daemon.note("second")
        assert b"second" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert (process.returncode, err) == (130, b"")


async def test_a_wish_ends_with_ctrl_c(daemon: FakeDaemon) -> None:
    daemon.never.add("chat")
    process = await asyncio.create_subprocess_exec(*SLEEPCTL, "wake", "chat", stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(30):
        await daemon.heard.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        await daemon.left.wait()
    assert (process.returncode, err, daemon.withdrawn) == (130, b"", ["chat"])


async def test_nobody_reading_is_no_fault(daemon: FakeDaemon) -> None:
    for command in ("status", "wake --all", "explain chat"):
        reader, writer = os.pipe()
        os.close(reader)
        process = await asyncio.create_subprocess_exec(
            *SLEEPCTL, *command.split(), stdout=writer, stderr=asyncio.subprocess.PIPE
        )
        os.close(writer)
        _, err = await process.communicate()
        assert (process.returncode, err) == (0, b""), command


async def test_reload_is_2_where_the_configuration_is_wrong(daemon: FakeDaemon) -> None:
    good = await run("reload")
    assert (good.code, good.out) == (0, "models.chat: priority 0 → 1\n")
    daemon.outcome = ReloadOutcome(errors=("a.toml:1: wrong",))
    bad = await run("reload")
    assert (bad.code, bad.out) == (2, "")
    assert "the running settings were kept" in bad.err
    assert "  a.toml:1: wrong" in bad.err


async def test_no_daemon_is_3_and_wrong_usage_2(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    absent, no_socket, no_model, both, bad_time, long = await asyncio.gather(
        run("status", "--socket", str(tmp_path / "absent")),
        run("--socket", str(tmp_path / "file"), "wake", "chat"),
        run("wake"),
        run("wake", "chat", "--all"),
        run("wake", "chat", "--timeout", "soon"),
        run("wake", "chat", "--timeout", "9" * 400 + "s"),
    )
    assert (absent.code, no_socket.code) == (3, 3)
    assert "is sleepd running?" in absent.err
    assert [ran.code for ran in (no_model, both, bad_time, long)] == [2, 2, 2, 2]
    assert "wanted at least one MODEL" in no_model.err
    assert 'wanted a duration such as "90s"' in bad_time.err
    assert "wanted a duration of at most" in long.err
