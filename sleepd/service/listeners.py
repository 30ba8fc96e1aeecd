"""Where the daemon listens: opened together, granted anew at a reload, closed together."""

from collections.abc import Awaitable, Callable

from sleepd.api.daemon import Daemon
from sleepd.api.server import ApiServer, start_api
from sleepd.config.settings import ServiceSettings


class Listeners:
    """The socket API. Open after `start`; `close` of what was never opened does nothing."""

    def __init__(self) -> None:
        self._api: ApiServer | None = None

    async def start(self, daemon: Daemon, service: ServiceSettings) -> None:
        """Answer on the socket. Raises SocketTaken."""
        self._api = await start_api(
            daemon, socket_path=service.socket_path, socket_mode=service.socket_mode, roles=service.roles
        )

    def take(self, service: ServiceSettings) -> None:
        """Go by these settings from now on, as far as they can change while listening."""
        if self._api is not None:
            self._api.grant(service.roles)

    def ends(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """What is to be closed, in this order, each by its name."""
        return [("the API", self._api.close)] if self._api is not None else []
