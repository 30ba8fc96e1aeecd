"""Both Python clients against a served API: every route, refusals, streams."""

import asyncio
import inspect
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sleepd.api.routes import ROUTES
from sleepd.client import ApiProblem, Client, DaemonUnreachable, asks
from sleepd.client.aio import AsyncClient
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.wishes import HoldAsked, HoldEnded, PinAsked, ReservationAsked, SleepAsked, WakeAsked
from sleepd.history.found import HistoryUnreadable, Span
from tests.api.blocking import LIMIT_S, in_thread, until
from tests.unit.api_rig import WALL_S, FakeDaemon, serving


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    async with serving(fake, tmp_path / "s"):
        yield fake


def public(of: type) -> dict[str, list[str]]:
    names = [name for name in vars(of) if not name.startswith("_") and callable(getattr(of, name))]
    return {name: list(inspect.signature(getattr(of, name)).parameters) for name in names}


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    sync, aio = public(Client), public(AsyncClient)
    assert sync.pop("open_stream")
    assert aio.pop("close")
    sync["request"].remove("timeout_s")
    sync["send"].remove("timeout_s")
    assert sync == aio


CALLS: dict[str, Callable[[Any], Any]] = {
    "GET /v1/status": lambda client: client.status(),
    "GET /v1/models": lambda client: client.models(),
    "GET /v1/models/{name}": lambda client: client.model("chat"),
    "GET /v1/models/{name}/explain": lambda client: client.explain("chat"),
    "GET /v1/models/{name}/gate": lambda client: client.gate("chat", wait_s=5),
    "POST /v1/models/{name}/wake": lambda client: client.wake("chat", timeout_s=5, force=True),
    "POST /v1/models/{name}/sleep": lambda client: client.sleep("chat", level=2, via_wake=True, drain_s=1),
    "POST /v1/models/{name}/stop": lambda client: client.stop("chat", wait=False),
    "POST /v1/models/{name}/start": lambda client: client.start("chat", timeout_s=5),
    "POST /v1/models/{name}/reset": lambda client: client.reset("chat"),
    "POST /v1/models/{name}/pin": lambda client: client.pin("chat"),
    "POST /v1/models/{name}/unpin": lambda client: client.unpin("chat"),
    "GET /v1/holds": lambda client: client.holds(),
    "PUT /v1/holds/{id}": lambda client: client.hold("job:1", "chat", ttl_s=60, reason="batch"),
    "DELETE /v1/holds/{id}": lambda client: client.release("job:1"),
    "GET /v1/reservations": lambda client: client.reservations(),
    "PUT /v1/reservations/{id}": lambda client: client.reserve_for("job:2", [0], 1 << 30, ttl_s=60, pid=7),
    "DELETE /v1/reservations/{id}": lambda client: client.give_back("job:2"),
    "GET /v1/tasks": lambda client: client.tasks(),
    "GET /v1/tasks/{id}": lambda client: client.task(6),
    "GET /v1/history": lambda client: client.history(["chat", "emb*"], since="2025-12-31T00:00:00+01:00", limit=5),
    "GET /v1/history/buckets": lambda client: client.history_buckets(step_s=7200),
    "GET /v1/history/report": lambda client: client.report(["chat"]),
    "GET /v1/history/timeline": lambda client: client.timeline(["chat"], step_s=10),
    "POST /v1/ui/tokens": lambda client: client.ui_token(role="viewer", ttl_s=60),
    "GET /v1/doctor": lambda client: client.doctor(),
    "POST /v1/reload": lambda client: client.reload(),
    "GET /healthz": lambda client: client.healthz(),
    "GET /readyz": lambda client: client.readyz(),
    "GET /openapi.json": lambda client: client.openapi(),
}


async def test_every_route_has_its_method(daemon: FakeDaemon, tmp_path: Path) -> None:
    # A page of text is for Prometheus, which brings its own client.
    routes = [route for route in ROUTES if not route.endless and str not in route.answers.values()]
    assert CALLS.keys() == {f"{route.method} {route.path}" for route in routes}
    async with AsyncClient(tmp_path / "s") as client:
        for route, call in CALLS.items():
            here = await in_thread(lambda call=call: call(Client(tmp_path / "s")))
            there = await call(client)
            if route.endswith("/gate"):
                assert (here.status, there.status, here.body, there.body) == (204, 204, None, None)
                continue
            assert here.status == there.status == 200, route
            assert here.body.keys() == there.body.keys() == json.loads(here.text).keys()
    assert daemon.gate_asked == [("chat", 5), ("chat", 5)]
    kinds = [type(wish) for wish in daemon.asked if not isinstance(wish, HoldAsked | HoldEnded)]
    (reserved, *_) = [wish for wish in daemon.asked if isinstance(wish, ReservationAsked)]
    assert (reserved.gpus, reserved.bytes_per_gpu, reserved.pids, reserved.wait) == (("0",), 1 << 30, (7, 8), True)
    assert kinds.count(PinAsked) == 4
    (first, *_) = [wish for wish in daemon.asked if isinstance(wish, SleepAsked)]
    assert (first.level, first.via_wake, first.drain_s) == (2, True, 1)


