"""Connections left to the next run of the daemon: what was asked on them and not begun, as bytes, and taken up again.

A connection moves while nothing on it is being answered: its descriptor is kept by the service manager, and with it the
requests that were read whole and wait for their model, or came while the daemon was leaving. What else its client sends
waits in the kernel. Moments are CLOCK_MONOTONIC's, which both processes share.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import msgspec

from sleepd.gateway.exchange import Exchange
from sleepd.gateway.ids import KeptId
from sleepd.gateway.routes import find_route

if TYPE_CHECKING:
    from sleepd.gateway.client import ClientConnection
    from sleepd.gateway.front import Front

T = TypeVar("T")
FORMAT = b"sleepd handover 2\n"
"""Begins the state; another one is of a release that keeps its state otherwise."""
_LENGTH_BYTES = 8


def is_at_rest(client: ClientConnection) -> bool:
    """Whether nothing on it is being answered, nor half read."""
    return not client.is_midway and all(x.is_untouched for x in requests_on(client))


def is_answered(client: ClientConnection) -> bool:
    """Whether a server works on what was asked, or its answer has not come whole yet."""
    return client.now is not None and (client.now.inside or client.now.upstream is not None)


def is_unread(client: ClientConnection) -> bool:
    """Whether its client has not taken all that was written: the rest is in this process, and would end with it."""
    return client.transport.get_write_buffer_size() > 0


def requests_on(client: ClientConnection) -> list[Exchange]:
    """Return what was asked on it, the first in line first."""
    return [x for x in (client.now, *client.line) if x is not None]


def give_away(client: ClientConnection, front: Front) -> tuple[int, list[Exchange]] | None:
    """Leave the connection, as it is, to another process: return a descriptor of it, and what waits on it. None where
    it cannot move: it is not at rest, ends, or its client has not taken all that was written."""
    transport = client.transport
    if client.deaf or not is_at_rest(client) or transport.is_closing() or is_unread(client):
        return None
    waiting = requests_on(client)
    descriptor = os.dup(transport.get_extra_info("socket").fileno())
    for x in waiting:
        x.gone = True
        if x.lane is not None:
            x.lane.queue.forget(x, told_to_come_back=True)  # what it was waited for goes on
        front.forget_bytes(x)
    client.now, client.deaf = None, True
    client.line.clear()
    transport.abort()  # our end of it alone: the connection lives as long as one descriptor does
    return descriptor, waiting


class UnknownState(Exception):
    """What was left is of another format."""


class Asked(msgspec.Struct, array_like=True):
    """An exchange that was read whole and not begun; fields as in Exchange."""

    method: bytes
    target: bytes
    old: bool
    keep_alive: bool
    fields: bytes
    credentials: bytes
    cors: bytes
    content_type: bytes
    who: str
    stream: bool
    beaten: bool
    waited_ms: int
    held_at_s: float
    body: bytes


class Moved(msgspec.Struct, array_like=True):
    """One connection, known by the inode of its socket, with what waits on it, the first in line first."""

    inode: int
    requests: list[Asked]

    @property
    def waits_since_s(self) -> float:
        """By this they are taken up again: who was held first, first; then who was not held yet."""
        return self.requests[0].held_at_s or math.inf if self.requests else math.inf


def pack(x: Exchange) -> Asked:
    """Return the exchange as data. Its body is not kept twice."""
    body = x.parts[0] if len(x.parts) == 1 else b"".join(x.parts)
    x.parts = []
    whom = (x.method, x.target, x.old, x.keep_alive, x.fields, x.credentials, x.cors, x.content_type, x.who)
    return Asked(*whom, x.stream, x.beaten, x.waited_ms, x.held_at_s, body)


def unpack(asked: Asked, client: ClientConnection) -> Exchange:
    """Return the exchange as it was, on its connection."""
    x = Exchange(client, asked.method, asked.target, old=asked.old, keep_alive=asked.keep_alive)
    x.route, x.name = find_route(asked.target)
    x.fields, x.credentials, x.cors, x.content_type = asked.fields, asked.credentials, asked.cors, asked.content_type
    x.who, x.stream, x.beaten = asked.who, asked.stream, asked.beaten
    x.waited_ms, x.held_at_s, x.complete = asked.waited_ms, asked.held_at_s, True
    if asked.body:
        x.parts, x.size = [asked.body], len(asked.body)
    return x


def write_state(moved: Iterable[Moved], ids: list[KeptId]) -> int:
    """Return the descriptor of an anonymous file in memory that says it all."""
    descriptor = os.memfd_create("sleepd-handover", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(FORMAT)
        for one in (ids, *moved):
            raw = msgspec.msgpack.encode(one)
            file.write(len(raw).to_bytes(_LENGTH_BYTES))
            file.write(raw)
    return descriptor


def read_ids(descriptor: int) -> list[KeptId]:
    """Return whose responses the last run knew. Raises UnknownState."""
    return next(_read(descriptor, list[KeptId]), [])


def read_state(descriptor: int) -> Iterator[Moved]:
    """Yield the connections that were left, each only as it is wanted. Raises UnknownState."""
    yield from _read(descriptor, Moved, first=1)


def _read(descriptor: int, kind: type[T], first: int = 0) -> Iterator[T]:
    """Yield the parts of the state from that one on; what comes before is of another kind."""
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        if file.readline() != FORMAT:
            raise UnknownState("what the last run left is of another format")
        for number in count():
            head = file.read(_LENGTH_BYTES)
            if not head:
                return
            raw = file.read(int.from_bytes(head))
            try:
                if number >= first:
                    yield msgspec.msgpack.decode(raw, type=kind)
            except msgspec.DecodeError as error:
                raise UnknownState(f"what the last run left cannot be read: {error}") from None


def take_up(client: ClientConnection, left: list[Asked]) -> None:
    """Let a connection begin with what an earlier run left to be answered on it, before it has a transport."""
    client.asked = True
    if left:
        client.now, *rest = [unpack(asked, client) for asked in left]
        client.line.extend(rest)


def by_inode(descriptors: Iterable[int]) -> dict[int, socket.socket]:
    """Return the sockets of these descriptors, which they own, by the inode that `Moved` knows them by."""
    found: dict[int, socket.socket] = {}
    for descriptor in descriptors:
        kept = socket.socket(fileno=descriptor)
        kept.setblocking(False)
        found[os.fstat(descriptor).st_ino] = kept
    return found
