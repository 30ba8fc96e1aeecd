"""Two models that do not fit together: waking one puts the other to sleep first, and vLLM never runs out of memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.waiting import wait_until
from tests.realvllm.daemon_host import ASLEEP_BYTES, AWAKE_BYTES, DaemonHost
from tests.realvllm.fixtures import PROMPT

pytestmark = pytest.mark.vllm


def test_waking_one_puts_the_other_to_sleep_first(host: DaemonHost) -> None:
    first, second = host.pair.servers
    logged = {server.name: len(server.read_log()) for server in host.pair.servers}
    host.configure()
    daemon = host.start()
    for wanted, other in ((second, first), (first, second)):
        assert daemon.wake(wanted.name)["model"]["state"] == "awake"
        assert (wanted.used_bytes(), other.used_bytes()) == (AWAKE_BYTES, ASLEEP_BYTES)
        assert wanted.chat(PROMPT) == host.pair.right_answers[wanted.name]
        room = daemon.await_told("victim", wanted.name)
        assert room["text"].startswith(f"{other.name} makes room for {wanted.name} (nobody else could; ")
        moves = [e for e in daemon.told("state") if e["data"]["fact"] in ("l1_confirmed", "wake_chosen")]
        assert [event["model"] for event in moves[-2:]] == [other.name, wanted.name]
    for server in host.pair.servers:
        assert "out of memory" not in server.read_log()[logged[server.name] :]


def test_a_busy_one_is_waited_for(host: DaemonHost) -> None:
    """The wish stands until the direct request is answered: nothing is aborted, nothing is squeezed in."""
    first, second = host.pair.servers
    host.configure()
    daemon = host.start()
    daemon.await_model("tiny-1", state="awake")
    with ThreadPoolExecutor() as pool:
        long = pool.submit(first.chat, PROMPT, max_tokens=40, pace_ms=50)
        daemon.await_model("tiny-1", running=1)
        waking = pool.submit(daemon.wake, "tiny-2")
        wait_until(lambda: "waits for its turn" in daemon.model("tiny-2")["reason"], "tiny-2 to wait for tiny-1's turn")
        assert daemon.model("tiny-2")["state"] == "asleep"
        assert len(long.result(20)) > len(host.pair.right_answers["tiny-1"])
        assert waking.result(20)["model"]["state"] == "awake"
    assert second.chat(PROMPT) == host.pair.right_answers["tiny-2"]
    assert (first.used_bytes(), second.used_bytes()) == (ASLEEP_BYTES, AWAKE_BYTES)


def test_a_job_takes_the_room_of_both_and_gives_it_back(host: DaemonHost) -> None:
    host.configure()
    daemon = host.start()
    awake = host.pair.servers[0]
    daemon.wake(awake.name)
    right = host.pair.right_answers
    gpu = daemon.client.status().body["gpus"][0]
    with daemon.client.reserve([0], gpu["total_bytes"] - 2 * ASLEEP_BYTES - gpu["margin_bytes"]) as kept:
        assert kept.reservation is not None
        assert kept.reservation["aside"] == [awake.name]
        assert [server.used_bytes() for server in host.pair.servers] == [ASLEEP_BYTES] * 2
        assert daemon.refuse("wake", awake.name).kind == "reserved"
    daemon.await_model(awake.name, state="awake")
    assert awake.chat(PROMPT) == right[awake.name]