async def test_history_is_asked_for_a_span_and_read_on_by_pages(daemon: FakeDaemon, tmp_path: Path) -> None:
    client = Client(tmp_path / "s")
    since, until = "2025-12-31T01:00:00+01:00", "2026-01-01T00:00:00Z"
    first = await in_thread(lambda: client.history(["chat", "emb*"], since=since, until=until))
    last = await in_thread(lambda: client.history(since=since, until=until, after=first.body["next"]))
    assert last.body["next"] is None
    assert daemon.history.asked[0] == Span(WALL_S - 86_400, WALL_S, ("chat", "emb*"))
    assert [task["result"] for task in first.body["tasks"]] == ["failed"]
    report = (await in_thread(client.report)).body
    assert report["total"]["requests"] == 300
    assert [row["name"] for row in report["models"]] == ["chat", "embed"]
    assert [row["name"] for row in report["by"]] == ["rule nap"]
    for wrong, told in (
        ({"since": "yesterday"}, "the field from has a wrong value"),
        ({"since": until, "until": since}, "the span is empty"),
        ({"limit": 99_999}, "the field limit has a wrong value"),
    ):
        with pytest.raises(ApiProblem, match=told) as refused:
            await in_thread(lambda wrong=wrong: client.history(**wrong))
        assert refused.value.status == 400
    with pytest.raises(ApiProblem, match="the field step_s has a wrong value"):
        await in_thread(lambda: client.history_buckets(step_s=5000))
    daemon.history.refuse = HistoryUnreadable("/var/lib/sleepd/history.db: disk I/O error")
    with pytest.raises(ApiProblem, match=r"there is no history to be had: /var/lib/sleepd/history\.db: disk I/O"):
        await in_thread(client.report)


async def test_a_rehearsed_wake_asks_for_nothing(daemon: FakeDaemon, tmp_path: Path) -> None:
    plan = (await in_thread(lambda: Client(tmp_path / "s").plan_wake("embed"))).body["plan"]
    assert (plan["would"], plan["victims"][0]["model"], daemon.asked) == ("wake", "qwen3-32b", [])


async def test_refusals_are_problems(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["chat"] = Answer(1, AnswerKind.REFUSED, problem="no_room", detail="60GiB do not fit", hint="wait")
    async with AsyncClient(tmp_path / "s") as client:
        with pytest.raises(ApiProblem, match="there is not enough room: 60GiB do not fit") as refused:
            await client.wake("chat")
    with pytest.raises(ApiProblem) as also:
        await in_thread(lambda: Client(tmp_path / "s").wake("chat"))
    assert (refused.value.kind, refused.value.status, refused.value.hint) == ("no_room", 409, "wait")
    assert refused.value.text == also.value.text


async def test_where_nobody_listens_that_is_said(tmp_path: Path) -> None:
    for path, told in ((tmp_path / "none", "there is no such socket"), (tmp_path / "stale", "nothing listens")):
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(tmp_path / "stale" if path.name == "stale" else tmp_path / "other"))
        (tmp_path / "other").unlink(missing_ok=True)
        with pytest.raises(DaemonUnreachable, match=told):
            Client(path).status()
        async with AsyncClient(path) as client:
            with pytest.raises(DaemonUnreachable, match=told):
                await client.status()


async def test_a_hold_lasts_as_long_as_its_block(daemon: FakeDaemon, tmp_path: Path) -> None:
    def held_meanwhile() -> tuple[list[str], list[str]]:
        client = Client(tmp_path / "s")
        with client.holding("embed", reason="batch") as held:
            assert held.hold is not None
            assert (held.hold["reason"], held.hold["attached"], held.hold["until"]) == ("batch", True, None)
            during = [hold["id"] for hold in client.holds().body["holds"]]
            assert during == [held.id]
        return during, [hold["id"] for hold in client.holds().body["holds"]]

    during, after = await in_thread(held_meanwhile)
    assert (len(during), after) == (1, [])
    assert any(isinstance(wish, WakeAsked) for wish in daemon.asked)
    async with AsyncClient(tmp_path / "s") as client, asyncio.timeout(LIMIT_S):
        async with client.holding("embed", "mine") as hold:
            assert (hold["id"], hold["model"]) == ("mine", "embed")
            assert (await client.model("embed")).body["holds"] == ["mine"]
        assert (await client.holds()).body["holds"] == []
    assert {"mine", *during} == {hold_id for hold_id, _ in daemon.detached}


