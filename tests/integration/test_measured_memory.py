"""Memory as it really is: no process lists, a neighbour that moves, limits above a unit, a leak, a first slow sleep."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.integration.harness import ASLEEP_BYTES, AWAKE_BYTES, GIB, Daemon, Host
from tests.integration.waiting import wait_until

TAKEN_BYTES = AWAKE_BYTES - ASLEEP_BYTES


def gpu_of(daemon: Daemon, name: str = "a") -> dict[str, int | None]:
    found: dict[str, int | None] = daemon.model(name)["gpus"][0]
    return found


def test_without_process_lists_a_sleep_is_measured_by_the_device(host: Host) -> None:
    host.configure("a")
    host.refuse_process_lists()
    (a,) = host.start_servers("a")
    right = a.complete()
    daemon = host.start_daemon()
    for _ in range(2):
        assert daemon.client.sleep("a").status == 200
        assert a.held_bytes() == ASLEEP_BYTES
        assert (gpu_of(daemon)["need_bytes"], gpu_of(daemon)["asleep_bytes"]) == (TAKEN_BYTES, None)
        assert daemon.client.wake("a").status == 200
        assert a.complete() == right


@pytest.fixture
def stranger() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def test_without_process_lists_a_neighbours_memory_is_not_taken_for_the_models(host: Host, stranger: int) -> None:
    """It gives 5 GiB back while the model sleeps: the device frees more than the model does, and nothing is learned."""
    host.configure("a")
    host.refuse_process_lists()
    host.ledger.claim(0, stranger, 5 * GIB)
    (a,) = host.start_servers("a", options=("--sleep-seconds", "2"))
    daemon = host.start_daemon()
    answered: list[int] = []
    sleeping = threading.Thread(target=lambda: answered.append(daemon.client.sleep("a").status))
    sleeping.start()
    wait_until(lambda: a.held_bytes() < AWAKE_BYTES, "the sleep to have begun")
    host.ledger.claim(0, stranger, 30 * GIB)
    wait_until(lambda: a.held_bytes() <= AWAKE_BYTES - 8 * GIB, "the sleep to be half done")
    host.ledger.claim(0, stranger, 0)
    sleeping.join(60.0)
    assert answered == [200]
    assert gpu_of(daemon)["need_bytes"] is None


def test_a_backup_that_does_not_fit_under_the_units_limit_is_refused_until_it_does(host: Host) -> None:
    host.configure("a", a={"unit": "vllm@a.service"})
    (a,) = host.start_servers("a")
    host.set_unit("vllm@a.service", a.pid, used_bytes=4 * GIB, limit_bytes=18 * GIB)
    daemon = host.start_daemon()
    refused = daemon.ask("POST", "/v1/models/a/sleep", {"force": True})
    assert (refused.status, refused.data["kind"]) == (409, "level_unsafe")
    assert "would not fit under memory.max of system.slice/vllm@a.service" in refused.data["detail"]
    assert refused.data["wanted"] == "16GiB of host RAM for its backup"
    assert refused.data["found"] == "14GiB left"
    assert "MemoryMax=" in refused.data["hint"]
    assert a.calls("/sleep") == {}

    host.set_unit("vllm@a.service", a.pid, used_bytes=4 * GIB, limit_bytes=20 * GIB)
    wait_until(lambda: daemon.ask("POST", "/v1/models/a/sleep", {}).status == 200, "the raised limit to be read")
    assert a.held_bytes() == ASLEEP_BYTES


def test_what_was_learned_outlives_the_daemon(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    assert daemon.client.sleep("a").status == 200
    assert daemon.client.wake("a").status == 200
    before = daemon.model("a")
    assert before["gpus"][0]["need_bytes"] == TAKEN_BYTES
    daemon.kill()
    after = host.start_daemon().await_model("a", state="awake")
    assert after["gpus"] == before["gpus"]
    assert after["host_ram_bytes"] == before["host_ram_bytes"]
    assert a.held_bytes() == AWAKE_BYTES


def test_a_model_to_be_primed_sleeps_once_and_is_awake_again(host: Host) -> None:
    host.configure("a", a={"prime": True})
    (a,) = host.start_servers("a", options=("--first-sleep-factor", "20"))
    daemon = host.start_daemon()
    assert daemon.events.await_one("task_begun", "a")["data"]["cause"] == "prime:prime"
    daemon.events.await_one("state", "a", to="asleep_l1")
    woken = daemon.await_model("a", state="awake")
    assert woken["last_wake"]["ok"] is True
    assert (a.calls("/sleep"), a.calls("/wake_up")) == ({"2xx": 1}, {"2xx": 1})
    host.set_ram(9 * GIB)  # its backup is pinned: a sleep takes no more RAM
    wait_until(lambda: daemon.client.status().body["host"]["available_bytes"] == 9 * GIB, "the RAM to be read")
    assert daemon.client.sleep("a").status == 200


def test_a_residual_that_grows_is_told_once_and_fails_nothing(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a", options=("--residual-growth", "3GiB"))
    daemon = host.start_daemon()
    for _ in range(4):
        assert daemon.client.sleep("a").status == 200
        assert daemon.client.wake("a").status == 200
    told = daemon.events.await_one("restart_wanted", "a")
    assert told["data"]["grown_bytes"] == 6 * GIB
    found = daemon.model("a")
    assert "restart it in a quiet moment" in found["restart_wanted"]
    assert (found["state"], found["failure"]) == ("awake", None)
    assert [e["kind"] for e in daemon.events.all].count("restart_wanted") == 1
    assert a.held_bytes() == AWAKE_BYTES + 12 * GIB
