"""The gateway in the daemon: its sockets bound or passed, its keys read, its settings taken anew at a reload."""

import os
import socket
import ssl
from collections.abc import Mapping

from sleepd.adapters.credentials import trust
from sleepd.api.daemon import NotAwake
from sleepd.api.sockets import SocketFiles, SocketTaken
from sleepd.config.secrets import SecretError, read_api_keys, read_key
from sleepd.config.settings import GatewaySettings as Written
from sleepd.core.model import ModelSpec
from sleepd.core.units import Seconds
from sleepd.core.wishes import AT_ONCE_S
from sleepd.gateway.app import Gateway, ListenRefused
from sleepd.gateway.daemon import Daemon
from sleepd.gateway.handover import UnknownState
from sleepd.gateway.lane import Access
from sleepd.gateway.settings import GatewaySettings
from sleepd.ports import Succession, Successor
from sleepd.service.binding import bind, files_of
from sleepd.service.ui import UiPart

_CONNECTIONS, _STATE = "gateway-connection", "gateway-state"
KEPT_NAMES = frozenset((_CONNECTIONS, _STATE))
"""What one run of the daemon lets the service manager keep for the next."""
ENDING_S: Seconds = 8.0
"""What is kept of the time for a stop, for everything that ends after the gateway."""
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
        self,
        daemon: Daemon,
        written: Written,
        passed: Mapping[str, tuple[socket.socket, ...]],
        kept: Mapping[str, tuple[int, ...]],
        ui: UiPart,
    ) -> str:
        """Listen, where that is wanted, with the page as a guest, and take up the connections that were `kept`; return
        what became of them, in words, empty where there were none. Raises SocketTaken."""
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
            told = await self._inherit(self._gateway, kept)
            await self._gateway.start(sockets)
        except (ListenRefused, SecretError) as error:
            for bound in sockets:
                bound.close()
            raise SocketTaken(str(error)) from None
        return told

    async def _inherit(self, gateway: Gateway, kept: Mapping[str, tuple[int, ...]]) -> str:
        connections, states = kept.get(_CONNECTIONS, ()), kept.get(_STATE, ())
        if not states:
            for descriptor in connections:
                os.close(descriptor)
            return ""
        state, *_ = states
        try:
            taken = await gateway.inherit(connections, state)
        except UnknownState as error:
            return f"{len(connections)} connections were given up: {error}"
        finally:
            for descriptor in states:
                os.close(descriptor)
        return f"connections taken over from the last run: {taken}" if taken else ""

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
        return NotAwake(_KINDS.get(refusal.code, refusal.code), refusal.message, refusal.retry_after_s or AT_ONCE_S)

    def queued(self, model: str) -> int:
        return self._gateway.queued(model) if self._gateway is not None else 0

    async def hand_over(self, succession: Succession, successor: Successor) -> str:
        """Let what runs finish, leave all else to the next run, and return what became of it, in words; empty where
        there was nothing."""
        if self._gateway is None or succession.kept_limit < 2:
            return "nothing could be left to the next run: see FileDescriptorStoreMax= in docs/systemd.md"
        limit_s = max(1.0, succession.stop_s - ENDING_S)
        connections, state, waiting = await self._gateway.hand_over(limit_s, succession.kept_limit - 1)
        try:
            kept = await successor.keep(_CONNECTIONS, connections) and await successor.keep(_STATE, [state])
        finally:
            for descriptor in (*connections, state):
                os.close(descriptor)
        if not connections:
            return ""
        told = f"connections left to the next run: {len(connections)}, requests that wait on them: {waiting}"
        return told if kept else f"{told}; whether the service manager keeps them is not known"

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
    """Return what the model's server wants to see, and whom it must be signed by. A key that cannot be read any more is
    left out: the server then refuses in its own words; authorities that cannot, and nobody is trusted. That they can be
    read is checked with the configuration."""
    credentials = b""
    tls: ssl.SSLContext | None = None
    if spec.api_key_file:
        try:
            credentials = b"authorization: Bearer " + read_key(spec.api_key_file).encode() + b"\r\n"
        except SecretError:
            credentials = b""
    if spec.url.startswith("https://"):
        try:
            tls = trust(spec.ca_file)
        except OSError:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return Access(credentials, tls)
