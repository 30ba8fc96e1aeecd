"""What a daemon answers, as the client gives it: replies, refusals, and that nobody is there."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Generic, TypeVar

    Body = TypeVar("Body")

    class _Of(Generic[Body]):
        """What a type checker is told of a reply's body."""
else:  # typing costs a program that only asks for the status a tenth of its time

    class _Of:
        def __class_getitem__(cls, body: object) -> type:
            return cls


NOT_SLEEPD = "what answers there is no sleepd"


class Reply(_Of["Body"]):
    """An answer: `text` exactly as it came, `body` what it says."""

    __slots__ = ("body", "status", "text")

    def __init__(self, status: int, text: str, body: Body) -> None:
        self.status, self.text, self.body = status, text, body


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


def read_reply(status: int, raw: bytes) -> Reply[Any]:
    """Return what was answered. Raises ApiProblem for a refusal, and for an answer that is none of sleepd's."""
    text = raw.decode(errors="replace")
    if status == 204:
        return Reply(status, text, None)
    try:
        body = json.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise ApiProblem(status, {"detail": NOT_SLEEPD}, text)
    if status >= 400 and "ready" not in body:
        raise ApiProblem(status, body, text)
    return Reply(status, text, body)


def say_unreachable(path: str, error: OSError) -> str:
    """Return why nobody answers at the socket, and what to do."""
    if isinstance(error, FileNotFoundError):
        return f"no daemon at {path}: there is no such socket; is sleepd running? (systemctl status sleepd)"
    if isinstance(error, ConnectionRefusedError):
        return f"no daemon at {path}: nothing listens on that socket; is sleepd running? (systemctl status sleepd)"
    if isinstance(error, PermissionError):
        return f"no access to {path}: you may not connect to that socket; see [api] mode in sleepd's configuration"
    return f"no daemon at {path}: {why(error)}"


def silent(path: str, error: BaseException) -> DaemonUnreachable:
    """Whoever listens at the socket gave no answer."""
    return DaemonUnreachable(f"the daemon at {path} did not answer: {why(error)}")


def broke_off(path: str, error: BaseException | None = None) -> DaemonUnreachable:
    """A stream ended in the midst of it."""
    return DaemonUnreachable(f"the daemon at {path} broke off{f': {why(error)}' if error else ''}")


def why(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
