"""Waiting for what a daemon does, without guessing how long it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sleepd.client import Client, DaemonUnreachable

T = TypeVar("T")

WAIT_LIMIT_S = 20.0


def wait_until(look: Callable[[], T], what: str, limit_s: float = WAIT_LIMIT_S) -> T:
    """Return the first true value of `look`. Raises AssertionError naming `what` after `limit_s`."""
    deadline_s = time.monotonic() + limit_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline_s, f"waited {limit_s:g} s for {what}; last seen: {found!r}"
        time.sleep(0.02)


def await_model(client: Client, name: str, limit_s: float = WAIT_LIMIT_S, **wanted: Any) -> dict[str, Any]:
    """Return the model as the API shows it, once all these fields are so. Raises AssertionError with how it is."""
    last: dict[str, Any] = {}

    def is_so() -> bool:
        last.update(client.model(name).body)
        return all(last[key] == value for key, value in wanted.items())

    try:
        wait_until(is_so, f"{name} to be {wanted}", limit_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last}") from None
    return last


class Events:
    """Everything the daemon tells on /v1/events, read by a thread of its own."""

    def __init__(self, path: Path) -> None:
        self.all: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._follow, args=(Client(path),), daemon=True)
        self._thread.start()

    def _follow(self, client: Client) -> None:
        try:
            for event in client.events():
                with self._news:
                    self.all.append(event)
                    self._news.notify_all()
        except DaemonUnreachable:
            return

    def await_one(
        self, kind: str, model: str | None = None, *, limit_s: float = WAIT_LIMIT_S, **data: Any
    ) -> dict[str, Any]:
        """Return the first event of this kind (with these data), once it is told."""

        def found() -> dict[str, Any] | None:
            return next(iter(self.of(kind, model, **data)), None)

        with self._news:
            self._news.wait_for(lambda: found() is not None, limit_s)
        event = found()
        assert event is not None, f"no event {kind} {model or ''} {data}: {[e.get('text') for e in self.all]}"
        return event

    def of(self, kind: str, model: str | None = None, **data: Any) -> list[dict[str, Any]]:
        return [
            e
            for e in list(self.all)
            if e["kind"] == kind
            and model in (None, e.get("model"))
            and all(e.get("data", {}).get(k) == v for k, v in data.items())
        ]

    def join(self) -> None:
        self._thread.join(5.0)
