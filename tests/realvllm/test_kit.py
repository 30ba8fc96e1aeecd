"""The real vLLM with the tests' plugin does what a vLLM on a GPU does: this is what the other tests stand on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sleepd.sim.ledger import is_running
from tests.realvllm.fixtures import PROMPT, RealPair
from tests.realvllm.server import MIB, RealServer, ServerFailed

pytestmark = pytest.mark.vllm

AWAKE_BYTES = 3300 * MIB
ASLEEP_BYTES = 300 * MIB
WEIGHTS_BLOCK_BYTES = 250 * MIB
KV_BLOCK_BYTES = 500 * MIB


@pytest.fixture
def server(real_servers: RealPair) -> RealServer:
    """Awake, and alone on its GPU but for a sleeping neighbour."""
    return real_servers.first


@pytest.fixture
def right_answer(real_servers: RealPair) -> str:
    return real_servers.right_answers["tiny-1"]


def order(server: RealServer, path: str, body: object = None) -> None:
    answer = server.request("POST", path, body)
    assert answer.status == 200, answer


def refuse(server: RealServer, path: str, body: object = None) -> str:
    """The call fails as vLLM's calls do: status 500 and a message, the server alive."""
    answer = server.request("POST", path, body)
    assert (answer.status, server.is_healthy()) == (500, True), answer
    return str(answer.body["error"]["message"])


def worker(server: RealServer, method: str, **kwargs: object) -> tuple[RealServer, str, dict[str, object]]:
    return server, "/collective_rpc", {"method": method, "kwargs": kwargs}


def expect_death(server: RealServer) -> None:
    """The next forward pass ends engine and server: the request fails, the exit status is 0, no memory is held."""
    engine = server.engine_pid
    with pytest.raises((ServerFailed, OSError)):
        server.chat(PROMPT)
    assert server.wait_ended() == 0
    assert server.used_bytes() == 0
    assert not is_running(engine)


def test_the_two_answer_differently(real_servers):
    assert len(set(real_servers.right_answers.values())) == 2


def test_level_1_gives_the_memory_back_and_keeps_the_weights(server, right_answer):
    assert server.used_bytes() == AWAKE_BYTES
    order(server, "/sleep?level=1")
    assert (server.used_bytes(), server.is_sleeping()) == (ASLEEP_BYTES, True)
    order(server, "/wake_up")
    assert (server.used_bytes(), server.is_sleeping()) == (AWAKE_BYTES, False)
    assert server.chat(PROMPT) == right_answer


def test_level_2_without_a_reload_talks_nonsense(server, right_answer):
    order(server, "/sleep?level=2")
    assert server.used_bytes() == ASLEEP_BYTES
    order(server, "/wake_up")
    assert server.chat(PROMPT) != right_answer
    order(*worker(server, "reload_weights"))
    assert server.chat(PROMPT) == right_answer


def test_level_2_in_stages_answers_right(server, right_answer):
    order(server, "/sleep?level=2")
    order(server, "/wake_up?tags=weights")
    assert server.used_bytes() == ASLEEP_BYTES + 4 * WEIGHTS_BLOCK_BYTES
    order(*worker(server, "reload_weights"))
    order(server, "/wake_up?tags=kv_cache")
    assert server.chat(PROMPT) == right_answer


def test_level_2_on_a_sleeper_is_a_lying_200(server, right_answer):
    order(server, "/sleep?level=1")
    assert server.request("POST", "/sleep?level=2").body == {"status": "sleeping", "level": 2}
    order(server, "/wake_up")
    assert server.chat(PROMPT) == right_answer


def test_a_request_sent_to_a_sleeper_is_answered_after_the_wake(server, right_answer):
    order(server, "/sleep?level=1")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.chat, PROMPT)
        time.sleep(0.3)
        assert not waiting.done()
        order(server, "/wake_up")
        assert waiting.result(10) == right_answer


def test_a_request_can_be_made_long(server):
    began = time.monotonic()
    server.chat(PROMPT, max_tokens=20, pace_ms=30)
    assert time.monotonic() - began >= 20 * 0.030


def test_a_bare_wake_after_a_failed_sleep_kills_the_engine(server):
    server.fault("sleep after=2")
    assert "CUDA error: out of memory" in refuse(server, "/sleep?level=1")
    assert server.used_bytes() == AWAKE_BYTES - 2 * WEIGHTS_BLOCK_BYTES
    assert (server.is_sleeping(), server.fault_is_waiting) == (True, False)
    order(server, "/wake_up")  # an executor no-op that resumes the scheduler
    assert server.used_bytes() == AWAKE_BYTES - 2 * WEIGHTS_BLOCK_BYTES
    expect_death(server)


