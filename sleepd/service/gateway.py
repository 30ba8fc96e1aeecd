"""The gateway in the daemon: its sockets bound or passed, its keys read, its settings taken anew at a reload."""

import socket
import ssl
from collections.abc import Mapping

from sleepd.api.daemon import NotAwake
from sleepd.api.sockets import SocketFiles, SocketTaken
from sleepd.config.secrets import SecretError, read_api_keys, read_key
from sleepd.config.settings import GatewaySettings as Written
from sleepd.core.model import ModelSpec
from sleepd.core.units import Seconds
from sleepd.gateway.app import Gateway, ListenRefused
from sleepd.gateway.daemon import Daemon
from sleepd.gateway.lane import Access
from sleepd.gateway.settings import GatewaySettings
from sleepd.service.binding import bind, files_of
from sleepd.service.ui import UiPart

PASSED_NAME = "gateway"
"""FileDescriptorName= of sockets that the service manager passes for it."""


_KINDS = {"queue_full": "busy", "stopping": "failed", "not_ready": "failed", "model_not_found": "unknown_model"}
"""Kinds of the socket API for what the gateway calls otherwise."""


class GatewayPart:
    """The gateway. Without a socket to listen on it still lets wait who asks at a gate over the socket API."""

    def __init__(self) -> None:
        self._gateway: Gateway | None = None
        self._files = SocketFiles()

    async def start(
        self, daemon: Daemon, written: Written, passed: Mapping[str, tuple[socket.socket, ...]], ui: UiPart
    ) -> None:
        """Listen, where that is wanted, with the page as a guest. Raises SocketTaken."""
        sockets = list(passed.get(PASSED_NAME, ())) or bind(written.listen, written.socket_mode, "[gateway] listen")
        if PASSED_NAME not in passed:
            self._files = files_of(written.listen)
        try:
            self._gateway = Gateway(
                daemon,
                _settings_of(written),
                access_of,
                passed=PASSED_NAME in passed,
                annex=ui.annex("gateway", sockets),
            )
            await self._gateway.start(sockets)
        except (ListenRefused, SecretError) as error:
            for bound in sockets:
                bound.close()
            raise SocketTaken(str(error)) from None

    def take(self, written: Written) -> None:
        """Go by these settings from now on; files of keys are read again. Raises SecretError, keeping the old ones."""
        if self._gateway is not None:
            self._gateway.take(_settings_of(written))

    async def ask_gate(self, model: str, who: str, wait_s: Seconds) -> NotAwake | None:
        """Let who asks over the socket API wait among the requests for the model."""
        assert self._gateway is not None
        refusal = await self._gateway.ask_gate(model, who, wait_s)
        if refusal is None:
            return None
        return NotAwake(_KINDS.get(refusal.code, refusal.code), refusal.message, refusal.retry_after_s or 1.0)

    def queued(self, model: str) -> int:
        return self._gateway.queued(model) if self._gateway is not None else 0

    async def close(self) -> None:
        if self._gateway is not None:
            await self._gateway.close()
        self._files.remove()


def _settings_of(written: Written) -> GatewaySettings:
    keys = read_api_keys(written.api_keys_file)[0] if written.api_keys_file else None
    return GatewaySettings(
        queue=written.queue_limit, keys=keys, cors_origins=written.cors_origins, heartbeat_s=written.heartbeat_s
    )


def access_of(spec: ModelSpec) -> Access:
    """Return what the model's server wants to see. A key or CA that cannot be read any more is left out: the server
    then refuses in its own words. That they can be read is checked with the configuration."""
    credentials = b""
    tls: ssl.SSLContext | None = None
    if spec.api_key_file:
        try:
            credentials = b"authorization: Bearer " + read_key(spec.api_key_file).encode() + b"\r\n"
        except SecretError:
            credentials = b""
    if spec.url.startswith("https://"):
        try:
            tls = ssl.create_default_context(cafile=spec.ca_file or None)
        except OSError:
            tls = ssl.create_default_context()
    return Access(credentials, tls)
