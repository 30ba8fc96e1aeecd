"""The Python client of the socket API: synchronous, on the standard library alone, so that sleepctl starts fast."""

import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

Json: TypeAlias = dict[str, Any]

DEFAULT_SOCKET = "/run/sleepd/sleepd.sock"
GRACE_S = 10.0
"""How much longer than a wish's own timeout the client waits for the answer that the daemon owes at that moment."""


class DaemonUnreachable(Exception):
    """Nothing answers at the socket; the message says what was tried and what to do."""


class ApiProblem(Exception):
    """The daemon refused. `kind` is stable (docs/api.md); `text` is the body exactly as it was answered."""

    def __init__(self, status: int, body: Mapping[str, Any], text: str) -> None:
        self.status = status
        self.kind = str(body.get("kind", "failed"))
        self.title = str(body.get("title", f"status {status}"))
        self.detail = str(body.get("detail", ""))
        self.wanted = str(body.get("wanted", ""))
        self.found = str(body.get("found", ""))
        self.hint = str(body.get("hint", ""))
        self.errors = tuple(str(error) for error in body.get("errors", ()))
        self.text = text
        super().__init__(f"{self.title}: {self.detail}")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: `text` as it came, `body` what it says."""

    status: int
    text: str
    body: Json


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float | None) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """One daemon at one socket. Every call is its own connection, so calls may be made from several threads."""

    def __init__(self, socket_path: str | os.PathLike[str] | None = None, timeout_s: float = 30.0) -> None:
        """`socket_path` None: $SLEEPD_SOCKET, else the daemon's default. `timeout_s` bounds each ordinary answer."""
        self.socket_path = os.fspath(socket_path or os.environ.get("SLEEPD_SOCKET") or DEFAULT_SOCKET)
        self.timeout_s = timeout_s

    def status(self) -> Reply:
        """Return everything there is to see: version, models, gpus, host, tasks, notes."""
        return self.request("GET", "/v1/status")

    def models(self) -> Reply:
        return self.request("GET", "/v1/models")

    def model(self, name: str) -> Reply:
        return self.request("GET", f"/v1/models/{quote(name, safe='')}")

    def explain(self, name: str) -> Reply:
        return self.request("GET", f"/v1/models/{quote(name, safe='')}/explain")

    def wake(self, name: str, *, wait: bool = True, timeout_s: float = 600.0, force: bool = False) -> Reply:
        """Wake the model; with `wait` return once it is awake, `timeout_s` later at most (kind `timeout`)."""
        return self._wish(name, "wake", {"wait": wait, "timeout_s": timeout_s, "force": force})

    def sleep(
        self,
        name: str,
        *,
        level: int = 1,
        drain_s: float = 0.0,
        wait: bool = True,
        timeout_s: float = 600.0,
        force: bool = False,
    ) -> Reply:
        """Put the model to sleep; a busy one has `drain_s` to finish (kind `busy`)."""
        body = {"level": level, "drain_s": drain_s, "wait": wait, "timeout_s": timeout_s, "force": force}
        return self._wish(name, "sleep", body)

    def reset(self, name: str) -> Reply:
        """Take a failed model back into service: it is looked at anew."""
        return self._wish(name, "reset", {})

    def reload(self) -> Reply:
        """Read the configuration anew. A wrong one raises ApiProblem with `errors`; the running settings stay."""
        return self.request("POST", "/v1/reload", {})

    def events(self, since: str | None = None, *, follow: bool = True) -> Iterator[Json]:
        """Yield events as they come, those on record first; `{"kind": "gap", …}` where some after `since` were lost.

        Ends where the daemon ends the stream: after those on record without `follow`, else when it stops.
        """
        query = urlencode({"follow": "true" if follow else "false"} | ({"since": since} if since else {}))
        connection = self._connect(self.timeout_s)
        try:
            response = self._send(connection, "GET", f"/v1/events?{query}", None)
            if response.status != 200:
                _read_reply(response)
            yield from _read_events(response)
        except (OSError, http.client.HTTPException) as error:
            raise DaemonUnreachable(f"the daemon at {self.socket_path} broke off: {_why(error)}") from None
        finally:
            connection.close()

    def request(self, method: str, path: str, body: Json | None = None, *, timeout_s: float | None = None) -> Reply:
        """Return the answer. Raises ApiProblem for a refusal and DaemonUnreachable where none comes in time."""
        connection = self._connect(self.timeout_s if timeout_s is None else timeout_s)
        try:
            return _read_reply(self._send(connection, method, path, body))
        except (OSError, http.client.HTTPException) as error:
            raise DaemonUnreachable(f"the daemon at {self.socket_path} did not answer: {_why(error)}") from None
        finally:
            connection.close()

    def _wish(self, name: str, verb: str, body: Json) -> Reply:
        limit_s = body["timeout_s"] + GRACE_S if body.get("wait") else self.timeout_s
        return self.request("POST", f"/v1/models/{quote(name, safe='')}/{verb}", body, timeout_s=limit_s)

    def _connect(self, timeout_s: float) -> _UnixConnection:
        connection = _UnixConnection(self.socket_path, timeout_s)
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            raise DaemonUnreachable(_cannot_connect(self.socket_path, error)) from None
        return connection

    def _send(self, connection: _UnixConnection, method: str, path: str, body: Json | None) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()


def _read_reply(response: http.client.HTTPResponse) -> Reply:
    text = response.read().decode(errors="replace")
    try:
        body = json.loads(text)
    except ValueError:
        body = {"detail": "what answers there is no sleepd"}
    if not isinstance(body, dict):
        body = {"detail": "what answers there is no sleepd"}
    if response.status >= 400 or "title" in body:
        raise ApiProblem(response.status, body, text)
    return Reply(response.status, text, body)


def _read_events(response: http.client.HTTPResponse) -> Iterator[Json]:
    """Yield the data of each event; comments (the daemon's heartbeat) only keep the connection alive."""
    kind = ""
    for raw in response:
        field, _, value = raw.decode(errors="replace").rstrip("\n").partition(": ")
        if field == "event":
            kind = value
        elif field == "data":
            body = json.loads(value)
            yield {"kind": kind} | body if kind else body
            kind = ""


def _cannot_connect(path: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no daemon at {path}: there is no such socket; is sleepd running? (systemctl status sleepd)"
    if isinstance(error, ConnectionRefusedError):
        return f"no daemon at {path}: nothing listens on that socket; is sleepd running? (systemctl status sleepd)"
    if isinstance(error, PermissionError):
        return f"no access to {path}: you may not connect to that socket; see [api] mode in sleepd's configuration"
    return f"no daemon at {path}: {_why(error)}"


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
