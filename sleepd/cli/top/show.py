"""`sleepctl top`: brings the View, the daemon and the terminal together."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections import deque
from dataclasses import replace

from sleepd.cli.codes import BY_SIGNAL, DONE, USAGE
from sleepd.cli.screen import look_at
from sleepd.cli.top.keys import press
from sleepd.cli.top.link import Link
from sleepd.cli.top.news import StatusCame, take
from sleepd.cli.top.render import render, settle
from sleepd.cli.top.view import Fetch, Leave, Pane, View, Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.cli.top.news import News
    from sleepd.cli.top.terminal import Terminal
    from sleepd.client import Client

FRAME_S = 1.0
"""The screen is drawn anew at least so often: the clock on it goes on also while nothing comes."""


FETCHED = ("reservations", "explain", "plan")
"""Panes that show what is asked for anew with every status."""


def run_top(client: Client, options: argparse.Namespace) -> int:
    """Return once somebody left. Raises DaemonUnreachable, ApiProblem where there is nobody at the beginning."""
    if options.json:
        return _refuse("it is for eyes; for programs there are sleepctl status --json and events --json")
    try:
        from sleepd.cli.top.terminal import CannotShow, Terminal, look_at_terminal
    except ImportError as error:
        return _refuse(f"this Python was built without curses ({error}); use sleepctl status, or sleepctl events")
    try:
        look_at_terminal()
    except CannotShow as error:
        return _refuse(str(error))
    status = client.status().body
    view = take(View(unicode=look_at(sys.stdout).unicode, asked_by=_user()), StatusCame(status, time.time()))
    arrived: deque[News] = deque()
    with Terminal() as terminal:

        def post(news: News) -> None:
            arrived.append(news)
            terminal.wake()

        link = Link(client.socket_path, post)
        link.begin()
        code = _play(view, terminal, link, arrived)
    link.finish()
    return code


def _play(view: View, terminal: Terminal, link: Link, arrived: deque[News]) -> int:
    while True:
        view = settle(replace(view, now_wall_s=time.time()), *terminal.size)
        terminal.show(render(view, *terminal.size))
        keys = terminal.wait(FRAME_S)
        if terminal.ended_by is not None:
            return BY_SIGNAL + terminal.ended_by
        while arrived:
            news = arrived.popleft()
            view = take(view, news)
            if isinstance(news, StatusCame) and isinstance(view.mode, Pane) and view.mode.kind in FETCHED:
                link.fetch(Fetch(view.mode.kind, view.mode.model))
        for key in keys:
            view, wanted = press(view, key)
            if isinstance(wanted, Leave):
                return DONE
            if isinstance(wanted, Wish):
                link.ask(wanted, view)
            elif isinstance(wanted, Fetch):
                link.fetch(wanted)


def _refuse(why: str) -> int:
    print(f"sleepctl: top: {why}", file=sys.stderr)
    return USAGE


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a number without a name
        return str(os.getuid())
