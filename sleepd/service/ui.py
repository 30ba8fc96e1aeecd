"""The page in the daemon: on which listeners it is a guest, and where people find it."""

import socket
from collections.abc import Sequence

from sleepd.annex import Annex
from sleepd.api.access import Peer, Role
from sleepd.api.daemon import Daemon, UiToken
from sleepd.config.settings import ServiceSettings
from sleepd.core.units import Seconds
from sleepd.gateway.app import is_local
from sleepd.ui.server import UiServer

SESSIONS = "ui-sessions.json"
"""In `[daemon] state_dir`."""


class UiPart:
    """The page, where there is one. Open after `start`; `close` of what never was does nothing."""

    def __init__(self) -> None:
        self._server: UiServer | None = None
        self._on: frozenset[str] = frozenset()
        self._origins: tuple[str, ...] = ()
        self._addresses: list[str] = []

    async def start(self, daemon: Daemon, service: ServiceSettings) -> None:
        """Be ready to be a guest, where that is wanted."""
        self._on, self._origins = service.ui.on, service.ui.origins
        if self._on:
            self._server = UiServer(
                daemon,
                roles=service.roles,
                origins=service.ui.origins,
                session_s=service.ui.session_s,
                sessions_path=service.state_dir / SESSIONS,
            )
            await self._server.start()

    def annex(self, section: str, sockets: Sequence[socket.socket]) -> Annex | None:
        """Return the guest for these sockets of a section; None where it is not wanted there."""
        if self._server is None or section not in self._on:
            return None
        self._addresses += [_address(each) for each in sockets if each.family != socket.AF_UNIX and is_local(each)]
        return self._server

    def let_in(self, peer: Peer, role: Role, ttl_s: Seconds) -> UiToken | None:
        """Return a token; None where there is no page."""
        if self._server is None:
            return None
        pages = [f"{origin}/ui" for origin in (*self._origins, *self._addresses)]
        return self._server.logins.invite(peer, role, ttl_s, pages)

    def take(self, service: ServiceSettings) -> None:
        """Go by these settings from now on; whether there is a page, and where, is settled at the start."""
        self._origins = service.ui.origins
        if self._server is not None:
            self._server.take_settings(service.roles, service.ui.origins, service.ui.session_s)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()


def _address(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
