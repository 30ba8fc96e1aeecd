"""The page on a real listener before a daemon in words only, and a browser in a few lines."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from sleepd.api.access import Peer, Role
from sleepd.obs.pages import Pages, json_answer
from sleepd.ui.server import UiServer
from tests.unit.api_rig import FakeDaemon

ROLES = {"admin": ["44001"], "operator": ["44002"], "caller": [], "viewer": ["*"]}
ADMIN, OPERATOR, VIEWER = (Peer(uid, frozenset({uid})) for uid in (44001, 44002, 44003))
PROXY = "https://gpu1.example.org"


class Browser:
    """Speaks to the page as a browser that shows it does; `fields` take the place of what it would send."""

    def __init__(self, rig: "Rig", session: aiohttp.ClientSession) -> None:
        self.rig, self.session = rig, session
        self.cookie = ""

    async def ask(
        self, method: str, path: str, body: Any = None, fields: Mapping[str, str | None] | None = None
    ) -> tuple[int, Any]:
        host = f"127.0.0.1:{self.rig.port}"
        sent: dict[str, str | None] = {"Host": host, "Sec-Fetch-Site": "same-origin", "Cookie": self.cookie or None}
        if method not in ("GET", "HEAD"):
            sent |= {"Origin": f"http://{host}", "Content-Type": "application/json"}
        sent |= fields or {}
        headers = {name: value for name, value in sent.items() if value is not None}
        url = f"http://127.0.0.1:{self.rig.port}{path}"
        data = body if isinstance(body, bytes) else None
        async with self.session.request(
            *(method, url), data=data, json=None if data is not None else body, headers=headers, skip_auto_headers=()
        ) as answer:
            self.answer = answer
            set_cookie = answer.headers.get("Set-Cookie", "")
            if set_cookie:
                self.cookie = set_cookie.partition(";")[0]
            text = await answer.text()
            return answer.status, await answer.json(content_type=None) if text[:1] == "{" else text

    async def log_in(self, peer: Peer, role: Role, fields: Mapping[str, str | None] | None = None) -> tuple[int, Any]:
        token = self.rig.ui.logins.invite(peer, role, 300, ()).token
        return await self.ask("POST", "/sleepd/v1/session", {"token": token}, fields)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[aiohttp.ClientResponse]:
        """The stream of events; for 20 s at most."""
        url, headers = f"http://127.0.0.1:{self.rig.port}/sleepd/v1/events", {"Cookie": self.cookie}
        async with asyncio.timeout(20), self.session.get(url, headers=headers) as stream:
            yield stream


class Rig:
    def __init__(self, daemon: FakeDaemon, ui: UiServer, port: int, session: aiohttp.ClientSession) -> None:
        self.daemon, self.ui, self.port, self._session = daemon, ui, port, session

    def browser(self) -> Browser:
        return Browser(self, self._session)


@asynccontextmanager
async def showing(root: Path, session_s: float = 3600.0) -> AsyncIterator[Rig]:
    """The page is a guest of the metrics listener; `root` keeps its sessions."""
    daemon = FakeDaemon()
    path = root / "ui-sessions.json"
    ui = UiServer(daemon, roles=ROLES, origins=(PROXY,), session_s=session_s, sessions_path=path)
    await ui.start()

    async def show_health(accept: str) -> Any:
        return json_answer(200, {"ok": True})

    pages = Pages({"/healthz": show_health})
    bound = socket.create_server(("127.0.0.1", 0))
    await pages.start([bound], ui)
    try:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield Rig(daemon, ui, bound.getsockname()[1], session)
    finally:
        await pages.close()
        await ui.close()
