"""Roles by peer credentials: the table, and what the kernel tells. Users on a socket: tests/api/test_roles.py."""

import grp
import os
import socket

import pytest

from sleepd.api.access import Access, Peer, Role, read_peer

ROLES = {"admin": ["root"], "operator": ["%daemon", "12345"], "caller": ["%54321"], "viewer": ["*"]}
DAEMON_GID = grp.getgrnam("daemon").gr_gid


@pytest.mark.parametrize(
    ("uid", "gids", "role"),
    [
        (0, {0}, Role.ADMIN),
        (7777, {7777}, Role.ADMIN),
        (4000, {4000}, Role.VIEWER),
        (4000, {4000, DAEMON_GID}, Role.OPERATOR),
        (12345, {1}, Role.OPERATOR),
        (4000, {54321}, Role.CALLER),
    ],
)
def test_the_highest_role_that_an_entry_gives(uid: int, gids: set[int], role: Role) -> None:
    assert Access(ROLES, own_uid=7777).role_of(Peer(uid, frozenset(gids))) is role


def test_nobody_named_is_nobody_let_in() -> None:
    access = Access({"operator": ["%no-such-group-here", "no-such-user-here"]}, own_uid=1)
    assert access.role_of(Peer(4000, frozenset({4000}))) is Role.ANYONE
    assert access.way_to(Role.OPERATOR) == "ask to be added to group no-such-group-here"
    assert access.way_to(Role.ADMIN) == "ask for an entry under admin in [api.roles]"


def test_the_kernel_tells_who_is_connected() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        peer = read_peer(here)
    assert peer.uid == os.geteuid()
    assert peer.gids == {os.getegid(), *os.getgroups()}
    assert f"uid {os.geteuid()}" in peer.name
