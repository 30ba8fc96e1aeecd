"""What all connections share: where a request goes, what it may cost, and what becomes of it when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from sleepd.annex import Annex
from sleepd.core.model import ModelSpec
from sleepd.core.units import Bytes
from sleepd.gateway.daemon import Daemon
from sleepd.gateway.directory import Directory
from sleepd.gateway.errors import Refusal
from sleepd.gateway.exchange import Exchange
from sleepd.gateway.forms import FormScanner
from sleepd.gateway.head import Fields, take_head
from sleepd.gateway.ids import ResponseIds
from sleepd.gateway.lane import Access, Lane
from sleepd.gateway.pages import answer_page
from sleepd.gateway.peek import Scanner, Wanted, read_json
from sleepd.gateway.routes import Body, Page, Route, find_route
from sleepd.gateway.settings import (
    BODY_LIMIT,
    BUFFERED_LIMIT,
    CONNECTIONS_LIMIT,
    HELD_BODY_LIMIT,
    LINGER_S,
    SMALL_BODY,
    GatewaySettings,
)

if TYPE_CHECKING:
    from sleepd.gateway.client import ClientConnection
    from sleepd.gateway.door import Door
    from sleepd.gateway.queue import Waiting

STOPPING = "sleepd is being stopped"


class Front:
    """The gateway without its listeners."""

    def __init__(
        self,
        daemon: Daemon,
        settings: GatewaySettings,
        access_of: Callable[[ModelSpec], Access],
        annex: Annex | None = None,
    ) -> None:
        self.daemon, self.settings, self.annex = daemon, settings, annex
        self.time = asyncio.get_running_loop().time
        self.connections: set[ClientConnection] = set()
        self.directory = Directory(self, access_of)
        self.ids = ResponseIds(self.time)
        self.buffered_bytes: Bytes = 0
        self.closing = False
        self.handing_over = False
        """Nothing new begins: it is left to the next process."""
        self.settled = asyncio.Event()
        """While closing: no request is being answered any more."""
        daemon.when_opened(self._opened)

    def _opened(self, model: str) -> None:
        lane = self.directory.lanes.get(model)
        if lane is not None:
            lane.queue.opened()

    # connections

    def arrived(self, client: ClientConnection) -> None:
        self.connections.add(client)
        if len(self.connections) > CONNECTIONS_LIMIT:
            client.transport.abort()

    def left(self, client: ClientConnection) -> None:
        self.connections.discard(client)
        if self.closing:
            self.settle()

    def settle(self) -> None:
        if all(client.now is None for client in self.connections):
            self.settled.set()

    def linger(self, client: ClientConnection) -> None:
        """End a connection so that its client still gets what was written, whatever it is still sending."""
        if self.closing:
            self.settle()
        transport = client.transport
        if transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, transport.close)

    # requests

    def admit(self, x: Exchange, fields: Fields, version: str, door: Door) -> None:
        """Judge a request by its head alone: its `refusal` says what is wrong with it, if anything."""
        try:
            if x.old and version != "1.0":
                raise Refusal(505, "bad_version", "wanted HTTP/1.1 or 1.0", closes=True)
            host = take_head(x, fields)
            x.route, x.name = find_route(x.target)
            door.admit(x, host)
            self._check(x, x.route)
        except Refusal as refusal:
            x.refusal = refusal

    def _check(self, x: Exchange, route: Route) -> None:
        if x.method not in route.methods:
            allowed = b", ".join(route.methods)
            message = f"wanted {allowed.decode()}, found {x.method.decode()}"
            raise Refusal(405, "method_not_allowed", message, fields=b"allow: " + allowed + b"\r\n")
        if self.closing:
            raise Refusal(503, "stopping", STOPPING, retry_after_s=5)
        if x.length > BODY_LIMIT:
            raise Refusal(413, "body_too_large", f"wanted a body of at most {BODY_LIMIT} bytes", closes=True)
        if route.body is Body.NONE and x.length:
            raise Refusal(400, "invalid_body", "wanted no body here", closes=True)

    def look_at_large(self, x: Exchange, piece: bytes) -> bool:
        """Take the next piece of a large body; True where it is known by now for which model. Raises Refusal."""
        if x.size > BODY_LIMIT or (x.upstream is None and x.size > HELD_BODY_LIMIT):
            limit = min(BODY_LIMIT, HELD_BODY_LIMIT)
            message = f"wanted a body of at most {limit} bytes before its model is known and awake"
            raise Refusal(413, "body_too_large", message, closes=True)
        self.count_bytes(x)
        if x.route is None or x.route.body is Body.NONE or x.upstream is not None:
            return False
        if x.scan is None:
            x.scan = FormScanner(x.content_type) if x.route.body is Body.MULTIPART else Scanner()
            for part in x.parts:
                x.scan.feed(part)
        else:
            x.scan.feed(piece)
        if x.lane is not None:
            x.stream = x.scan.found.stream is True and x.route.streams
            return False
        return x.scan.found.model is not None and not self.handing_over

    def dispatch(self, x: Exchange) -> None:
        """Send the request where it belongs, or hold it. Raises Refusal."""
        route = x.route
        assert route is not None
        if self.closing:
            raise Refusal(503, "stopping", STOPPING, retry_after_s=5)
        if route.page is Page.GATE:
            self._lane_of_gate(x).take(x)
        elif route.page is not None:
            answer_page(self, x)
        elif route.body is Body.NONE:
            self._lane_of_id(x).take(x)
        else:
            self._lane_of_body(x).take(x)

    def _lane_of_body(self, x: Exchange) -> Lane:
        if x.scan is None and x.route is not None and x.route.body is Body.JSON:
            found = read_json(x.parts[0] if len(x.parts) == 1 else b"".join(x.parts))
        else:
            found = self._look_into_form(x)
        model = found.model
        if model is None and x.learns and isinstance(found.previous_response_id, str):
            model = self.ids.model_of(found.previous_response_id)
        if model is None:
            raise Refusal(400, "model_missing", "wanted a model in the body, found none", param="model")
        if not isinstance(model, str):
            raise Refusal(400, "invalid_body", "wanted model to be a string", param="model")
        x.stream = found.stream is True and x.route is not None and x.route.streams
        return self.directory.find(model)

    def _look_into_form(self, x: Exchange) -> Wanted:
        """Return what a form says, or what was found of a large body so far."""
        if x.scan is None:
            x.scan = FormScanner(x.content_type)
            x.scan.feed(b"".join(x.parts))
        return x.scan.found

    def _lane_of_id(self, x: Exchange) -> Lane:
        model = self.ids.model_of(x.name)
        if model is None:
            message = f"there is no response {x.name} here, or it is older than an hour"
            raise Refusal(404, "response_not_found", message, param="response_id")
        return self.directory.find(model)

    def _lane_of_gate(self, x: Exchange) -> Lane:
        """Only a configured name counts at the gate, as in the rest of the configuration that asks there."""
        lane = self.directory.find(x.name)
        if lane.name != x.name:
            raise Refusal(404, "model_not_found", f"no model is configured as {x.name}", param="model")
        return lane

    def tell_end(self, x: Exchange, outcome: str) -> None:
        """Say what became of a request, once."""
        if not x.told:
            x.told = True
            self.daemon.answered(x.lane.name if x.lane is not None else "", outcome)

    def abandon(self, x: Exchange) -> None:
        """The client has left: nothing is done for its request any more."""
        x.gone = True
        upstream, x.upstream = x.upstream, None
        if upstream is not None:
            upstream.abort()
        if x.lane is not None:
            x.lane.queue.leave(x)
        self.forget_bytes(x)
        x.leave_gate()

    # memory

    def count_bytes(self, x: Waiting, *, already: bool = False) -> None:
        """Count what is kept of the body. Raises Refusal where all bodies together are too much, unless it is kept
        `already`."""
        if x.upstream is not None:
            return
        self.buffered_bytes += x.size - x.counted
        x.counted = x.size
        if not already and self.buffered_bytes > BUFFERED_LIMIT and x.size > SMALL_BODY:
            message = f"requests that wait take {BUFFERED_LIMIT} bytes already"
            raise Refusal(503, "too_much_held", message, retry_after_s=10)

    def forget_bytes(self, x: Waiting) -> None:
        self.buffered_bytes -= x.counted
        x.counted = 0
