"""Who may do what: users with different uids and groups at every route of one served socket.

The peers are told to the server in place of the kernel's word everywhere; where the tests run as root, children that
became those users ask as well, and the kernel's word counts.
"""

import asyncio
import contextlib
import grp
import json
import os
import pwd
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sleepd.api import server
from sleepd.api.access import Peer, Role
from sleepd.api.routes import ROUTES
from tests.unit.api_rig import FakeDaemon, serving

NOBODY = pwd.getpwnam("nobody").pw_uid
STRANGER = os.getuid() + 44_444  # never the user that the daemon runs as: that one is admin
MAIL = grp.getgrnam("mail").gr_gid
ROLES = {"admin": ["daemon"], "operator": ["%mail"], "caller": ["%54321"], "viewer": ["*"]}


@dataclass(frozen=True)
class User:
    """Whom the tests become."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    role: Role

    @property
    def peer(self) -> Peer:
        return Peer(self.uid, frozenset({self.gid, *self.groups}))


USERS = {
    "admin by name": User(pwd.getpwnam("daemon").pw_uid, NOBODY, (), Role.ADMIN),
    "operator by a supplementary group": User(NOBODY, NOBODY, (777, MAIL), Role.OPERATOR),
    "operator by the last of many groups": User(NOBODY, NOBODY, (*range(70_000, 70_400), MAIL), Role.OPERATOR),
    "operator by the primary group": User(STRANGER, MAIL, (), Role.OPERATOR),
    "caller by a group's number": User(NOBODY, 54_321, (), Role.CALLER),
    "viewer like everybody": User(NOBODY, NOBODY, (1_234,), Role.VIEWER),
}

WAYS = ("told", *(("become",) if os.geteuid() == 0 else ()))

_BECOME = "os.setgroups(groups); os.setgid(gid); os.setuid(uid)"
_CHILD = """
import json, os, socket, sys
path, uid, gid, groups, asked = json.loads(sys.argv[1])
BECOME
found = []
for method, target, body in asked:
    s = socket.socket(socket.AF_UNIX); s.connect(path)
    head = f"{method} {target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n"
    s.sendall(f"{head}Content-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
    text = s.makefile().read()
    found.append([int(text.split()[1]), text.partition("\\n\\n")[2]])
    s.close()
print(json.dumps(found))
""".replace("BECOME", _BECOME)


async def ask_all(path: Path, user: User, asked: list[tuple[str, str, str]]) -> list[tuple[int, str]]:
    """Return the statuses and bodies of a child's requests; where it may, it becomes the user first."""
    code = _CHILD if os.geteuid() == 0 else _CHILD.replace(_BECOME, "")
    words = json.dumps([str(path), user.uid, user.gid, user.groups, asked])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-c", code, words), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        out, _ = await process.communicate()
    return [(status, body) for status, body in json.loads(out)]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that other users may enter: pytest's own ones are closed to them."""
    with tempfile.TemporaryDirectory(prefix="sleepd-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@contextlib.contextmanager
def seen_as(user: User, way: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        if way == "told":
            patched.setattr(server, "read_peer", lambda _: user.peer)
        yield


HOLD = json.dumps({"model": "embed", "ttl_s": 60})
BODIES = {"/v1/holds/{id}": HOLD, "/v1/reservations/{id}": json.dumps({"gpus": [0], "bytes_per_gpu": 1, "ttl_s": 60})}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", USERS)
async def test_each_role_has_its_routes_and_no_other(
    folder: Path, who: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, daemon = USERS[who], FakeDaemon()
    bodies = [BODIES.get(route.path, "") if route.method == "PUT" else "" for route in ROUTES]
    asked = [(r.method, r.path.format(name="chat", id="6"), body) for r, body in zip(ROUTES, bodies, strict=True)]
    asked = [(m, f"{p}?follow=false" if p == "/v1/events" else p, b) for m, p, b in asked]
    async with serving(daemon, folder / "s", ROLES):
        with seen_as(user, way, monkeypatch):
            found = await ask_all(folder / "s", user, asked)
    for route, (status, body) in zip(ROUTES, found, strict=True):
        assert (status == 403) is (route.role > user.role), (route.method, route.path, body)
        assert status in (*route.answers, 200, 403), body


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_names_the_user_and_the_way(folder: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    user, daemon = USERS["viewer like everybody"], FakeDaemon()
    forced = ("POST", "/v1/models/chat/wake", '{"force": true}')
    async with serving(daemon, folder / "s", ROLES):
        with seen_as(user, way, monkeypatch):
            ((status, body),) = await ask_all(folder / "s", user, [("POST", "/v1/models/chat/wake", "")])
        operator = USERS["operator by a supplementary group"]
        with seen_as(operator, way, monkeypatch):
            ((forbidden, told),) = await ask_all(folder / "s", operator, [forced])
    assert (status, daemon.asked) == (403, [])
    assert json.loads(body) == {
        "kind": "not_permitted",
        "title": "not permitted",
        "status": 403,
        "detail": f"you are nobody (uid {NOBODY}), wake needs operator; ask to be added to group mail",
        "wanted": "operator",
        "found": "viewer",
        "hint": "a new group counts from the next login on",
    }
    assert forbidden == 403
    assert "wake with force needs admin; ask for an entry under admin in [api.roles]" in json.loads(told)["detail"]


@pytest.mark.parametrize("way", WAYS)
async def test_wishes_and_holds_carry_the_name_of_who_asked(
    folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, daemon = USERS["operator by the primary group"], FakeDaemon()
    async with serving(daemon, folder / "s", ROLES):
        with seen_as(user, way, monkeypatch):
            await ask_all(folder / "s", user, [("PUT", "/v1/holds/mine", HOLD), ("POST", "/v1/models/chat/wake", "")])
    (hold,) = daemon.world.models["embed"].holds
    assert (hold.uid, hold.who) == (STRANGER, f"uid {STRANGER}")
    assert daemon.asked[-1].who == f"uid {STRANGER}"  # type: ignore[union-attr]
