"""Who gets in at the page: by which token, from which origin, with which role, for how long."""

import json
import stat
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from sleepd.api.access import Peer, Role
from sleepd.core.wishes import PinAsked, WakeAsked
from sleepd.ui import logins
from sleepd.ui.attempts import FAILURES_LIMIT
from sleepd.ui.logins import AT_ONCE_LIMIT
from sleepd.ui.routes import SHOWN
from sleepd.ui.sessions import SESSIONS_LIMIT, TOKENS_LIMIT, Sessions
from tests.ui.page_rig import ADMIN, OPERATOR, PROXY, ROLES, VIEWER, showing

STATUS, WAKE, SESSION = "/sleepd/v1/status", "/sleepd/v1/models/embed/wake", "/sleepd/v1/session"


async def test_a_token_lets_in_once_and_a_cookie_says_who_asks(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser, other = rig.browser(), rig.browser()
        token = rig.ui.logins.invite(OPERATOR, Role.OPERATOR, 300, ()).token
        status, body = await browser.ask("POST", SESSION, {"token": token})
        assert (status, body["who"], body["role"]) == (200, "uid 44002", "operator")
        cookie = browser.answer.headers["Set-Cookie"]
        assert cookie.startswith(f"sleepd-{rig.port}=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/sleepd/v1"} <= set(cookie.split("; "))
        assert "Secure" not in cookie
        assert (await other.ask("POST", SESSION, {"token": token}))[0] == 401
        assert (await other.ask("GET", STATUS))[0] == 401
        assert (await browser.ask("GET", STATUS))[1]["models"][0]["name"] == "chat"
        assert (await browser.ask("POST", WAKE, {"wait": False}))[0] == 200
        (asked,) = rig.daemon.asked
        assert isinstance(asked, WakeAsked)
        assert (asked.who, asked.wait) == ("uid 44002 on the page", False)


async def test_behind_a_proxy_with_https_the_cookie_is_secure(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        proxied = {"Host": "gpu1.example.org", "Origin": PROXY}
        assert (await browser.log_in(OPERATOR, Role.OPERATOR, proxied))[0] == 200
        cookie = browser.answer.headers["Set-Cookie"]
        assert cookie.startswith("__Secure-sleepd=")
        assert "Secure" in cookie.split("; ")
        assert (await browser.ask("GET", STATUS, fields={"Host": "gpu1.example.org"}))[0] == 200


@pytest.mark.parametrize(
    ("peer", "asked", "role"),
    [(VIEWER, Role.ADMIN, "viewer"), (OPERATOR, Role.ADMIN, "operator"), (ADMIN, Role.VIEWER, "viewer")],
)
async def test_a_role_is_what_was_asked_for_and_no_more_than_the_peer_has(
    tmp_path: Path, peer: object, asked: Role, role: str
) -> None:
    async with showing(tmp_path) as rig:
        assert (await rig.browser().log_in(peer, asked))[1]["role"] == role  # type: ignore[arg-type]


async def test_each_role_has_its_routes_and_no_other(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        for peer, role in ((VIEWER, Role.VIEWER), (OPERATOR, Role.OPERATOR), (ADMIN, Role.ADMIN)):
            browser = rig.browser()
            await browser.log_in(peer, role)
            for route in SHOWN:
                path = route.path.format(name="chat") + ("?follow=false" if route.endless else "")
                status, body = await browser.ask(route.method, f"/sleepd{path}", {} if route.takes_body else None)
                assert (status == 403) is (route.role > role), (route.path, body)
                assert status in (200, 403), body
            status, body = await browser.ask("POST", WAKE, {"force": True})
            assert status == (200 if role is Role.ADMIN else 403)


async def test_a_refusal_says_what_to_do(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.VIEWER)
        status, body = await browser.ask("POST", WAKE, {})
        assert status == 403
        assert body["detail"].endswith("log in with a token of it: sleepctl ui-token --role operator")
        assert (await rig.browser().ask("GET", STATUS))[1]["hint"].startswith("sleepctl ui-token")


async def test_roles_follow_a_reload(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.OPERATOR)
        assert (await browser.ask("POST", WAKE, {}))[0] == 200
        rig.ui.take_settings({"viewer": ["*"]}, (), 60.0)
        assert (await browser.ask("POST", WAKE, {}))[0] == 403
        assert (await browser.ask("GET", SESSION))[1]["role"] == "viewer"


async def test_who_left_a_group_loses_its_role_with_the_next_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = {"operator": ["%44010"], "viewer": ["*"]}
    member = Peer(44002, frozenset({44002, 44010}))
    database = {44002: frozenset({44002, 44010})}
    monkeypatch.setattr(logins, "current_groups", lambda uid: database.get(uid, frozenset()))
    async with showing(tmp_path) as rig:
        rig.ui.take_settings(roles, (PROXY,), 60.0)
        browser, late = rig.browser(), rig.browser()
        await browser.log_in(member, Role.ADMIN)
        token = rig.ui.logins.invite(member, Role.OPERATOR, 300, ()).token
        rig.ui.take_settings(roles, (PROXY,), 60.0)
        assert (await browser.ask("POST", WAKE, {}))[0] == 200
        database[44002] = frozenset({44002})
        rig.ui.take_settings(roles, (PROXY,), 60.0)
        assert (await browser.ask("POST", WAKE, {}))[0] == 403
        assert (await late.ask("POST", SESSION, {"token": token}))[1]["role"] == "viewer"


async def test_a_restart_looks_up_groups_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = {"operator": ["%44010"], "viewer": ["*"]}
    async with showing(tmp_path) as rig:
        rig.ui.take_settings(roles, (PROXY,), 60.0)
        browser = rig.browser()
        assert (await browser.log_in(Peer(44002, frozenset({44010})), Role.OPERATOR))[1]["role"] == "operator"
        secret = browser.cookie.partition("=")[2]
    monkeypatch.setattr(logins, "current_groups", lambda uid: frozenset())
    async with showing(tmp_path) as rig:
        rig.ui.take_settings(roles, (PROXY,), 60.0)
        again = rig.browser()
        again.cookie = f"sleepd-{rig.port}={secret}"
        assert (await again.ask("GET", SESSION))[1]["role"] == "viewer"


async def test_one_session_cannot_take_every_connection(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig, AsyncExitStack() as opened:
        greedy, other = rig.browser(), rig.browser()
        await greedy.log_in(VIEWER, Role.VIEWER)
        await other.log_in(OPERATOR, Role.OPERATOR)
        connector = aiohttp.TCPConnector(limit=0)
        session = await opened.enter_async_context(aiohttp.ClientSession(connector=connector))
        url = f"http://127.0.0.1:{rig.port}/sleepd/v1/events"
        streams = [
            await opened.enter_async_context(session.get(url, headers={"Cookie": greedy.cookie}))
            for _ in range(AT_ONCE_LIMIT)
        ]
        assert {stream.status for stream in streams} == {200}
        status, body = await greedy.ask("GET", STATUS)
        assert (status, body["found"]) == (429, str(AT_ONCE_LIMIT))
        assert (await other.ask("GET", STATUS))[0] == 200
        assert (await other.ask("POST", SESSION, {"token": "guess"}))[0] == 401, "also logging in goes on"


async def test_a_reload_that_leaves_roles_as_they_are_cuts_nobody_off(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.OPERATOR)
        async with browser.events() as stream:
            rig.ui.take_settings({**ROLES}, (PROXY,), 60.0)
            rig.daemon.note("goes on")
            assert b"goes on" in await stream.content.readuntil(b"\n\n")
            rig.ui.take_settings({"viewer": ["*"]}, (PROXY,), 60.0)
            with pytest.raises(aiohttp.ClientError):
                await stream.read()


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("POST", WAKE, {"Origin": None}, 403),
        ("POST", WAKE, {"Origin": "null"}, 403),
        ("POST", WAKE, {"Origin": "http://evil.example"}, 403),
        ("POST", WAKE, {"Origin": "http://127.0.0.1:1"}, 403),
        ("POST", WAKE, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", WAKE, {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", WAKE, {"Content-Type": "text/plain"}, 415),
        ("POST", WAKE, {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("DELETE", SESSION, {"Origin": "http://evil.example"}, 403),
        ("GET", STATUS, {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", STATUS, {"Sec-Fetch-Site": "same-site"}, 403),
        ("GET", STATUS, {"Host": "evil.example"}, 403),
        ("GET", "/ui", {"Host": "evil.example"}, 403),
        ("GET", "/ui", {"Host": "127.0.0.1.evil.example:80"}, 403),
        ("OPTIONS", WAKE, {"Origin": "http://evil.example"}, 403),
    ],
)
async def test_nothing_is_done_for_a_foreign_page(
    tmp_path: Path, method: str, path: str, fields: dict[str, str | None], status: int
) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(ADMIN, Role.ADMIN)
        found, body = await browser.ask(method, path, b"{}" if method == "POST" else None, fields)
        assert found == status, body
        assert "Access-Control-Allow-Origin" not in browser.answer.headers
        assert not rig.daemon.asked
        assert (await browser.ask("GET", SESSION))[0] == 200


async def test_a_form_cannot_be_passed_off_as_json(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(ADMIN, Role.ADMIN)
        status, _ = await browser.ask("POST", WAKE, b'{"wait": false}', {"Content-Type": "text/plain;application/json"})
        assert (status, rig.daemon.asked) == (415, [])


async def test_who_guesses_waits(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        for _ in range(FAILURES_LIMIT):
            assert (await browser.ask("POST", SESSION, {"token": "guess"}))[0] == 401
        status, body = await browser.log_in(ADMIN, Role.ADMIN)
        assert status == 429
        assert 0 < int(browser.answer.headers["Retry-After"]) <= 60
        assert "try again" in body["hint"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"token": 7}', b'{"token": "\\ud800"}', b'{"token": "x", "y": 1}']
)
async def test_a_login_that_is_none_is_refused_in_words(tmp_path: Path, body: bytes) -> None:
    async with showing(tmp_path) as rig:
        status, told = await rig.browser().ask("POST", SESSION, body)
        assert (status, told["kind"]) == (400, "invalid")


async def test_a_session_outlives_the_daemon_and_its_file_holds_no_secret(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.OPERATOR)
        secret = browser.cookie.partition("=")[2]
    file = tmp_path / "ui-sessions.json"
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    async with showing(tmp_path) as rig:
        again = rig.browser()
        again.cookie = f"sleepd-{rig.port}={secret}"
        assert (await again.ask("GET", SESSION))[1]["role"] == "operator"
        assert (await again.ask("DELETE", SESSION))[0] == 200
        again.cookie = f"sleepd-{rig.port}={secret}"
        assert (await again.ask("GET", SESSION))[0] == 401
    assert json.loads(file.read_text())["sessions"] == []
    file.write_text('{"version": 1, "sessions": [{"key": 1}]}')
    async with showing(tmp_path) as rig:
        assert (await rig.browser().ask("GET", SESSION))[0] == 401


async def test_a_session_that_ends_ends_its_stream(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.OPERATOR)
        async with browser.events() as stream:
            rig.daemon.note("fell asleep")
            assert (await stream.content.readline()).startswith(b"id: ")
            await browser.ask("DELETE", SESSION)
            with pytest.raises(aiohttp.ClientError):
                await stream.read()


async def test_a_session_ends_by_itself(tmp_path: Path) -> None:
    async with showing(tmp_path, session_s=0.5) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.OPERATOR)
        async with browser.events() as stream:
            with pytest.raises(aiohttp.ClientError):
                await stream.read()
        status, body = await browser.ask("GET", SESSION)
        assert (status, body["detail"]) == (401, "the session is over")


def test_tokens_and_sessions_have_their_time_and_their_number() -> None:
    sessions = Sessions()
    late, _ = sessions.invite(OPERATOR, Role.OPERATOR, 10, 100.0)
    assert sessions.enter(late, 60, 110.0) is None
    tokens = [sessions.invite(OPERATOR, Role.OPERATOR, 10, 200.0 + n / 1000)[0] for n in range(TOKENS_LIMIT + 1)]
    assert sessions.enter(tokens[0], 60, 201.0) is None
    secrets = []
    for n in range(SESSIONS_LIMIT + 1):
        token = tokens[n + 1] if n < TOKENS_LIMIT else sessions.invite(OPERATOR, Role.OPERATOR, 10, 201.0)[0]
        entered = sessions.enter(token, 60, 202.0 + n / 1000)
        assert entered is not None
        secrets.append(entered[0])
    assert len(secrets) == SESSIONS_LIMIT + 1
    assert [sessions.find(secret, 203.0) is not None for secret in secrets] == [False, *[True] * SESSIONS_LIMIT]
    assert sessions.find(secrets[-1], 300.0) is None
    assert sessions.all(300.0) == ()


async def test_pins_are_asked_in_the_name_of_who_logged_in(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(ADMIN, Role.ADMIN)
        await browser.ask("POST", "/sleepd/v1/models/chat/pin", {})
        assert rig.daemon.asked == [PinAsked(41, "chat", "uid 44001 on the page", True)]
