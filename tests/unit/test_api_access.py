"""Roles by peer credentials: the table, and two real users on one socket where the test may become another."""

import asyncio
import grp
import json
import os
import pwd
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_rig import FakeDaemon, serving

from sleepd.api.access import Access, Peer, Role, read_peer

ROLES = {"admin": ["root"], "operator": ["%daemon", "12345"], "caller": ["%54321"], "viewer": ["*"]}
DAEMON_GID = grp.getgrnam("daemon").gr_gid
NOBODY = pwd.getpwnam("nobody").pw_uid


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


_ASK = """
import json, os, socket, sys
path, uid, gid, method, target = sys.argv[1:6]
os.setgroups([int(g) for g in sys.argv[6:]]); os.setgid(int(gid)); os.setuid(int(uid))
s = socket.socket(socket.AF_UNIX); s.connect(path)
s.sendall(f"{method} {target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n".encode())
sys.stdout.write(s.makefile().read())
"""


async def ask_as(
    path: Path, uid: int, gid: int, method: str, target: str, *groups: int
) -> tuple[int, dict[str, object]]:
    arguments = [str(path), str(uid), str(gid), method, target, *map(str, groups)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", _ASK, *arguments, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    head, _, body = out.decode().partition("\n\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that other users may enter: pytest's own ones are closed to them."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="sleepd-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


if os.geteuid() == 0:

    async def test_two_users_on_one_socket(open_folder: Path) -> None:
        daemon, path = FakeDaemon(), open_folder / "s"
        roles = {"admin": ["root"], "operator": ["%daemon"], "viewer": ["*"]}
        wake, reload = ("POST", "/v1/models/chat/wake"), ("POST", "/v1/reload")
        async with serving(daemon, path, roles):
            assert (await ask_as(path, NOBODY, NOBODY, "GET", "/v1/status"))[0] == 200
            status, body = await ask_as(path, NOBODY, NOBODY, *wake)
            assert (status, body["kind"]) == (403, "not_permitted")
            assert body["detail"] == (
                f"you are nobody (uid {NOBODY}), wake needs operator; ask to be added to group daemon"
            )
            assert daemon.asked == []
            assert (await ask_as(path, NOBODY, NOBODY, *wake, DAEMON_GID))[0] == 200  # supplementary
            assert (await ask_as(path, NOBODY, DAEMON_GID, *wake))[0] == 200  # primary
            assert [wish.who for wish in daemon.asked] == [f"nobody (uid {NOBODY})"] * 2
            assert (await ask_as(path, NOBODY, DAEMON_GID, *reload))[0] == 403
            assert (await ask_as(path, 0, 0, *reload))[0] == 200
