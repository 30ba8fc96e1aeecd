"""A connection to systemd over the system bus: calls, properties, and the ends of jobs. The only importer of dbus-fast.

Lives in one event loop (see loop_thread.py). Sources: D-Bus specification 0.43; org.freedesktop.systemd1(5), the same
in systemd 252 and 257.
"""

import asyncio
import contextlib
from collections import OrderedDict
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError

from sleepd.core.units import Seconds

SYSTEMD = "org.freedesktop.systemd1"
MANAGER = f"{SYSTEMD}.Manager"
_ROOT = "/org/freedesktop/systemd1"
_DBUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_JOB_REMOVED = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved',path='{_ROOT}'"
_OWNER_CHANGED = (
    f"type='signal',sender='{_DBUS[0]}',interface='{_DBUS[2]}',member='NameOwnerChanged',path='{_DBUS[1]}',"
    f"arg0='{SYSTEMD}'"
)
CALL_S = 25.0
"""sd-bus gives a method call 25 s; polkit is asked within it."""
_LEFT = frozenset({"org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected"})
JOBS_KEPT = 256
"""Ends of jobs that are remembered for whoever asks a moment later: a signal may outrun the reply that names it."""


class BusError(Exception):
    """A call was answered with an error: `name` as D-Bus names it."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class BusGone(Exception):
    """There is no bus, nobody answers on it, or the connection broke; the text says which."""


class BusBroke(BusGone):
    """The call was sent, and its answer never came: whether it was taken is not known."""


class SystemdBus:
    """One connection, made when it is needed and made anew when it broke."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._ended: OrderedDict[str, str] = OrderedDict()
        self._awaited: dict[str, asyncio.Future[str]] = {}
        self._owner: str | None = None
        """The unique name that owns systemd's, empty while nobody does; None before it was told."""

    async def call(self, member: str, signature: str = "", body: list[Any] | None = None) -> list[Any]:
        """Return what the manager's method answered. Raises BusError, BusGone; BusBroke where it was sent."""
        return await self._ask(_ROOT, MANAGER, member, signature, body or [])

    async def get(self, path: str, interface: str, name: str) -> Any:
        """Return a property of a unit. Raises BusError, BusGone."""
        found = await self._ask(path, "org.freedesktop.DBus.Properties", "Get", "ss", [interface, name])
        value = found[0] if found else None
        return value.value if isinstance(value, Variant) else value

    async def job_end(self, path: str, timeout_s: Seconds) -> str | None:
        """Return the result of a job that was begun on this connection; None where it did not end in time. Raises
        BusGone where the connection broke: whoever waits has to look for itself."""
        if path in self._ended:
            return self._ended.pop(path)
        future = self._awaited.setdefault(path, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            return None
        finally:
            self._awaited.pop(path, None)

    def close(self) -> None:
        self._drop("closed")

    async def _ask(self, path: str, interface: str, member: str, signature: str, body: list[Any]) -> list[Any]:
        bus = await self._connected()
        message = Message(
            destination=SYSTEMD, path=path, interface=interface, member=member, signature=signature, body=body
        )
        return await self._send(bus, message)

    async def _send(self, bus: MessageBus, message: Message) -> list[Any]:
        try:
            async with asyncio.timeout(CALL_S):
                reply = await bus.call(message)
        except TimeoutError:
            raise BusBroke(f"systemd did not answer {message.member} within {CALL_S:.0f} s") from None
        except (OSError, EOFError) as error:
            self._drop(str(error))
            raise BusBroke(f"the connection to the bus broke: {error}") from error
        if reply is None:
            raise BusBroke("the connection to the bus broke")
        if reply.message_type is MessageType.ERROR:
            if reply.error_name in _LEFT:
                raise BusBroke(f"systemd left the bus before it answered {message.member}")
            raise BusError(reply.error_name or "", str(reply.body[0]) if reply.body else "")
        return list(reply.body)

    async def _connected(self) -> MessageBus:
        async with self._connecting:
            if self._bus is not None and self._bus.connected:
                return self._bus
            self._drop("the connection to the bus broke")
            self._bus = await self._connect()
            return self._bus

    async def _connect(self) -> MessageBus:
        try:
            bus = MessageBus(bus_address=self._address, bus_type=BusType.SYSTEM, auth_timeout=CALL_S)
            async with asyncio.timeout(CALL_S):
                await bus.connect()
        except (OSError, EOFError, AuthError, InvalidAddressError, TimeoutError) as error:
            raise BusGone(f"no system bus: {error or type(error).__name__}") from error
        self._owner = None
        bus.add_message_handler(self._take_signal)
        try:
            await self._send(bus, _to_bus("AddMatch", _OWNER_CHANGED))
            await self._send(bus, _to_bus("AddMatch", _JOB_REMOVED))
            # Without a subscriber systemd sends no signals; a second one changes nothing.
            subscribe = Message(destination=SYSTEMD, path=_ROOT, interface=MANAGER, member="Subscribe")
            await self._send(bus, subscribe)
            (owner,) = await self._send(bus, _to_bus("GetNameOwner", SYSTEMD))
            if self._owner is None:  # else a change of it, which is newer than this answer, was told meanwhile
                self._owner = str(owner)
        except BusError as error:
            bus.disconnect()
            raise BusGone(f"no systemd on the bus: {error}") from error
        except BusGone as error:
            bus.disconnect()
            raise BusGone(str(error)) from error
        except asyncio.CancelledError:
            # Whoever asked waits no longer: a connection that nobody knows would be held for ever.
            bus.disconnect()
            raise
        return bus

    def _take_signal(self, message: Message) -> None:
        """Take in the end of a job, and who owns systemd's name.

        Match rules keep nobody from sending us a signal by our own name: the sender, which the bus fills in, decides.
        """
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.member == "NameOwnerChanged" and message.sender == _DBUS[0] and len(message.body) == 3:
            if message.body[0] == SYSTEMD:
                self._owner = str(message.body[2])
            return
        if message.member != "JobRemoved" or message.interface != MANAGER or len(message.body) != 4:
            return
        if not self._owner or message.sender != self._owner:
            return
        path, result = str(message.body[1]), str(message.body[3])
        future = self._awaited.get(path)
        if future is not None and not future.done():
            future.set_result(result)
            return
        self._ended[path] = result
        while len(self._ended) > JOBS_KEPT:
            self._ended.popitem(last=False)

    def _drop(self, why: str) -> None:
        """Leave the connection; who waits for a job is told."""
        bus, self._bus = self._bus, None
        if bus is not None:
            with contextlib.suppress(Exception):
                bus.disconnect()
        for future in self._awaited.values():
            if not future.done():
                future.set_exception(BusGone(why))
                future.exception()


def _to_bus(member: str, text: str) -> Message:
    """A question to the bus itself."""
    name, path, interface = _DBUS
    return Message(destination=name, path=path, interface=interface, member=member, signature="s", body=[text])
