"""`[gpu] backend = "none"`: no NVML at all; declared bytes decide who fits, and servers' own word proves."""

from tests.integration.harness import GIB, Host
from tests.integration.waiting import wait_until


def test_declared_bytes_decide_who_fits(host: Host) -> None:
    host.nvml = {}  # a host without a driver
    declared = {"vram": "50GiB"}
    extra = '[gpu]\nbackend = "none"\nmargin = "0B"\ncapacity = { "0" = "80GiB" }'
    host.configure("a", "b", a=declared, b=declared, extra=extra)
    a, b = host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    assert b.ask("POST", "/sleep?level=1").status == 200
    before = a.complete()
    daemon = host.start_daemon()
    daemon.await_model("a", state="awake")
    (gpu,) = wait_until(lambda: daemon.client.status().body["gpus"], "the declared GPU to be looked at")
    assert (gpu["index"], gpu["total_bytes"], gpu["free_bytes"]) == (0, 80 * GIB, 30 * GIB)
    daemon.client.sleep("a")
    assert daemon.client.status().body["gpus"][0]["free_bytes"] == 80 * GIB
    daemon.client.wake("a")
    assert a.complete() == before
    daemon.await_model("b", state="asleep")
    daemon.client.wake("b")
    assert (daemon.model("a")["state"], daemon.model("b")["state"]) == ("asleep", "awake"), "a made room"
