"""Callers that go on asking while sleepd is restarted, and remember what became of every request."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

LIMIT_S = 60.0


class Connection(http.client.HTTPConnection):
    """One connection over a unix socket, or to a port of this machine."""

    def __init__(self, where: Path | int) -> None:
        super().__init__("localhost", timeout=LIMIT_S)
        self._where = where

    def connect(self) -> None:
        if isinstance(self._where, int):
            self.sock = socket.create_connection(("127.0.0.1", self._where), LIMIT_S)
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(LIMIT_S)
        self.sock.connect(str(self._where))


class Callers:
    """Threads that ask one question after the other, each on a connection of its own, as long as the `with` lasts."""

    def __init__(self, where: Path | int, method: str, target: str, body: Any = None, *, threads: int = 4) -> None:
        self._question = (where, method, target, body)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]
        self.ends: Counter[str] = Counter()
        """How often requests came to which end: "200", "503 Retry-After 5", "ConnectionResetError"."""

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def _ask(self) -> None:
        while not self._over.is_set():
            self.ends[ask(*self._question)] += 1
            time.sleep(0.005)


def ask(where: Path | int, method: str, target: str, body: Any = None) -> str:
    """Return the end that one request came to, in a few words."""
    connection = Connection(where)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
        response = connection.getresponse()
        response.read()
        retry = response.getheader("Retry-After")
        return f"{response.status} Retry-After {retry}" if retry else str(response.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()
