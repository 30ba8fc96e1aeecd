"""Raw HTTP over a unix socket, as `curl --unix-socket` would speak it to a server or to the daemon."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LIMIT_S = 10.0


@dataclass(frozen=True)
class Answer:
    """A whole answer; `data` is its JSON, None where it is none."""

    status: int
    text: str
    data: Any


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, limit_s: float) -> None:
        super().__init__("localhost", timeout=limit_s)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def send(path: Path, method: str, target: str, body: Any = None, *, limit_s: float = LIMIT_S) -> Answer:
    """Return the answer to one request on a connection of its own. Raises OSError where none comes in `limit_s`."""
    connection = _UnixConnection(path, limit_s)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, target, data, {} if data is None else {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, text, _parsed(text))
    finally:
        connection.close()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