async def test_a_hold_that_somebody_lets_go_of_is_lost_and_not_taken_again(daemon: FakeDaemon, tmp_path: Path) -> None:
    told = threading.Event()

    def lose() -> str:
        client = Client(tmp_path / "s")
        with client.holding("embed", "mine", on_lost=lambda _: told.set()) as held:
            client.release("mine")
            assert told.wait(LIMIT_S)
        return held.lost

    assert await in_thread(lose) == "let go of"
    lost = asyncio.Event()
    async with (
        asyncio.timeout(LIMIT_S),
        AsyncClient(tmp_path / "s") as client,
        client.holding("embed", "mine", on_lost=lambda _: lost.set()),
    ):
        await client.release("mine")
        await lost.wait()
    assert sum(isinstance(wish, HoldAsked) for wish in daemon.asked) == 2


async def test_a_refused_wake_lets_go_of_a_new_hold(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["chat"] = Answer(1, AnswerKind.TIMED_OUT, waited_s=5)
    with pytest.raises(ApiProblem, match="not done in time"):
        await in_thread(lambda: Client(tmp_path / "s").hold("x", "chat", ttl_s=9))
    assert not daemon.world.models["chat"].holds


async def test_a_broken_stream_is_asked_for_again(tmp_path: Path) -> None:
    """The daemon goes away and comes back: the hold is put again, events go on with a gap in between."""
    first, second = FakeDaemon(), FakeDaemon()
    second.ring = type(second.ring)("e2")
    client = Client(tmp_path / "s")
    seen: list[dict[str, Any]] = []
    done = threading.Event()

    def follow() -> None:
        for event in client.events(resume_for_s=LIMIT_S):
            seen.append(event)
            if event.get("text") == "after":
                break
        done.set()

    first.note("before")
    thread = threading.Thread(target=follow)
    held = client.holding("embed", "mine")
    async with serving(first, tmp_path / "s"):
        await in_thread(held.__enter__)
        thread.start()
        await until(lambda: bool(seen))
    async with serving(second, tmp_path / "s"), asyncio.timeout(LIMIT_S):
        second.note("after")
        await until(lambda: any(isinstance(wish, HoldAsked) for wish in second.asked))
        await in_thread(done.wait)
        await in_thread(lambda: held.__exit__(None, None, None))
        assert held.lost == ""
    thread.join(LIMIT_S)
    assert [event["kind"] for event in seen] == ["state", "gap", "state"]


def test_names_go_into_paths_whole() -> None:
    assert asks.of_model("a/../b ä%", "wake") == "/v1/models/a%2F..%2Fb%20%C3%A4%25/wake"


def test_a_number_that_cannot_be_is_asked_for_and_so_refused() -> None:
    assert asks.history(limit=0).path == "/v1/history?limit=0"
    assert asks.history("buckets", step_s=0, since="", models=()).path == "/v1/history/buckets?step_s=0"


async def test_a_reservation_tells_what_it_waits_for_and_is_given_back(daemon: FakeDaemon, tmp_path: Path) -> None:
    told: list[str] = []
    daemon.never.add("job")

    def waits(line: Any) -> None:
        told.append(line["waits_for"])
        daemon.never.discard("job")

    def work() -> Any:
        with Client(tmp_path / "s").reserve([0], 1 << 30, "job", reason="training", on_progress=waits) as kept:
            return kept.reservation

    for kept in (await in_thread(work), await _reserve_async(tmp_path / "s", daemon, waits)):
        assert (kept["granted"], kept["reason"], kept["attached"]) == (True, "training", True)
        assert daemon.world.reservations == {}
    assert told == ["chat to fall asleep"] * 2


async def _reserve_async(path: Path, daemon: FakeDaemon, waits: Callable[[Any], None]) -> Any:
    daemon.never.add("job")
    async with (
        AsyncClient(path) as client,
        client.reserve([0], 1 << 30, "job", reason="training", on_progress=waits) as kept,
    ):
        return kept


@pytest.mark.parametrize("late", [False, True], ids=["at once", "in the stream"])
async def test_a_reservation_that_is_refused_raises_the_refusal(daemon: FakeDaemon, tmp_path: Path, late: bool) -> None:
    daemon.answers["job"] = Answer(1, AnswerKind.REFUSED, problem="no_room", detail="chat is pinned")
    if late:
        daemon.never.add("job")

    def work() -> None:
        with Client(tmp_path / "s").reserve([0], 1 << 30, "job", on_progress=lambda line: daemon.never.discard("job")):
            raise AssertionError("it was refused")

    with pytest.raises(ApiProblem, match="chat is pinned") as refused:
        await in_thread(work)
    assert (refused.value.kind, refused.value.status) == ("no_room", 409)


async def test_a_reservation_that_somebody_ended_is_told_as_lost(daemon: FakeDaemon, tmp_path: Path) -> None:
    lost = threading.Event()

    def work() -> str:
        with Client(tmp_path / "s").reserve(["GPU-x"], 1 << 30, "job", on_lost=lambda why: lost.set()) as kept:
            assert lost.wait(LIMIT_S)
            return kept.lost

    watching = asyncio.create_task(in_thread(work))
    await until(lambda: "job" in daemon.world.reservations)
    daemon.world = replace(daemon.world, reservations={})
    assert await watching == "given back"
