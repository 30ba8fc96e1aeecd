"""The little HTTP that the tests need: one request, one connection, TCP or a unix socket. Standard library only."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Listener:
    """Where a server listens: a unix socket, or a port of 127.0.0.1."""

    socket: Path | None = None
    port: int | None = None

    @property
    def url(self) -> str:
        return f"unix:{self.socket}" if self.socket else f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        """For `vllm serve`."""
        return ("--uds", str(self.socket)) if self.socket else ("--host", "127.0.0.1", "--port", str(self.port))


@dataclass(frozen=True)
class Answer:
    """A status and the body: parsed where it is JSON, else text."""

    status: int
    body: Any


class UnixConnection(HTTPConnection):
    """HTTP/1.1 on a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(listener: Listener, method: str, path: str, body: Any = None, *, timeout_s: float = 60.0) -> Answer:
    """The server's answer. Raises OSError when there is none within `timeout_s` for each read, or it breaks off."""
    if listener.socket:
        connection: HTTPConnection = UnixConnection(listener.socket, timeout_s)
    else:
        connection = HTTPConnection("127.0.0.1", listener.port, timeout=timeout_s)
    try:
        if body is None:
            connection.request(method, path)
        else:
            connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        if "json" in response.headers.get("Content-Type", ""):
            return Answer(response.status, json.loads(text))
        return Answer(response.status, text)
    except HTTPException as broken:
        raise ConnectionError(f"{method} {path}: the answer broke off: {broken!r}") from broken
    finally:
        connection.close()
