"""Where the daemon listens: opened together, granted anew at a reload, closed together."""

import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from sleepd.api.access import Peer, Role
from sleepd.api.daemon import Daemon as ApiDaemon
from sleepd.api.daemon import NotAwake, UiToken
from sleepd.api.server import ApiServer, start_api
from sleepd.api.sockets import SocketTaken
from sleepd.config.settings import ServiceSettings
from sleepd.core.units import Seconds
from sleepd.gateway.daemon import Daemon as GatewayDaemon
from sleepd.ports import Succession, Successor
from sleepd.service.gateway import PASSED_NAME, GatewayPart
from sleepd.service.metrics import MetricsPart
from sleepd.service.ui import UiPart

API_NAME = "api"
"""FileDescriptorName= of the sockets that the service manager passes for the API."""


class Daemon(ApiDaemon, GatewayDaemon, Protocol):
    """What all listeners together need of the daemon."""


class Listeners:
    """The socket API, the gateway, pages for Prometheus and for people.

    Open after `start`; `close` of what never was does nothing.
    """

    def __init__(self, metrics: MetricsPart) -> None:
        self._api: ApiServer | None = None
        self._metrics = metrics
        self._gateway, self._ui = GatewayPart(), UiPart()

    async def start(
        self,
        daemon: Daemon,
        service: ServiceSettings,
        passed: Mapping[str, tuple[socket.socket, ...]],
        kept: Mapping[str, tuple[int, ...]],
    ) -> str:
        """Answer on every socket; passed ones take the place of configured ones. Returns what became of connections
        that were `kept`, in words. Raises SocketTaken."""
        check_names(passed)
        self._api = await start_api(
            daemon,
            socket_path=service.socket_path,
            socket_mode=service.socket_mode,
            roles=service.roles,
            passed=passed.get(API_NAME, ()),
        )
        await self._ui.start(daemon, service)
        told = await self._gateway.start(daemon, service.gateway, passed, kept, self._ui)
        await self._metrics.start(service.metrics_listen, service.socket_mode, self._ui)
        return told

    async def hand_over(self, succession: Succession, successor: Successor) -> str:
        """Leave the gateway's connections to the next run of the daemon; returns what became of them, in words."""
        return await self._gateway.hand_over(succession, successor)

    def take(self, service: ServiceSettings) -> None:
        """Go by these settings from now on, as far as they can change while listening."""
        if self._api is not None:
            self._api.grant(service.roles)
        self._ui.take(service)
        self._gateway.take(service.gateway)

    def let_in(self, peer: Peer, role: Role, ttl_s: Seconds) -> UiToken | None:
        """Return a token for the page; None where there is none."""
        return self._ui.let_in(peer, role, ttl_s)

    def queued(self, model: str) -> int:
        """How many requests the gateway holds for the model."""
        return self._gateway.queued(model)

    async def ask_gate(self, model: str, who: str, wait_s: Seconds) -> NotAwake | None:
        return await self._gateway.ask_gate(model, who, wait_s)

    async def leave_passed(self) -> None:
        """Take no more connections from the API's passed sockets: who comes now waits there for the next run."""
        if self._api is not None:
            await self._api.leave_passed()

    def first_ends(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What is to be closed before the engine is: what runs there still finishes."""
        return [("the API's passed sockets", self.leave_passed), ("the gateway", self._gateway.close)]

    def ends(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What is to be closed, in this order, each by its name."""
        api = [("the API", self._api.close)] if self._api is not None else []
        return [("the metrics", self._metrics.close), ("the page", self._ui.close), *api]


def check_names(passed: Mapping[str, object]) -> None:
    """Raises SocketTaken for a passed socket that nobody would answer on."""
    for name in passed:
        if name not in (API_NAME, PASSED_NAME):
            wanted = f'FileDescriptorName="{API_NAME}" or "{PASSED_NAME}" in the .socket unit'
            raise SocketTaken(f"the service manager passed a socket as {name!r}; wanted {wanted}")
