"""Who is at the other end of the socket, and what they may do: peer credentials to roles."""

import ctypes
import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

_SO_PEERGROUPS = 59
"""include/uapi/asm-generic/socket.h, Linux 4.13 and later; the socket module has no name for it."""
_UCRED = struct.Struct("iII")
_GROUPS_LIMIT = 65_536
"""NGROUPS_MAX: no process has more supplementary groups."""
_PYTHON_LIMIT_BYTES = 1024
"""The largest answer that socket.getsockopt can take (CPython, Modules/socketmodule.c): 256 groups."""


class Role(IntEnum):
    """Each role includes the ones below it."""

    ANYONE = 0
    VIEWER = 1
    CALLER = 2
    OPERATOR = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """A connected process as the kernel saw it when it connected: SO_PEERCRED and SO_PEERGROUPS, unix(7)."""

    uid: int
    gids: frozenset[int]

    @property
    def name(self) -> str:
        """The user's name and number, such as "alice (uid 1000)"."""
        try:
            return f"{pwd.getpwuid(self.uid).pw_name} (uid {self.uid})"
        except KeyError:
            return f"uid {self.uid}"


def read_peer(connected: socket.socket) -> Peer:
    """Return who is at the other end of a connected unix socket. Raises OSError where the kernel does not say."""
    _, uid, gid = _UCRED.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(uid, frozenset({gid, *_read_groups(connected)}))


def current_groups(uid: int) -> frozenset[int]:
    """Return the groups that the user database gives a user by now; none for a user that it does not know."""
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OSError):
        return frozenset()


def _read_groups(connected: socket.socket) -> Iterable[int]:
    """Return all supplementary groups of the peer; none where the kernel does not tell (before Linux 4.13)."""
    try:
        raw = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _PYTHON_LIMIT_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            return ()
        raw = _read_many_groups(connected)
    return struct.unpack(f"{len(raw) // 4}I", raw)


def _read_many_groups(connected: socket.socket) -> bytes:
    """Ask the C library: Python's own getsockopt takes no larger buffer."""
    library = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(4 * _GROUPS_LIMIT)
    size = ctypes.c_uint(len(buffer))
    if library.getsockopt(connected.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, buffer, ctypes.byref(size)):
        return b""
    return buffer.raw[: size.value]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a process at the socket, or somebody at a page that such a process let in.

    `way_to` says what to do to get a role; `via` how the caller came, where not by the socket itself.
    """

    peer: Peer
    role: Role
    way_to: Callable[[Role], str]
    via: str = ""

    @property
    def uid(self) -> int:
        return self.peer.uid

    @property
    def name(self) -> str:
        return f"{self.peer.name} {self.via}".rstrip()


class Access:
    """The roles of a configuration, resolved to numbers once: deciding costs no look-up."""

    def __init__(self, roles: Mapping[str, Iterable[str]], *, own_uid: int | None = None) -> None:
        """Resolve names now; a user or group that does not exist matches nobody. `own_uid`: the daemon's user."""
        self._granted = {Role[name.upper()]: _resolve(entries) for name, entries in roles.items()}
        self._written = {Role[name.upper()]: tuple(entries) for name, entries in roles.items()}
        self._own_uid = os.getuid() if own_uid is None else own_uid

    def role_of(self, peer: Peer) -> Role:
        """Return the highest role that any entry gives this peer. The daemon's own user is admin."""
        if peer.uid == self._own_uid:
            return Role.ADMIN
        matching = (role for role, grants in self._granted.items() if grants.match(peer))
        return max(matching, default=Role.ANYONE)

    def caller(self, peer: Peer) -> Caller:
        """Return the peer with the role that it has now."""
        return Caller(peer, self.role_of(peer), self.way_to)

    def way_to(self, role: Role) -> str:
        """Return what somebody must ask for to get the role: "ask to be added to group sleepd"."""
        entries = [entry for wanted in Role if wanted >= role for entry in self._written.get(wanted, ())]
        groups = [entry[1:] for entry in entries if entry.startswith("%")]
        if groups:
            return f"ask to be added to group {groups[0]}"
        return f"ask for an entry under {role.name.lower()} in [api.roles]"


@dataclass(frozen=True, slots=True)
class _Grants:
    everyone: bool
    uids: frozenset[int]
    gids: frozenset[int]

    def match(self, peer: Peer) -> bool:
        return self.everyone or peer.uid in self.uids or not self.gids.isdisjoint(peer.gids)


def _resolve(entries: Iterable[str]) -> _Grants:
    everyone, uids, gids = False, set(), set()
    for entry in entries:
        try:
            if entry == "*":
                everyone = True
            elif entry.startswith("%"):
                group = entry[1:]
                gids.add(int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
            else:
                uids.add(int(entry) if entry.isdecimal() else pwd.getpwnam(entry).pw_uid)
        except KeyError:
            continue
    return _Grants(everyone, frozenset(uids), frozenset(gids))
