"""Forward-auth over the socket API, without a gateway: a proxy's question wakes, and holds for its request."""

from __future__ import annotations

import asyncio
import time

import pytest

from sleepd.client import ApiProblem
from sleepd.client.aio import AsyncClient
from tests.integration.harness import Host
from tests.integration.test_room import start_two_that_do_not_fit


def test_a_question_at_the_gate_wakes_and_holds(host: Host) -> None:
    host.configure("a", idle="1s")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.await_model("a", state="asleep")
    assert daemon.client.gate("a").status == 204
    (hold,) = daemon.client.holds().body["holds"]
    assert (hold["id"], hold["model"]) == ("gate-a", "a")
    # The request that a proxy sends now goes past us. What it finds is awake, and stays so longer than its rule wants.
    asked_at = [hold["until"]]
    assert a.complete()
    time.sleep(1.5)
    assert daemon.model("a")["state"] == "awake"
    assert daemon.client.gate("a", wait_s=0).status == 204
    # Asked again at once, nothing has to be recorded anew: what was taken lasts long enough.
    assert [hold["until"] for hold in daemon.client.holds().body["holds"]] == asked_at
    assert daemon.client.release("gate-a").body["released"]
    daemon.await_model("a", state="asleep")


async def test_who_asks_at_the_gate_waits_with_the_others_and_hears_why_not(host: Host) -> None:
    host.configure("a", "b")
    daemon, _, _ = await asyncio.to_thread(start_two_that_do_not_fit, host)
    await asyncio.to_thread(daemon.client.pin, "b")
    async with AsyncClient(daemon.path) as client:
        with pytest.raises(ApiProblem) as refused:
            await client.gate("a", wait_s=20)
        assert (refused.value.status, refused.value.kind) == (503, "no_room")
        await client.unpin("b")
        answers = await asyncio.gather(*(client.gate("a", wait_s=20) for _ in range(20)))
        assert {answer.status for answer in answers} == {204}
        begun = (await client.tasks()).body["tasks"]
        assert len([task for task in begun if task["model"] == "a" and task["kind"] == "wake"]) == 1
