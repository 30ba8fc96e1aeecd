"""The API over its real socket: routes, refusals, streams, withdrawn wishes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from api_rig import FakeDaemon, serving

from sleepd.api.daemon import ReloadOutcome
from sleepd.api.routes import ROUTES
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.model import Missing, MissingReason
from sleepd.core.wishes import ResetAsked, SleepAsked, WakeAsked


class Api:
    def __init__(self, daemon: FakeDaemon, path: Path, session: aiohttp.ClientSession) -> None:
        self.daemon, self.path, self.session = daemon, path, session

    async def ask(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None) -> tuple[int, Any]:
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        async with self.session.request(method, f"http://x{path}", data=data) as response:
            kind = "application/problem+json" if response.status >= 400 else "application/json"
            if path not in ("/readyz",):
                assert response.content_type == kind
            return response.status, json.loads(await response.text())


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    daemon, path = FakeDaemon(), tmp_path / "s"
    async with (
        serving(daemon, path),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        yield Api(daemon, path, session)


async def test_every_get_route_answers(api: Api) -> None:
    for route in ROUTES:
        if route.method == "GET" and 200 in route.answers and route.path != "/metrics":
            assert (await api.ask("GET", route.path.format(name="chat", id=6)))[0] == 200, route.path


async def test_metrics_are_text(api: Api) -> None:
    async with api.session.get("http://x/metrics") as response:
        told = (response.status, response.headers["Content-Type"], await response.read())
    assert told == (200, "text/plain; version=0.0.4; charset=utf-8", b"# HELP rig rig\n# TYPE rig gauge\nrig 1.0\n")


async def test_the_gate_answers_without_a_body_or_says_when_to_ask_again(api: Api) -> None:
    async with api.session.get("http://x/v1/models/chat/gate") as let:
        assert (let.status, await let.read()) == (204, b"")
    assert api.daemon.gate_asked == [("chat", 50)]
    api.daemon.answers["chat"] = Answer(1, AnswerKind.REFUSED, problem="no_room", detail="no", retry_s=12.4)
    async with api.session.get("http://x/v1/models/chat/gate?wait_s=0") as refused:
        assert (refused.status, refused.headers["Retry-After"]) == (503, "12")
        assert refused.content_type == "application/problem+json"
        assert (await refused.json(content_type=None))["kind"] == "no_room"


@pytest.mark.parametrize("query", ["wait_s=soon", "wait_s=1000", "wait_s=-1", "wait_s=", "wait=5"])
async def test_a_question_at_the_gate_that_is_wrong_is_a_problem(api: Api, query: str) -> None:
    status, body = await api.ask("GET", f"/v1/models/chat/gate?{query}")
    assert (status, body["kind"]) == (400, "invalid")
    assert body["wanted"] in ("wait_s: a whole number from 0 to 999", "wait_s")
    assert api.daemon.gate_asked == []


async def test_only_configured_names_have_a_gate_and_only_get_asks_there(api: Api) -> None:
    for name in ("nobody", "org%2Fmodel", "chat%2F..%2Fembed"):
        status, body = await api.ask("GET", f"/v1/models/{name}/gate")
        assert (status, body["kind"]) == (404, "unknown_model")
    status, body = await api.ask("POST", "/v1/models/chat/gate")
    assert (status, body["wanted"]) == (405, "GET")
    async with api.session.head("http://x/v1/models/chat/gate") as head:
        assert head.status == 405
    assert api.daemon.gate_asked == []


async def test_wishes_reach_the_daemon_as_they_were_made(api: Api) -> None:
    status, body = await api.ask("POST", "/v1/models/embed/wake", {"timeout_s": 5, "wait": False, "force": True})
    assert (status, body["task"], body["model"]["name"]) == (200, 7, "embed")
    await api.ask("POST", "/v1/models/chat/sleep", {"level": 2, "drain_s": 1.5})
    await api.ask("POST", "/v1/models/chat/reset")
    wake, sleep, reset = api.daemon.asked
    me = wake.who
    assert wake == WakeAsked(41, "embed", me, 5, wait=False, force=True)
    assert sleep == SleepAsked(42, "chat", me, 2, 600.0, drain_s=1.5)
    assert reset == ResetAsked(43, "chat", me)
    assert f"uid {os.geteuid()}" in me


async def test_refusals_of_the_daemon_keep_their_kind(api: Api) -> None:
    api.daemon.answers["chat"] = Answer(
        1, AnswerKind.REFUSED, problem="no_room", detail="60GiB do not fit", wanted="60GiB"
    )
    status, body = await api.ask("POST", "/v1/models/chat/wake")
    assert (status, body["kind"], body["wanted"]) == (409, "no_room", "60GiB")
    assert body["title"] == "there is not enough room"


@pytest.mark.parametrize(
    ("path", "body", "wanted", "found"),
    [
        ("wake", {"timeout": 5}, "dry_run, force, timeout_s, wait", '"timeout"'),
        ("wake", {"timeout_s": "5"}, "timeout_s: a number from 0 to 86400", 'timeout_s: "5"'),
        ("wake", {"timeout_s": -1}, "timeout_s: a number from 0 to 86400", "timeout_s: -1"),
        ("wake", {"timeout_s": True}, "timeout_s: a number from 0 to 86400", "timeout_s: true"),
        ("wake", {"wait": 1}, "wait: true or false", "wait: 1"),
        ("sleep", {"level": 0}, "level: a whole number from 1 to 2", "level: 0"),
        ("sleep", {"level": 1.5}, "level: a whole number from 1 to 2", "level: 1.5"),
        ("sleep", [], "a JSON object", "[]"),
        ("reset", {"x": 1}, "none", '"x"'),
    ],
)
async def test_a_wrong_body_is_refused_with_wanted_and_found(
    api: Api, path: str, body: object, wanted: str, found: str
) -> None:
    status, problem = await api.ask("POST", f"/v1/models/chat/{path}", body)
    assert (status, problem["kind"], problem["wanted"], problem["found"]) == (400, "invalid", wanted, found)
    assert api.daemon.asked == []


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"\xff",
        b"[" * 50_000,
        b'{"timeout_s": NaN}',
        b'{"timeout_s": 1e999}',
        b'{"timeout_s": 1%s}' % (b"0" * 400),
    ],
)
async def test_what_is_no_json_is_refused(api: Api, raw: bytes) -> None:
    status, problem = await api.ask("POST", "/v1/models/chat/wake", raw=raw)
    assert (status, problem["kind"]) == (400, "invalid")


async def test_unknown_fields_models_routes_and_methods_name_the_way(api: Api) -> None:
    assert (await api.ask("POST", "/v1/models/chat/wake", {"tiemout_s": 1}))[1]["hint"] == 'did you mean "timeout_s"?'
    status, problem = await api.ask("POST", "/v1/models/qwen3-32/wake")
    assert (status, problem["kind"], problem["hint"]) == (404, "unknown_model", 'did you mean "qwen3-32b"?')
    status, problem = await api.ask("GET", "/v1/leases")
    assert (status, problem["kind"]) == (404, "invalid")
    assert "/v1/leases" in problem["detail"]
    status, problem = await api.ask("DELETE", "/v1/models/chat")
    assert (status, problem["wanted"]) == (405, "GET")
    status, problem = await api.ask("POST", "/v1/models/chat/wake", raw=b" " * 70_000)
    assert (status, problem["wanted"]) == (413, "at most 65536 bytes")


async def test_a_fault_inside_is_a_problem_too(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    api.daemon.explain = None  # type: ignore[assignment,method-assign]
    status, problem = await api.ask("GET", "/v1/models/chat/explain")
    assert (status, problem["kind"]) == (500, "failed")
    assert "TypeError" in caplog.text


async def test_reload_tells_what_changed_or_every_error(api: Api) -> None:
    assert await api.ask("POST", "/v1/reload") == (200, {"changed": ["models.chat: priority 0 → 1"]})
    api.daemon.outcome = ReloadOutcome(errors=("a.toml:1: wrong", "b.toml:2: wrong"))
    status, problem = await api.ask("POST", "/v1/reload")
    assert (status, problem["kind"], len(problem["errors"])) == (422, "invalid", 2)


async def test_ready_once_every_model_was_looked_at(api: Api) -> None:
    assert await api.ask("GET", "/readyz") == (200, {"ready": True, "waiting_for": []})
    from test_wire import changed

    api.daemon.world = changed(api.daemon.world, "chat", seen=Missing(MissingReason.NOT_YET))
    assert await api.ask("GET", "/readyz") == (503, {"ready": False, "waiting_for": ["chat"]})
    api.daemon.world = changed(api.daemon.world, "chat", seen=Missing(MissingReason.REFUSED))
    assert (await api.ask("GET", "/readyz"))[0] == 200


async def test_a_client_that_leaves_takes_its_wish_along(api: Api) -> None:
    api.daemon.never.add("chat")
    wish = asyncio.create_task(api.ask("POST", "/v1/models/chat/wake"))
    async with asyncio.timeout(2):
        await api.daemon.heard.wait()
        wish.cancel()
        await api.daemon.left.wait()
    assert api.daemon.withdrawn == ["chat"]


async def read_blocks(response: aiohttp.ClientResponse, count: int) -> list[str]:
    async with asyncio.timeout(2):
        return [(await response.content.readuntil(b"\n\n")).decode() for _ in range(count)]


async def test_events_on_record_then_live_ones(api: Api) -> None:
    api.daemon.note("one")
    async with api.session.get("http://x/v1/events") as response:
        assert response.content_type == "text/event-stream"
        (first,) = await read_blocks(response, 1)
        api.daemon.note("two")
        (second,) = await read_blocks(response, 1)
    assert first.startswith("id: e1-1\ndata: ")
    assert json.loads(second.split("data: ")[1]) == {
        "id": "e1-2",
        "time": "2026-01-01T00:00:00.000Z",
        "kind": "state",
        "model": "chat",
        "gpus": [],
        "task": None,
        "cause": None,
        "text": "two",
        "data": {"level": 1},
    }


async def test_only_the_newest_events_on_record(api: Api) -> None:
    for number in range(4):
        api.daemon.note(f"{number}")
    async with api.session.get("http://x/v1/events?last=2&follow=false") as response:
        told = (await response.text()).split("\n\n")
    assert [block.partition("\n")[0] for block in told] == ["id: e1-3", "id: e1-4", ""]
    async with api.session.get("http://x/v1/events?last=1") as response:
        assert b"e1-4" in await response.content.readuntil(b"\n\n")
        for text in ("a", "b", "c"):
            api.daemon.note(text)
        assert [b"e1-%d" % n in await response.content.readuntil(b"\n\n") for n in (5, 6, 7)] == [True] * 3
    for wrong in ("0", "10001", "-1", "x", ""):
        status, body = await api.ask("GET", f"/v1/events?last={wrong}")
        assert (status, body["detail"]) == (400, "last has a wrong value")


async def test_events_resume_and_tell_a_gap(api: Api) -> None:
    for n in range(8):
        api.daemon.note(str(n))
    async with api.session.get("http://x/v1/events?since=e1-1&follow=false", headers={"Last-Event-ID": "e1-6"}) as kept:
        text = await kept.text()
    assert [line for line in text.splitlines() if line.startswith(("id", "event"))] == ["id: e1-7", "id: e1-8"]
    async with api.session.get("http://x/v1/events?since=e0-3&follow=false") as lost:
        text = await lost.text()
    assert text.startswith('event: gap\ndata: {"after": "e0-3", "first": "e1-4"}\n\nid: e1-4\n')
    for query in ("since=nonsense", "follow=perhaps"):
        assert (await api.ask("GET", f"/v1/events?{query}"))[0] == 400


async def test_a_quiet_stream_has_a_heartbeat(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sleepd.api.stream.HEARTBEAT_S", 0.01)
    async with api.session.get("http://x/v1/events") as response:
        assert await read_blocks(response, 2) == [": beat\n\n"] * 2


async def test_roles_follow_a_reload(tmp_path: Path) -> None:
    from sleepd.api.access import Access, Peer, Role

    async with serving(FakeDaemon(), tmp_path / "s") as server:
        stranger = Peer(54_321, frozenset({54_321}))
        assert server._judge.access.role_of(stranger) is Role.VIEWER
        server.grant({"operator": ["54321"]})
        assert server._judge.access.role_of(stranger) is Role.OPERATOR
        assert isinstance(server._judge.access, Access)


async def test_a_refusal_that_passes_says_when_to_come_again(api: Api) -> None:
    api.daemon.answers["chat"] = Answer(1, AnswerKind.REFUSED, problem="failed", detail="it ends", retry_s=5.0)
    for method, path, body in (
        ("POST", "/v1/models/chat/wake", None),
        ("PUT", "/v1/holds/h", {"model": "chat", "ttl_s": 60}),
    ):
        async with api.session.request(method, f"http://x{path}", json=body or {}) as response:
            assert (response.status, response.headers.get("Retry-After")) == (503, "5"), path
