"""What reaches the API's socket and is no HTTP request: refused in words, and told by one short line.

aiohttp answers such bytes with plain text and logs a traceback for each, so anybody who may connect could fill the log.
"""

import logging
import time

from aiohttp import web

from sleepd.api.problems import Problem, respond
from sleepd.core.units import MonotonicS, Seconds

_log = logging.getLogger("sleepd.api")

TOLD_EVERY_S: Seconds = 10.0
"""At most one line in this time; the next one says how many were refused meanwhile."""
SHOWN = 120
"""Characters of what was found that are shown."""


class Refusals:
    """Tells of refused bytes, now and then."""

    def __init__(self) -> None:
        self._told_s: MonotonicS | None = None
        self._untold = 0

    def tell(self, found: str) -> None:
        now_s = time.monotonic()
        if self._told_s is not None and now_s - self._told_s < TOLD_EVERY_S:
            self._untold += 1
            return
        more = f" ({self._untold} more since the last line of this kind)" if self._untold else ""
        _log.warning("refused what is no HTTP request: %s%s", found, more)
        self._told_s, self._untold = now_s, 0


class Protocol(web.RequestHandler):
    """aiohttp's protocol, but for what it says where no request could be read."""

    __slots__ = ("refusals",)

    refusals: Refusals

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to bytes that no request could be made of, as problem+json; the connection ends with it."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        found = shown(message or type(exc).__name__)
        self.refusals.tell(found)
        problem = Problem("invalid", "this is no HTTP request", wanted="HTTP/1.1 as in docs/api.md", found=found)
        answer = respond(400, problem.body)
        answer.force_close()
        return answer


def shown(message: str) -> str:
    """What the parser found, in one line of printable ASCII."""
    line = " ".join(message.split())
    return line[:SHOWN].encode("ascii", "backslashreplace").decode() + ("…" if len(line) > SHOWN else "")


class Server(web.Server):
    """Makes a `Protocol` for each connection."""

    refusals: Refusals

    def __call__(self) -> web.RequestHandler:
        made = Protocol(self, loop=self._loop, **self._kwargs)
        made.refusals = self.refusals
        return made


class Runner(web.AppRunner):
    """aiohttp's runner of an application, whose connections speak `Protocol`."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = Server
        assert isinstance(server, Server)
        server.refusals = Refusals()
        return server
