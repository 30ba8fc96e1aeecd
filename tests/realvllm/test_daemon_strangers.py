"""Somebody else at the controls of a real vLLM, requests that go past the daemon, and questions without number."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.calls import ProbeAnswer
from sleepd.core.known_answer import agreed, is_same
from sleepd.core.model import Known, ModelSpec
from sleepd.core.orders import PROBE_PROMPT
from sleepd.core.seen import Activity, KnownAnswer
from tests.integration.waiting import wait_until
from tests.realvllm.daemon_host import Daemon, DaemonHost
from tests.realvllm.fixtures import PROMPT, RealPair
from tests.realvllm.server import RealServer

pytestmark = pytest.mark.vllm

SHORT_HOLD_DOWN = '[recovery]\nforeign_hold_down = "1s"'
QUESTIONS = 500
ASKED_AT_ONCE = 4
LOAD = 3


def curl(server: RealServer, *calls: str) -> None:
    for call in calls:
        assert server.request("POST", call).status == 200


def start(host: DaemonHost) -> Daemon:
    """A daemon that has settled its doubt about a server that was slept by hand before it came."""
    host.configure(SHORT_HOLD_DOWN)
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    return daemon


def await_right(host: DaemonHost, daemon: Daemon) -> None:
    """It serves again, and what it says is what it said at first."""
    daemon.wake("tiny-1")
    daemon.await_model("tiny-1", state="awake", failure=None)
    assert host.pair.first.chat(PROMPT) == host.pair.right_answers["tiny-1"]


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        (("/sleep?level=1",), "put it to sleep"),
        (("/sleep?level=1", "/wake_up"), "put it to sleep and woke it"),
        (("/sleep?level=2", "/wake_up"), "put it to sleep and woke it"),
        (("/pause", "/resume"), "paused or resumed it"),
    ],
)
def test_a_stranger_with_curl_is_noticed_and_nobody_is_served_nonsense(
    host: DaemonHost, calls: tuple[str, ...], said: str
) -> None:
    """Level 2 and a bare wake leave weights of noise and answer 200: they are read anew before anybody is let in."""
    daemon = start(host)
    curl(host.pair.first, *calls)
    told = daemon.await_told("foreign", "tiny-1")
    assert told["text"].startswith("somebody else ")
    assert said.split()[0] in told["text"]
    wait_until(lambda: daemon.model("tiny-1")["state"] in ("awake", "asleep"), "the hold-down to end")
    await_right(host, daemon)


def test_a_strangers_wake_of_a_sleeper_is_believed_after_a_right_answer(host: DaemonHost) -> None:
    daemon = start(host)
    daemon.sleep("tiny-1")
    curl(host.pair.first, "/wake_up")
    assert "woke it" in daemon.await_told("foreign", "tiny-1")["text"]
    daemon.await_model("tiny-1", state="awake")
    await_right(host, daemon)


def test_an_engine_that_a_trainer_keeps_paused_is_left_alone(host: DaemonHost) -> None:
    daemon = start(host)
    first = host.pair.first
    curl(first, "/pause")
    daemon.await_told("foreign", "tiny-1")
    calls = {path: first.count_calls(path) for path in ("/sleep", "/wake_up", "/resume", "/collective_rpc")}
    time.sleep(3)
    assert daemon.model("tiny-1")["state"] == "unknown"
    assert calls == {path: first.count_calls(path) for path in calls}
    assert first.request("GET", "/is_paused").body == {"is_paused": True}
    curl(first, "/resume")
    daemon.await_model("tiny-1", state="awake")
    await_right(host, daemon)


def test_a_direct_request_that_a_sleeper_holds_wakes_it(host: DaemonHost) -> None:
    daemon = start(host)
    daemon.sleep("tiny-1")
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(host.pair.first.chat, PROMPT)
        daemon.await_model("tiny-1", limit_s=30.0, state="awake")
        assert answer.result(20) == host.pair.right_answers["tiny-1"]
    assert daemon.told("direct", "tiny-1")


def test_five_hundred_questions_under_load_raise_no_false_alarm(real_servers: RealPair) -> None:
    """Whatever batch a question lands in, its answer is the known one as far as that is certain."""
    server = real_servers.first
    differed = asyncio.run(ask_many(server))
    assert differed == []


async def ask_many(server: RealServer) -> list[KnownAnswer]:
    """Every answer that is not the known one, of so many questions beside other requests."""
    vllm = VllmServer(ModelSpec(server.name, server.url), SystemClock(), ProcessFinder(Path("/sys/fs/cgroup")))

    async def ask() -> ProbeAnswer:
        answer = await vllm.complete(PROBE_PROMPT, api_name=server.name, timeout_s=60.0)
        assert isinstance(answer, ProbeAnswer), answer
        return answer

    async def counted() -> Activity:
        reading = await vllm.look(ask_sleeping=False, timeout_s=30.0)
        assert isinstance(reading, Known)
        assert reading.value.activity is not None
        return reading.value.activity

    before = await counted()
    taken = [await ask() for _ in range(2)]
    known = agreed(*(KnownAnswer(answer.tokens) for answer in taken))
    assert known.tokens
    assert await counted() - before == taken[0].spent + taken[1].spent, "their cost is told to the token"
    done = asyncio.Event()

    async def use(number: int) -> None:
        while not done.is_set():
            await asyncio.to_thread(server.chat, f"{PROMPT} {number}", max_tokens=5 + 7 * number)

    async def ask_some() -> list[KnownAnswer]:
        said = [KnownAnswer((await ask()).tokens) for _ in range(QUESTIONS // ASKED_AT_ONCE)]
        return [answer for answer in said if not is_same(answer, known)]

    users = [asyncio.create_task(use(number)) for number in range(LOAD)]
    found = await asyncio.gather(*(ask_some() for _ in range(ASKED_AT_ONCE)))
    done.set()
    await asyncio.gather(*users)
    await vllm.close()
    return [answer for some in found for answer in some]
