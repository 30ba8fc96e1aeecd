"""`sleepctl top` in a real terminal before a real daemon: keys act, states change, it outlives what befalls it."""

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.harness import Daemon, Host
from tests.integration.waiting import wait_until
from tests.terminal.tmux import PROMPT, Tmux

pytestmark = pytest.mark.terminal

COLOURED = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7])[;m]")
TOP = f"{sys.executable} -m sleepd.cli.ctl top"


def start(host: Host) -> Daemon:
    """Return the daemon of two models, of which `embed` is asleep."""
    host.configure("chat")
    (chat,) = host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.client.sleep("chat")
    host.configure("chat", "embed")
    host.start_servers("embed")
    daemon.client.reload()
    daemon.await_model("embed", state="awake")
    assert chat.pid
    return daemon


def end(tmux: Tmux, *keys: str) -> None:
    """Leave, and find the shell on its own screen, with its cursor and its line editing."""
    tmux.type(*keys)
    wait_until(lambda: tmux.flag("alternate_on") == "0", "the other screen to be left")
    tmux.run("clear; stty -a; echo settings e''nd")
    shown = tmux.see("settings end", PROMPT)
    assert {"icanon", "echo", "isig"} <= set(shown.split()), shown
    assert (tmux.flag("alternate_on"), tmux.flag("cursor_flag")) == ("0", "1")
    assert "Traceback" not in shown


def test_keys_act_and_the_screen_follows(host: Host, tmux: Tmux) -> None:
    daemon = start(host)
    tmux.run(TOP)
    tmux.see("▶chat", "○ asleep L1", "● awake", "GPU 0", "EVENTS", "q quit")
    assert COLOURED.search(tmux.coloured())
    assert (tmux.flag("alternate_on"), tmux.flag("cursor_flag")) == ("1", "0")
    tmux.type("End", "s", "1")
    tmux.see("▶embed ○ asleep L1")
    tmux.type("w")
    tmux.see("▶embed ● awake", "wake of embed ended")
    tmux.type("p")
    tmux.see("embed: pinned")
    tmux.type("s", "1")
    tmux.see("the model is pinned awake")
    tmux.type("s", "f")
    tmux.see("y: yes")
    tmux.type("y")
    tmux.see("▶embed ○ asleep L1")
    tmux.type("p", "h")
    tmux.see("hold for: 1h_")
    tmux.type("Enter")
    tmux.see("▶embed ● awake", "held: top-")
    (hold,) = daemon.client.holds().body["holds"]
    assert (hold["model"], hold["ttl_s"], hold["reason"]) == ("embed", 3600.0, "sleepctl top")
    tmux.type("H")
    tmux.see("embed: let go of")
    assert daemon.client.holds().body["holds"] == []
    tmux.type("e")
    tmux.see("embed: why", "rule nap (idle, sleep 1): does not hold")
    tmux.type("Escape", "/", "c", "h")
    wait_until(lambda: " embed " not in tmux.screen().partition("EVENTS")[0], "the filter to act")
    tmux.type("Enter", "d")
    tmux.see("chat: what a wake would do", "chat: would be woken")
    tmux.type("q")
    end(tmux, "q")


def test_a_model_that_works_sleeps_once_it_is_done(host: Host, tmux: Tmux) -> None:
    host.configure("chat")
    (chat,) = host.start_servers("chat", options=("--pace-ms", "200"))
    host.start_daemon().await_model("chat", state="awake")
    with ThreadPoolExecutor() as pool:
        running = pool.submit(chat.complete)
        tmux.run(TOP)
        tmux.see("▶chat", "busy", "running 1, waiting 0")
        tmux.type("s", "1")
        tmux.see("chat works on 1 request. Sleep once they are done, 1m from now at most? y: yes")
        tmux.type("y")
        tmux.see("▶chat ○ asleep L1")
        assert running.result()
    end(tmux, "q")


def test_it_is_redrawn_at_any_size_and_after_it_was_stopped(host: Host, tmux: Tmux) -> None:
    start(host)
    tmux.run(TOP)
    tmux.see("▶chat", "q quit")
    tmux.resize(130, 40)
    assert "SINCE" in tmux.see("SINCE", "asleep L1", "q quit")
    tmux.resize(60, 12)
    shown = tmux.see("▶chat", "w wake")
    assert max(map(len, shown.splitlines())) <= 60
    tmux.resize(30, 6)
    tmux.see("too small: wanted 40x10, found")
    tmux.resize(80, 24)
    tmux.see("▶chat", "q quit")
    tmux.type("C-z")
    tmux.see("Stopped", PROMPT)
    assert (tmux.flag("alternate_on"), tmux.flag("cursor_flag")) == ("0", "1")
    tmux.resize(100, 30)
    tmux.run("fg")
    tmux.see("▶chat", "q quit")
    assert tmux.flag("alternate_on") == "1"
    tmux.type("C-c")
    tmux.run("echo ended by $?")
    tmux.see("ended by 130")
    end(tmux)


def test_only_what_changed_is_sent(host: Host, tmux: Tmux) -> None:
    daemon = start(host)
    tmux.run(TOP)
    tmux.see("▶chat", "q quit")
    sent = host.root / "sent"
    tmux.record(sent)
    wait_until(lambda: sent.exists() and sent.stat().st_size > 0, "the clock to go on")
    began, before = time.monotonic(), sent.stat().st_size
    time.sleep(2.5)
    a_second = (sent.stat().st_size - before) / (time.monotonic() - began)
    assert a_second < 400, "a screen is 1,920 characters"
    daemon.client.wake("chat")
    tmux.see("▶chat  ● awake", "wake of chat ended")
    told = sent.read_bytes()
    assert b"awake" in told
    assert not [clear for clear in (b"\x1b[2J", b"\x1b[J", b"\x1b[H\x1b[2J") if clear in told], "nothing is wiped first"
    end(tmux, "q")


def test_the_daemon_goes_away_and_comes_back(host: Host, tmux: Tmux) -> None:
    daemon = start(host)
    tmux.run(TOP)
    tmux.see("▶chat", "● awake")
    daemon.kill()
    tmux.see("no answer since", "no daemon at", "▶chat", "● awake")
    tmux.type("w")
    tmux.see("nothing listens on that socket; is")
    daemon = host.start_daemon()
    tmux.see(" sleepd 0.", "▶chat", "● awake")
    daemon.client.pin("chat")
    tmux.see("pinned")
    assert daemon.terminate() == 0
    tmux.see("no answer since")
    end(tmux, "q")


def test_fifty_models_of_which_none_answers(host: Host, tmux: Tmux) -> None:
    host.configure(*(f"a-model-with-a-long-name-{number:02}" for number in range(50)))
    host.start_daemon()
    tmux.run(f"NO_COLOR=1 {TOP}")
    tmux.see("▶a-mode", "of 50")
    assert not COLOURED.search(tmux.coloured())
    tmux.type("End")
    tmux.see("-50 of 50", "long-name-49: ")
    tmux.type("PPage")
    tmux.see("long-name-39: ")
    tmux.type("/", "0", "7")
    tmux.see("long-name-07: ")
    tmux.type("Enter", "q")
    end(tmux)
