"""The gateway as one part of the daemon: it listens, takes new settings, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import resource
import socket
from collections.abc import Callable, Sequence
from functools import partial

from sleepd.annex import Annex
from sleepd.core.model import ModelSpec
from sleepd.core.units import Seconds
from sleepd.gateway.annexed import AnnexedConnection
from sleepd.gateway.client import ClientConnection
from sleepd.gateway.daemon import Daemon
from sleepd.gateway.door import Door
from sleepd.gateway.errors import Refusal
from sleepd.gateway.front import STOPPING, Front
from sleepd.gateway.handover import (
    Moved,
    by_inode,
    give_away,
    is_answered,
    is_at_rest,
    is_unread,
    pack,
    read_ids,
    read_state,
    take_up,
    write_state,
)
from sleepd.gateway.keys import Keys
from sleepd.gateway.knock import Knock
from sleepd.gateway.lane import Access
from sleepd.gateway.pace import sweep
from sleepd.gateway.settings import CONNECTIONS_LIMIT, STOP_S, UNSENT_S, GatewaySettings

SWEEP_S = 1.0
BACKLOG = 1024
ROUNDS = 5
LOOK_S = 0.02
"""How soon it is noticed that nothing runs any more."""
NEWCOMER_LOOKS = 100
NEWCOMER_LOOK_S = 0.01
"""How long a connection that was just taken may need for its first request, when its door is left: a second in all."""


class ListenRefused(Exception):
    """The gateway must not listen there; the message says what was wanted, what was found and what to do."""


class Gateway:
    """One address for all models. Listens after `start`, is over after `close`."""

    def __init__(
        self,
        daemon: Daemon,
        settings: GatewaySettings,
        access_of: Callable[[ModelSpec], Access],
        *,
        passed: bool = False,
        annex: Annex | None = None,
    ) -> None:
        """`passed`: its sockets are the service manager's, who keeps them open when this process ends."""
        self._passed = passed
        self._front = Front(daemon, settings, access_of, annex)
        self._doors = {by_name: Door(None, (), by_name=by_name) for by_name in (False, True)}
        self._servers: list[asyncio.Server] = []
        self._sockets: tuple[socket.socket, ...] = ()
        self._sweeping: asyncio.TimerHandle | None = None
        self._furnish(settings)

    async def inherit(self, descriptors: Sequence[int], state: int) -> int:
        """Take up the connections that an earlier process left, and return how many came through; whose responses it
        knew is known here too. Owns the descriptors of connections from now on. Raises UnknownState, leaving them
        closed. To be called before `start`: who came first is served first."""
        loop, front, kept, taken = asyncio.get_running_loop(), self._front, by_inode(descriptors), 0
        try:
            for id_, model, until_s in read_ids(state):
                front.ids.remember(id_, model, until_s)
            for moved in read_state(state):
                left = kept.pop(moved.inode, None)
                if left is None:
                    continue  # its client hung up meanwhile, and the service manager with it
                door = self._doors[left.family != socket.AF_UNIX]
                taken += 1
                client = _make_connection(front, door)
                take_up(client, moved.requests)
                first = client.now
                await loop.connect_accepted_socket(iter((client,)).__next__, left)
                if first is not None:
                    client.go_on(first)  # not what came meanwhile, of which perhaps a part has come
        finally:
            for left in kept.values():
                left.close()
        return taken

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen on these bound sockets, ours or passed ones, or on none. Raises ListenRefused where one is open to
        other hosts."""
        _refuse_exposed(sockets, self._front.settings)
        self._sockets = tuple(sockets)
        if not sockets:
            return  # who asks at a gate over the socket API keeps nothing here that would have to be looked after
        _raise_descriptor_limit()
        # What was made until now stays: a full collection that looked at it all would halt every stream for 20 ms.
        gc.freeze()
        loop = asyncio.get_running_loop()
        for bound in sockets:
            bound.setblocking(False)
            door = self._doors[bound.family != socket.AF_UNIX]
            self._servers.append(await _serve(loop, bound, self._front, door))
        self._sweep()

    def take(self, settings: GatewaySettings) -> None:
        """Go by these settings from now on; keys of clients and servers are new ones.

        Raises ListenRefused, changing nothing, where no key would be asked for on a socket that others reach.
        """
        self._front.directory.follow()  # whatever becomes of the keys: models may have moved
        _refuse_exposed(self._sockets, settings)
        self._front.settings = settings
        self._furnish(settings)
        self._front.directory.follow(anew=True)

    def queued(self, model: str) -> int:
        """Return how many requests wait for the model."""
        lane = self._front.directory.lanes.get(model)
        return len(lane.queue.held) if lane is not None else 0

    async def ask_gate(self, model: str, who: str, wait_s: Seconds) -> Refusal | None:
        """Return None once the model is awake, and held so for 30 s; else why not, `wait_s` later at most. Cancelled,
        nobody waits any more."""
        front, knock = self._front, Knock(who, wait_s)
        try:
            if front.closing:
                raise Refusal(503, "stopping", STOPPING, retry_after_s=5)
            front.directory.find(model).answer_gate(knock)
            refusal = await knock.answered
        except Refusal as refused:
            refusal = refused
        except asyncio.CancelledError:
            if knock.lane is not None:
                knock.lane.queue.leave(knock)
            front.daemon.answered(model, "client_left")
            raise
        front.daemon.answered(model, refusal.code if refusal is not None else "2xx")
        return refusal

    async def hand_over(self, limit_s: Seconds, most: int) -> tuple[list[int], int, int]:
        """Begin nothing new, let what runs finish and be read within `limit_s`, and return what the next process needs:
        the descriptors of at most `most` connections, one of their state, and how many requests wait on them.

        `close` has to follow, for those that could not move.
        """
        front, begun_s = self._front, self._front.time()
        front.handing_over = True
        await self._close_doors()
        while (spent_s := front.time() - begun_s) < limit_s:
            halves = spent_s < UNSENT_S
            if not any(_keeps_here(c, halves) for c in front.connections):
                break
            await asyncio.sleep(LOOK_S)
        descriptors: list[int] = []
        moved: list[Moved] = []
        for client in list(front.connections):
            given = give_away(client, front) if len(descriptors) < most else None
            if given is not None:
                descriptors.append(given[0])
                moved.append(Moved(os.fstat(given[0]).st_ino, [pack(x) for x in given[1]]))
        moved.sort(key=lambda one: one.waits_since_s)
        return descriptors, write_state(moved, front.ids.kept()), sum(len(one.requests) for one in moved)

    async def close(self) -> None:
        """Refuse what is new and what waits, let what runs finish and be read within STOP_S, and listen no more."""
        front = self._front
        if self._passed and not front.handing_over:
            # Who connects from now on waits in the kernel for the next daemon, and is not refused by this one. Who was
            # let in just now has not been read yet: his request is answered as if nothing were.
            await self._leave_doors()
        front.closing = True
        refusal = Refusal(503, "stopping", STOPPING, retry_after_s=5)
        for lane in front.directory.lanes.values():
            lane.queue.refuse_all(refusal)
        if front.handing_over:
            for client in list(front.connections):
                if client.now is not None and not is_answered(client):
                    client.refuse(client.now, refusal)
        else:
            front.settle()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await front.settled.wait()
                    await self._read_whole()
        await self._close_doors()
        for client in list(front.connections):
            client.transport.close() if client.now is None else client.transport.abort()
        for lane in front.directory.lanes.values():
            lane.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for _ in range(ROUNDS):
            await asyncio.sleep(0)  # ends are told in the next rounds of the loop: client first, then its upstream

    async def _read_whole(self) -> None:
        """Every client has taken what was written for it."""
        while True:
            if not any(is_unread(c) for c in self._front.connections):
                return
            await asyncio.sleep(LOOK_S)

    async def _leave_doors(self) -> None:
        await self._close_doors()
        for _ in range(NEWCOMER_LOOKS):
            if all(client.asked and not client.is_midway for client in self._front.connections):
                return
            await asyncio.sleep(NEWCOMER_LOOK_S)

    async def _close_doors(self) -> None:
        """Take no connection any more. Each that was taken is one of the front's afterwards: the loop tells of it one
        round later."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        await asyncio.sleep(0)

    def _furnish(self, settings: GatewaySettings) -> None:
        keys = Keys(settings.keys) if settings.keys is not None else None
        for door in self._doors.values():
            door.keys = keys
            door.allow(settings.cors_origins)

    def _sweep(self) -> None:
        """Once a second: slow clients, connections that servers are about to drop, ids of an hour ago."""
        for client in list(self._front.connections):
            sweep(client)
        for lane in self._front.directory.lanes.values():
            lane.drop_idle(self._front.time())
        self._front.ids.forget_old()
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)


