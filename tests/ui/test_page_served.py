"""How the page is served: as a guest on listeners that stay what they are, with headers that bind a browser."""

import asyncio
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from sleepd.api.access import Role
from sleepd.ui.server import UiServer
from tests.ui.page_rig import OPERATOR, ROLES, showing

STATIC = {file.name: file.read_text() for file in files("sleepd.ui").joinpath("static").iterdir()}


async def test_every_file_of_the_page_is_there_and_bound(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        for path in ("/ui", "/ui/", "/ui?x", *(f"/ui/{name}" for name in STATIC if name != "index.html")):
            status, _ = await browser.ask("GET", path)
            assert status == 200, path
            fields = browser.answer.headers
            csp = dict(part.strip().split(" ", 1) for part in fields["Content-Security-Policy"].split(";"))
            assert csp["default-src"] == csp["frame-ancestors"] == csp["base-uri"] == "'none'"
            assert (csp["script-src"], csp["style-src"], csp["connect-src"]) == ("'self'",) * 3
            assert "unsafe" not in fields["Content-Security-Policy"]
            assert (fields["X-Content-Type-Options"], fields["Referrer-Policy"]) == ("nosniff", "no-referrer")
            assert fields["Connection"] == "close"
            assert "Server" not in fields
            etag = fields["ETag"]
            assert (await browser.ask("GET", path, fields={"If-None-Match": etag}))[0] == 304
        for path in ("/ui/nothing.js", "/ui/../sessions.py", "/ui/%2e%2e/server.py", "/sleepd/v1/nothing"):
            assert (await browser.ask("GET", path))[0] == 404, path
        assert (await browser.ask("PUT", "/ui", {}))[0] == 405


def test_the_page_needs_nothing_from_elsewhere_and_has_no_inline_code() -> None:
    for name, text in STATIC.items():
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), name
        assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function)\b", text), name
    index = STATIC["index.html"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", index)


async def test_the_listener_stays_what_it_was(tmp_path: Path) -> None:
    async with showing(tmp_path) as rig:
        assert await rig.browser().ask("GET", "/healthz") == (200, {"ok": True})
        assert (await rig.browser().ask("GET", "/uix"))[0] == 404
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        for piece in (b"GE", b"T /u", b"i HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"\r\n"):
            writer.write(piece)
            await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert STATIC["index.html"].encode() in answer
        writer.close()


async def test_a_hostile_name_goes_out_as_json_and_nothing_else(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    async with showing(tmp_path) as rig:
        browser = rig.browser()
        await browser.log_in(OPERATOR, Role.OPERATOR)
        status, body = await browser.ask("GET", "/sleepd/v1/models/%3Cimg%20src=x%20onerror=alert(1)%3E/explain")
        assert (status, body["found"]) == (404, hostile)
        assert browser.answer.content_type == "application/problem+json"
        rig.daemon.note(hostile)
        _, events = await browser.ask("GET", "/sleepd/v1/events?follow=false")
        assert browser.answer.content_type == "text/event-stream"
        assert json.loads(events.partition("data: ")[2].partition("\n")[0])["text"] == hostile


async def test_who_says_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepd.ui.server.REQUEST_WITHIN_S", 0.2)
    async with showing(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"POST /sleepd/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("begun", "wanted"),
    [
        (b"GET /ui HTTP/1.1\r\n", True),
        (b"\r\nGET /ui HTTP/1.1\r\n", True),
        (b"GET /ui/main.js HTTP/1.1", True),
        (b"GET /ui?x HTTP/1.1", True),
        (b"POST /sleepd/v1/session HTTP/1.1", True),
        (b"DELETE /sleepd/v1/session HTTP/1.1", True),
        (b"", None),
        (b"GET /sleepd/v", None),
        (b"\r\n", None),
        (b"GET /uix HTTP/1.1\r\n", False),
        (b"GET /v1/models HTTP/1.1\r\n", False),
        (b"POST /v1/chat/completions HTTP/1.1\r\nX: GET /ui \r\n", False),
        (b"X" * 40, False),
        (b"GET /a\n", False),
    ],
)
async def test_what_is_the_pages_is_told_by_how_it_begins(tmp_path: Path, begun: bytes, wanted: bool | None) -> None:
    ui = UiServer(object(), roles=ROLES, origins=(), session_s=60, sessions_path=tmp_path / "x")  # type: ignore[arg-type]
    assert ui.wants(begun) is wanted
