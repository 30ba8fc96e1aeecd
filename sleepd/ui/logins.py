"""Logging in and out: a token becomes a cookie, a cookie says who asks and with which role."""

import asyncio
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from sleepd.api.access import Access, Caller, Peer, Role, current_groups
from sleepd.api.daemon import UiToken
from sleepd.api.fields import Text, read_fields
from sleepd.api.handling import Next
from sleepd.api.problems import Problem, respond
from sleepd.core.units import Seconds
from sleepd.ui.attempts import Attempts
from sleepd.ui.origins import check_origin
from sleepd.ui.routes import CONTROL
from sleepd.ui.session_file import read_sessions, write_sessions
from sleepd.ui.sessions import Session, Sessions
from sleepd.wire import format_time

_log = logging.getLogger("sleepd.ui")

PATH = f"{CONTROL}/v1"
"""Cookies go to these paths only: other servers of 127.0.0.1, to which cookies go as well, hardly have one."""
SESSION = f"{PATH}/session"
SECURE = "__Secure-sleepd"
_TOKEN = Text("token", None, "of sleepctl ui-token", most=200)
AT_ONCE_LIMIT = 32
"""Requests of one session that are under way; a browser itself sends six at once, however many of its tabs show the
page."""
HINT = "sleepctl ui-token on that host makes a new token"
CLOSE_TABS = "close pages that nobody looks at"


class Logins:
    """Sessions, by cookie. `access` judges what their users may do by now; `origins` are [ui] origins."""

    def __init__(self, access: Access, origins: frozenset[str], session_s: Seconds, path: Path) -> None:
        self.access, self.origins, self.session_s, self._path = access, origins, session_s, path
        self._sessions, self._attempts = Sessions(), Attempts()
        self._open: dict[str, set[asyncio.Task[object]]] = {}
        self._writing = asyncio.Lock()

    async def restore(self) -> None:
        """Know again who was logged in when the last daemon ended."""
        self._sessions = Sessions(await asyncio.to_thread(read_sessions, self._path))
        self.look_up_groups()

    def look_up_groups(self) -> bool:
        """Nobody has a group any more that the user database does not give its user. Returns whether that took a role
        from anybody."""
        lost = self._sessions.change_peers(lambda peer: Peer(peer.uid, peer.gids & current_groups(peer.uid)))
        return any(self.access.role_of(was) != self.access.role_of(now) for was, now in lost.items())

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get(SESSION, self._show)
        app.router.add_post(SESSION, self._log_in)
        app.router.add_delete(SESSION, self._log_out)

    def invite(self, peer: Peer, role: Role, ttl_s: Seconds, pages: Iterable[str]) -> UiToken:
        """Return a token for the peer; its role is no more than what the peer has."""
        token, made = self._sessions.invite(peer, min(role, self.access.role_of(peer)), ttl_s, time.time())
        return UiToken(token, made.role, made.until_wall_s, tuple(pages))

    def caller_of(self, request: web.Request) -> Caller:
        """Return who asks. Raises Problem (401) without a session."""
        return self._caller(self._session_of(request))

    def watched(self, handler: Next) -> Next:
        """Return the handler, which ends when its session does, and serves each session AT_ONCE_LIMIT times at once."""

        async def handle(request: web.Request) -> web.StreamResponse:
            session, task = self._session_of(request), asyncio.current_task()
            assert task is not None
            tasks = self._open.setdefault(session.key, set())
            if len(tasks) >= AT_ONCE_LIMIT:
                detail = "too much is asked for in this session at once"
                wanted, found = f"at most {AT_ONCE_LIMIT} requests under way", f"{len(tasks)}"
                raise Problem("not_permitted", detail, wanted=wanted, found=found, hint=CLOSE_TABS, status=429)
            tasks.add(task)
            try:
                async with asyncio.timeout(session.until_wall_s - time.time()):
                    return await handler(request)
            except TimeoutError:
                raise ConnectionResetError("the session is over") from None
            finally:
                tasks.discard(task)
                if not tasks:
                    self._open.pop(session.key, None)

        return handle

    def _session_of(self, request: web.Request) -> Session:
        secret = request.cookies.get(SECURE) or request.cookies.get(_plain_name(request.host))
        session = self._sessions.find(secret, time.time()) if secret else None
        if session is None:
            detail = "the session is over" if secret else "nobody is logged in here"
            raise Problem("not_permitted", detail, wanted="a session", hint=HINT, status=401)
        return session

    def _caller(self, session: Session) -> Caller:
        role = min(session.role, self.access.role_of(session.peer))
        return Caller(session.peer, role, lambda role: _way_to(self.access, session.peer, role), "on the page")

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return respond(200, self._body(self._session_of(request)))

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        address = request.remote or "unix"
        wait_s = self._attempts.wait_s(address, time.monotonic())
        if wait_s:
            headers = {"Retry-After": f"{max(1.0, wait_s):.0f}"}
            detail = "too many tokens were wrong"
            hint = f"try again in {max(1.0, wait_s):.0f}s"
            raise Problem("not_permitted", detail, hint=hint, status=429, headers=headers)
        token = read_fields(await request.read(), (_TOKEN,))["token"]
        entered = self._sessions.enter(token, self.session_s, time.time())
        if entered is None:
            self._attempts.failed(address, time.monotonic())
            detail = "this token is not good: it was used, it is too old, or it never was one"
            raise Problem("not_permitted", detail, wanted="a token", hint=HINT, status=401)
        secret, session = entered
        await self._keep()
        secure = check_origin(request.headers, request.host, self.origins).startswith("https:")
        response = respond(200, self._body(session))
        response.set_cookie(
            *(SECURE if secure else _plain_name(request.host), secret),
            max_age=int(self.session_s),
            path=PATH,
            secure=secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        session = self._session_of(request)
        self._sessions.end(session)
        for task in self._open.pop(session.key, ()):
            task.cancel()
        await self._keep()
        response = respond(200, {"ended": True})
        for name in (SECURE, _plain_name(request.host)):
            response.del_cookie(name, path=PATH, secure=name == SECURE, httponly=True, samesite="Strict")
        return response

    def _body(self, session: Session) -> dict[str, str]:
        caller = self._caller(session)
        return {"who": session.peer.name, "role": caller.role.name.lower(), "until": format_time(session.until_wall_s)}

    async def _keep(self) -> None:
        """Put the sessions on record; where that fails they end with this daemon, which is told."""
        async with self._writing:
            try:
                await asyncio.to_thread(write_sessions, self._path, self._sessions.all(time.time()))
            except OSError as error:
                _log.warning("sessions of the page end with this daemon: %s: %s", self._path, error.strerror or error)


def _plain_name(host: str) -> str:
    """Cookies do not know ports: two daemons of one host would take each other's."""
    port = host.rpartition(":")[2]
    return f"sleepd-{port}" if port.isascii() and port.isdigit() else "sleepd"


def _way_to(access: Access, peer: Peer, role: Role) -> str:
    if access.role_of(peer) >= role:
        return f"log in with a token of it: sleepctl ui-token --role {role.name.lower()}"
    return access.way_to(role)