def _keeps_here(client: ClientConnection, halves: bool) -> bool:
    """Whether the connection is waited for when another process takes over: for an answer that runs or is not read yet,
    and as long as `halves` count, for the rest of a request."""
    return is_unread(client) or (not is_at_rest(client) and (halves or is_answered(client)))


def _make_connection(front: Front, door: Door) -> ClientConnection:
    annex = front.annex
    return ClientConnection(front, door) if annex is None else AnnexedConnection(front, door, annex)


async def _serve(loop: asyncio.AbstractEventLoop, bound: socket.socket, front: Front, door: Door) -> asyncio.Server:
    connect = partial(_make_connection, front, door)
    if bound.family == socket.AF_UNIX:
        return await loop.create_unix_server(connect, sock=bound, backlog=BACKLOG)
    return await loop.create_server(connect, sock=bound, backlog=BACKLOG)


def _refuse_exposed(sockets: Sequence[socket.socket], settings: GatewaySettings) -> None:
    for bound in sockets if settings.keys is None else ():
        if not is_local(bound):
            raise ListenRefused(
                f"wanted a loopback address or a unix socket, found {bound.getsockname()}: without api_keys_file "
                "whoever reaches it may use every model; set [gateway] api_keys_file"
            )


def is_local(bound: socket.socket) -> bool:
    """Whether only this host's programs reach the socket, by its real address."""
    if bound.family == socket.AF_UNIX:
        return True
    if bound.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return ipaddress.ip_address(bound.getsockname()[0].partition("%")[0]).is_loopback


def _raise_descriptor_limit() -> None:
    """Allow as many open files as a full house takes: the soft limit is 1024 nearly everywhere."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS_LIMIT + 1024
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
