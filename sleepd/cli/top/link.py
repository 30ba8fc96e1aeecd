"""The daemon as `top` asks it: the status every second, events as they come, wishes; each in a thread of its own."""

from __future__ import annotations

import threading
import time

from sleepd.cli.prose import tell_outcome, tell_problem
from sleepd.cli.screen import clean
from sleepd.cli.top.keys import hold_id
from sleepd.cli.top.news import EventCame, PaneCame, StatusCame
from sleepd.cli.top.view import EVENTS_KEPT, Away, Fetch, Notice, View, Wish
from sleepd.client import ApiProblem, Client, DaemonUnreachable
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sleepd.cli.top.news import News

POLL_S = 1.0
ANSWER_LIMIT_S = 5.0
"""A daemon that takes longer for an answer is away."""
AGAIN_S = 1.0
REASON = "sleepctl top"


class Link:
    """Asks the daemon at one socket and gives what comes to `post`, from several threads. They end with the program."""

    def __init__(self, socket_path: str, post: Callable[[News], None]) -> None:
        self._client = Client(socket_path, timeout_s=ANSWER_LIMIT_S)
        self._post = post
        self._fetching: set[Fetch] = set()
        self._wishes: list[threading.Thread] = []

    def begin(self) -> None:
        """From now on status and events come; the daemon may go away and come back as often as it likes."""
        self._start(self._poll)
        self._start(self._listen)

    def ask(self, wish: Wish, view: View) -> None:
        """The wish is asked; what became of it comes as news."""
        self._wishes = [thread for thread in self._wishes if thread.is_alive()]
        self._wishes.append(self._start(lambda: self._post(self._asked(wish, view))))

    def finish(self) -> None:
        """Every wish was asked and answered, or not answered in time."""
        for thread in self._wishes:
            thread.join(ANSWER_LIMIT_S)

    def fetch(self, wanted: Fetch) -> None:
        """What a pane shows is asked for, unless that is being done already."""
        if wanted not in self._fetching:
            self._fetching.add(wanted)
            self._start(lambda: self._fetched(wanted))

    def _start(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def _poll(self) -> None:
        while True:
            began_s = time.monotonic()
            self._post(self._status())
            time.sleep(max(0.0, POLL_S - (time.monotonic() - began_s)))

    def _status(self) -> News:
        try:
            body = self._client.status().body
            return StatusCame(body, time.time())
        except (ApiProblem, DaemonUnreachable) as error:
            return Away(time.time(), clean(error))
        except (KeyError, ValueError) as error:
            return Away(time.time(), f"an answer that makes no sense: {clean(error)}")

    def _listen(self) -> None:
        last_id: str | None = None
        while True:
            try:
                for event in self._client.events(last_id, last=EVENTS_KEPT):
                    last_id = event.get("id", last_id)
                    self._post(EventCame(event))
            except (ApiProblem, DaemonUnreachable, ValueError):
                pass  # the poll tells it
            time.sleep(AGAIN_S)

    def _fetched(self, wanted: Fetch) -> None:
        try:
            self._post(PaneCame(wanted, self._read(wanted)))
        except ApiProblem as problem:
            self._post(PaneCame(wanted, tuple(tell_problem(problem, program=""))))
        except DaemonUnreachable as error:
            self._post(PaneCame(wanted, (clean(error),)))
        finally:
            self._fetching.discard(wanted)

    def _read(self, wanted: Fetch) -> object:
        if wanted.kind == "explain":
            return self._client.explain(wanted.model).body
        if wanted.kind == "reservations":
            return self._client.reservations().body["reservations"]
        return self._client.plan_wake(wanted.model).body["plan"]

    def _asked(self, wish: Wish, view: View) -> Notice:
        try:
            return Notice((self._act(wish, hold_id(view, wish.model)),))
        except ApiProblem as problem:
            return Notice(tuple(tell_problem(problem, wish.model, program="")), refused=True)
        except DaemonUnreachable as error:
            return Notice((clean(error),), refused=True)

    def _act(self, wish: Wish, own_hold: str) -> str:
        """Ask, and return what became of it in a sentence. Nothing is waited for: the table shows how it goes on."""
        client, name = self._client, wish.model
        if wish.verb == "hold":
            client.hold(own_hold, name, ttl_s=wish.ttl_s, reason=REASON, wait=False)
            return f"{name}: held awake for {format_duration(wish.ttl_s)}"
        if wish.verb == "release":
            let_go = client.release(own_hold).body["released"]
            return f"{name}: let go of" if let_go else f"{name}: no hold of yours was taken here; see sleepctl holds"
        if wish.verb == "wake":
            reply = client.wake(name, wait=False, force=wish.force)
        elif wish.verb == "sleep":
            reply = client.sleep(name, level=wish.level, drain_s=wish.drain_s, force=wish.force, wait=False)
        elif wish.verb in ("stop", "start"):
            reply = (client.stop if wish.verb == "stop" else client.start)(name, wait=False)
        else:
            reply = {"reset": client.reset, "pin": client.pin, "unpin": client.unpin}[wish.verb](name)
        return tell_outcome(wish.verb, name, reply.status, reply.body)