def test_a_failed_sleep_is_repeated(server, right_answer):
    server.fault("sleep after=2")
    refuse(server, "/sleep?level=1")
    order(server, "/sleep?level=1&mode=keep")
    assert server.used_bytes() == ASLEEP_BYTES
    order(server, "/wake_up")
    assert server.chat(PROMPT) == right_answer


def test_a_failed_sleep_is_undone_on_the_worker(server, right_answer):
    server.fault("sleep after=6")
    refuse(server, "/sleep?level=1")
    order(*worker(server, "wake_up"))
    order(server, "/wake_up")
    assert server.used_bytes() == AWAKE_BYTES
    assert server.chat(PROMPT) == right_answer


def test_a_failed_wake_goes_on_where_it_stopped(server, right_answer):
    order(server, "/sleep?level=1")
    server.fault("wake_up after=2")
    assert "CUDA Error: out of memory" in refuse(server, "/wake_up")
    assert server.used_bytes() == ASLEEP_BYTES + 2 * WEIGHTS_BLOCK_BYTES
    order(server, "/wake_up")
    assert server.used_bytes() == AWAKE_BYTES
    assert server.chat(PROMPT) == right_answer


def test_a_wake_that_does_not_fit_beside_its_neighbour(real_servers):
    first, second = real_servers.servers
    assert "CUDA Error: out of memory" in refuse(second, "/wake_up")
    assert second.used_bytes() == ASLEEP_BYTES + 4 * WEIGHTS_BLOCK_BYTES  # what did fit stays mapped
    order(*worker(second, "sleep", level=1))
    assert second.used_bytes() == ASLEEP_BYTES
    order(first, "/sleep?level=1")
    order(second, "/wake_up")
    assert second.chat(PROMPT) == real_servers.right_answers["tiny-2"]


def test_a_neighbour_that_grows_during_a_sleep_fails_it(real_servers):
    first, second = real_servers.servers
    first.fault("delay sleep after=8 s=1")
    with ThreadPoolExecutor() as pool:
        sleeping = pool.submit(refuse, first, "/sleep?level=1")
        while first.used_bytes() > ASLEEP_BYTES:
            time.sleep(0.02)
        order(second, "/wake_up")
        real_servers.ledger.claim(0, first.pid, 400 * MIB)
        assert "Memory usage increased after sleeping." in sleeping.result(10)
    real_servers.ledger.forget(first.pid)
    assert first.used_bytes() == ASLEEP_BYTES


def test_a_reload_that_fails_between_layers_is_repeated(server, right_answer):
    order(server, "/sleep?level=2")
    order(server, "/wake_up?tags=weights")
    server.fault("reload_weights after=4")
    assert "Input/output error" in refuse(*worker(server, "reload_weights"))
    order(*worker(server, "reload_weights"))
    order(server, "/wake_up?tags=kv_cache")
    assert server.chat(PROMPT) == right_answer


def test_a_reload_that_fails_inside_a_merged_layer_is_repeated_twice(server, right_answer):
    order(server, "/sleep?level=2")
    order(server, "/wake_up?tags=weights")
    server.fault("reload_weights after=5")  # gate_proj is read, up_proj is not: vLLM holds both in one layer
    assert "Input/output error" in refuse(*worker(server, "reload_weights"))
    assert "has no attribute 'weight_loader'" in refuse(*worker(server, "reload_weights"))
    order(*worker(server, "reload_weights"))
    order(server, "/wake_up?tags=kv_cache")
    assert server.chat(PROMPT) == right_answer


def test_sleep_at_level_2_after_a_failed_weights_stage_ruins_the_process(server):
    order(server, "/sleep?level=2")
    server.fault("wake_up after=2")
    refuse(server, "/wake_up?tags=weights")
    for _ in range(2):  # the error is sticky
        assert "illegal memory access" in refuse(*worker(server, "sleep", level=2))


def test_a_hanging_wake_blocks_the_engine_and_not_health(server):
    order(server, "/sleep?level=1")
    server.fault("hang wake_up after=1")
    with pytest.raises(TimeoutError):
        server.request("POST", "/wake_up", timeout_s=1)
    with pytest.raises(TimeoutError):
        server.request("GET", "/is_sleeping", timeout_s=1)
    assert server.is_healthy()


def test_the_api_server_dies_and_its_engine_keeps_the_memory_until_stop(server):
    engine = server.engine_pid
    server.kill_api_server()
    server.wait_ended()
    assert server.used_bytes() == AWAKE_BYTES
    server.stop()
    assert not is_running(engine)


def test_the_engine_dies_and_the_server_ends_with_status_0(server):
    server.kill_engine()
    assert server.wait_ended() == 0
    assert server.used_bytes() == 0


def test_stop_leaves_nothing(server):
    pids = (server.pid, server.engine_pid)
    server.stop()
    assert not any(is_running(pid) for pid in pids)
    assert not server.is_healthy()
