"""Jobs that borrow room from real servers on two GPUs: it is made, kept, and everything returns however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from sleepd.sim.ledger import LedgerGpu
from tests.integration.harness import GIB, GPU_BYTES, Host
from tests.integration.test_room import assert_no_call_failed
from tests.integration.waiting import WAIT_LIMIT_S, wait_until

SLEEPCTL = [sys.executable, "-m", "sleepd.cli.ctl"]
EXAMPLE = Path(__file__).parents[2] / "examples" / "rlhf_loop.py"
TWO = (LedgerGpu("GPU-0000", GPU_BYTES), LedgerGpu("GPU-1111", GPU_BYTES))


def two_models(host: Host) -> None:
    host.set_gpus(*TWO)
    host.configure("chat", "code", chat={"gpus": ["0"]}, code={"gpus": ["1"]})


def run(host: Host, *words: str) -> subprocess.Popen[str]:
    environ = os.environ | {"SLEEPD_SOCKET": str(host.socket)}
    return subprocess.Popen([*SLEEPCTL, "reserve", *words], stdout=-1, stderr=-1, text=True, env=environ)


def test_a_job_takes_room_on_two_gpus_over_a_daemon_s_death_and_gives_it_back(host: Host) -> None:
    two_models(host)
    (chat,), (code,) = host.start_servers("chat"), host.start_servers("code", gpus=(1,))
    daemon = host.start_daemon()
    right = {server.name: daemon.watch_use(server) for server in (chat, code)}
    for server in (chat, code):
        daemon.client.sleep(server.name)
        daemon.client.wake(server.name)
    go = host.root / "go"
    script = f"echo running; until [ -e {go} ]; do sleep 0.05; done; exit 9"
    job = run(host, "--gpu", "0,1", "--vram", "60GiB", "--id", "job", "--reason", "training", "--", "sh", "-c", script)
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "running\n"
        assert [gpu.free_bytes for gpu in host.ledger.read()] == [79 * GIB] * 2
        (kept,) = daemon.client.reservations().body["reservations"]
        assert (kept["granted"], sorted(kept["aside"]), kept["attached"]) == (True, ["chat", "code"], True)
        for index in (0, 1):
            host.ledger.claim(index, job.pid, 20 * GIB)
        refused = daemon.ask("POST", "/v1/models/chat/wake", {"timeout_s": 5})
        assert (refused.status, refused.data["kind"]) == (409, "reserved")
        assert "60GiB on GPU 0, 1" in refused.data["detail"]
        assert "training" in refused.data["detail"]
        daemon.kill()
        daemon = host.start_daemon()
        wait_until(lambda: daemon.client.reservations().body["reservations"][0]["attached"], "the stream again")
        reserved = [gpu["reserved_bytes"] for gpu in daemon.client.status().body["gpus"]]
        assert reserved == [40 * GIB] * 2, "what the job took is not kept for it twice"
        assert daemon.ask("POST", "/v1/models/code/wake", {"timeout_s": 5}).data["kind"] == "reserved"
        host.ledger.forget(job.pid)
        go.touch()
        assert job.wait(WAIT_LIMIT_S) == 9
        assert job.stderr is not None
        assert "waiting for 60GiB on GPU 0,1: for " in job.stderr.read()
    finally:
        go.touch()
        job.kill()
        job.communicate()
    assert daemon.client.reservations().body["reservations"] == []
    for server in (chat, code):
        daemon.await_model(server.name, state="awake")
        assert server.complete() == right[server.name]
    assert_no_call_failed(chat, code)


def test_without_a_command_it_is_kept_until_interrupted_and_needs_no_room_twice(host: Host) -> None:
    two_models(host)
    host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.client.sleep("chat")
    keeper = run(host, "--gpu", "0", "--vram", "70GiB")
    try:
        assert keeper.stdout is not None
        assert "70GiB on GPU 0 reserved until you interrupt this" in keeper.stdout.readline()
        late = run(host, "--gpu", "0", "--vram", "20GiB", "--timeout", "1s", "--", "true")
        _, told = late.communicate(timeout=WAIT_LIMIT_S)
        assert late.returncode == 125
        assert "the room is reserved" in told
        keeper.send_signal(signal.SIGINT)
        assert keeper.wait(WAIT_LIMIT_S) == 0
    finally:
        keeper.kill()
        keeper.communicate()
    never = run(host, "--gpu", "7", "--vram", "1GiB", "--", "true")
    _, told = never.communicate(timeout=WAIT_LIMIT_S)
    assert never.returncode == 125
    assert "there is no GPU 7 here" in told
    daemon.client.wake("chat")


def test_a_sleepctl_that_is_told_to_end_ends_its_command_and_the_room_returns(host: Host) -> None:
    host.configure("chat")
    (chat,) = host.start_servers("chat")
    daemon = host.start_daemon()
    right = daemon.watch_use(chat)
    script = "trap 'echo told; exit 7' TERM; echo running; while :; do sleep 0.05; done"
    job = run(host, "--gpu", "0", "--vram", "70GiB", "--", "sh", "-c", script)
    try:
        assert job.stdout is not None
        assert job.stdout.readline() == "running\n"
        assert daemon.client.model("chat").body["state"] == "asleep"
        job.send_signal(signal.SIGTERM)
        assert job.stdout.read() == "told\n", "its command gets the signal, and ends as it likes"
        assert job.wait(WAIT_LIMIT_S) == 7
    finally:
        job.kill()
        job.communicate()
    assert daemon.client.reservations().body["reservations"] == []
    daemon.await_model("chat", state="awake")
    assert chat.complete() == right


def test_the_example_alternates_training_and_inference(host: Host) -> None:
    host.configure("chat")
    (chat,) = host.start_servers("chat")
    daemon = host.start_daemon()
    daemon.client.sleep("chat")
    options = ["--socket", str(host.socket), "--model", "chat", "--steps", "2", "--seconds", "0.1", "--rollouts", "2"]
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE), *options], capture_output=True, text=True, timeout=WAIT_LIMIT_S * 2, check=True
    )
    lines = ran.stdout.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "step 1: 2 roll-outs from chat",
        "step 1: trained with 60GiB on GPU 0",
        "step 2: 2 roll-outs from chat",
        "step 2: trained with 60GiB on GPU 0",
    ]
    assert all("aside: chat" in line for line in lines[1::2])
    assert_no_call_failed(chat)
