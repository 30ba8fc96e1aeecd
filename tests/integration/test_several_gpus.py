"""Two GPUs with real processes: a tensor-parallel model takes room on both; MIG devices are places of their own."""

from __future__ import annotations

import pytest

from sleepd.sim.ledger import LedgerGpu
from tests.integration.harness import GIB, GPU_BYTES, Host
from tests.integration.test_room import assert_no_call_failed

TWO = (LedgerGpu("GPU-0000", GPU_BYTES), LedgerGpu("GPU-1111", GPU_BYTES))
SMALL = ("--weights", "8GiB", "--kv", "20GiB")
LARGE = ("--weights", "8GiB", "--kv", "45GiB")


@pytest.mark.waits_long
def test_a_wide_model_takes_room_on_both_gpus_from_those_whose_sleep_costs_least(host: Host) -> None:
    host.set_gpus(*TWO)
    where = {"quick": ["0"], "slow": ["0"], "alone": ["1"], "wide": ["GPU-0000", "GPU-1111"]}
    host.configure(*where, **{name: {"gpus": gpus} for name, gpus in where.items()})
    (wide,) = host.start_servers("wide", options=SMALL, gpus=(0, 1))
    daemon = host.start_daemon()
    right = {"wide": daemon.watch_use(wide)}
    daemon.client.sleep("wide")
    (quick,) = host.start_servers("quick", options=SMALL)
    (slow,) = host.start_servers("slow", options=(*SMALL, "--wake-seconds", "1"))
    (alone,) = host.start_servers("alone", options=LARGE, gpus=(1,))
    servers = (quick, slow, alone)
    for server in servers:
        daemon.await_model(server.name, state="awake")
        right[server.name] = daemon.watch_use(server)
        daemon.client.sleep(server.name)
        daemon.client.wake(server.name)

    plan = daemon.await_plan("wide")
    assert (plan["would"], plan["exact"]) == ("wake", True)
    assert sorted(v["model"] for v in plan["victims"]) == ["alone", "quick"]
    assert [s["model"] for s in plan["stay"]] == ["slow"]
    daemon.client.wake("wide")
    states = {name: daemon.model(name)["state"] for name in where}
    assert states == {"quick": "asleep", "slow": "awake", "alone": "asleep", "wide": "awake"}
    assert [wide.held_bytes(gpu) for gpu in (0, 1)] == [29 * GIB, 29 * GIB]

    for server in (wide, *servers):
        daemon.client.wake(server.name)
        assert server.complete() == right[server.name]
    assert_no_call_failed(wide, *servers)


def test_models_on_mig_devices_are_named_by_their_uuids_and_leave_each_other_alone(host: Host) -> None:
    parts = [LedgerGpu(f"MIG-{n}", 40 * GIB, mig_of=0) for n in "ab"]
    host.set_gpus(LedgerGpu("GPU-0000", GPU_BYTES), *parts)
    host.configure("x", "y", "z", x={"gpus": ["MIG-a"]}, y={"gpus": ["MIG-b"]}, z={"gpus": ["0"]})
    (x,) = host.start_servers("x", options=SMALL, gpus=(1,))
    _, z = host.start_servers("y", "z", options=("--weights", "8GiB", "--kv", "8GiB"), gpus=(2,))
    assert z.ask("POST", "/sleep?level=1").status == 200
    daemon = host.start_daemon()
    before = daemon.watch_use(x)
    gpus = daemon.client.status().body["gpus"]
    assert [(g["uuid"], g["mig_of"], g["models"]) for g in gpus] == [("MIG-a", 0, ["x"]), ("MIG-b", 0, ["y", "z"])]
    daemon.client.sleep("x")
    assert (x.held_bytes(1), daemon.model("y")["state"]) == (GIB, "awake")
    daemon.client.wake("x")
    assert x.complete() == before
    refused = daemon.ask("POST", "/v1/models/z/wake", {"timeout_s": 5})
    assert (refused.status, refused.data["kind"]) == (409, "blind")
    assert "GPU 0 is divided into MIG devices: name one of MIG-a, MIG-b" in refused.data["hint"]
