"""What is wrong is told once: what was wanted, what was found, what to do. Other models go on being managed."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from sleepd.sim.ledger import Ledger
from tests.integration.harness import Daemon, Host, Server
from tests.integration.waiting import wait_until
from tests.integration.wire import Answer

SMALL = ("--weights", "4GiB", "--kv", "4GiB")


def assert_managed(daemon: Daemon, server: Server) -> None:
    """The healthy neighbour can be put to sleep and woken."""
    assert daemon.client.sleep(server.name).status == 200
    assert daemon.client.wake(server.name).status == 200
    assert server.complete()


def failure_of(daemon: Daemon, name: str) -> dict[str, Any]:
    return wait_until(lambda: daemon.model(name)["failure"], f"the trouble of {name} to be told")


def ask(daemon: Daemon, what: str, name: str = "a", timeout_s: float = 5) -> Answer:
    return daemon.ask("POST", f"/v1/models/{name}/{what}", {"timeout_s": timeout_s})


# servers


def test_unreachable_server(host: Host) -> None:
    host.configure("a", "ok")
    (ok,) = host.start_servers("ok")
    daemon = host.start_daemon()
    failure = failure_of(daemon, "a")
    assert failure["code"] == "lost"
    assert failure["detail"] == (
        f"nothing answers at unix:{host.root}/a.sock (No such file or directory):"
        " start the server, or check url in [models.a]"
    )
    refused = ask(daemon, "wake")
    assert (refused.status, refused.data["kind"], refused.data["detail"]) == (503, "engine_failed", failure["detail"])
    assert_managed(daemon, ok)


def test_server_without_dev_mode(host: Host) -> None:
    host.configure("a", "ok")
    (a,) = host.start_servers("a", options=(*SMALL, "--no-dev-mode"))
    (ok,) = host.start_servers("ok", options=SMALL)
    daemon = host.start_daemon()
    failure = failure_of(daemon, "a")
    assert failure["code"] == "no_dev_mode"
    assert "wanted /is_sleeping, found status 404; start the server with VLLM_SERVER_DEV_MODE=1" in failure["detail"]
    assert failure["detail"] in ask(daemon, "sleep").data["detail"]
    assert a.complete()
    assert_managed(daemon, ok)


@pytest.mark.parametrize(
    ("options", "version", "told"),
    [
        (("--no-sleep-mode",), "0.32.0", "the server runs without --enable-sleep-mode: restart it with that"),
        ((), "0.16.0", "vLLM 0.16.0 dies of a request while asleep; set fenced = true"),
    ],
)
def test_server_that_may_not_sleep(host: Host, options: tuple[str, ...], version: str, told: str) -> None:
    """No sleep mode: vLLM answers 200 and frees nothing. Up to 0.16: the next direct request kills the sleeper."""
    host.configure("a", "ok", idle="1s")
    (a,) = host.start_servers("a", version=version, options=(*SMALL, *options))
    (ok,) = host.start_servers("ok", options=SMALL)
    daemon = host.start_daemon()
    assert told in daemon.client.explain("a").body["verdict"]
    assert daemon.model("a")["next"] is None
    refused = ask(daemon, "sleep")
    assert (refused.status, refused.data["kind"]) == (409, "level_unsafe")
    assert told in refused.data["detail"]
    daemon.await_model("ok", state="asleep")
    assert daemon.model("a")["state"] == "awake"
    assert a.calls("/sleep") == {}
    assert daemon.client.wake("ok").status == 200
    assert ok.complete()


def test_something_else_than_vllm_at_the_url(host: Host) -> None:
    host.configure("a", "ok", a={"url": f"unix:{host.socket}"})
    (ok,) = host.start_servers("ok")
    daemon = host.start_daemon()
    failure = failure_of(daemon, "a")
    assert failure["code"] == "not_vllm"
    # Our own API has a page of metrics, too: what tells them apart is the version.
    assert f"wanted vLLM's /version of unix:{host.socket}, found something else" in failure["detail"]
    assert "check url in [models.a]" in failure["detail"]
    assert_managed(daemon, ok)


# files


def test_every_error_of_the_files_is_told_at_once(host: Host) -> None:
    wrong = "[gpu]\nmargn = '2GiB'\n[recovery]\nstuck_after = '5 parsecs'"
    host.configure("a", "b", extra=wrong, b={"url": f"unix:{host.root}/a.sock"})
    daemon = host.start_daemon(ready=False)
    assert daemon.wait() == 2
    doubled, unknown, impossible = daemon.words().strip().splitlines()
    file = host.etc / "sleepd.toml"
    lines = file.read_text().splitlines()
    first, second = (n for n, line in enumerate(lines, 1) if line.startswith("url = "))
    margn, stuck = lines.index("margn = '2GiB'") + 1, lines.index("stuck_after = '5 parsecs'") + 1
    assert doubled.startswith(f"{file}:{second}: ")
    assert f"is also the url of model a ({file}:{first})" in doubled
    assert unknown.startswith(f'{file}:{margn}: unknown key "margn" in [gpu]; did you mean "margin"?')
    assert impossible.startswith(f"{file}:{stuck}: [recovery] stuck_after: wanted a duration")
    assert 'found "5 parsecs"' in impossible


# GPUs


def test_no_nvml_library(host: Host) -> None:
    host.configure("a", idle="1s")
    (a,) = host.start_servers("a")
    # The dynamic linker reads it when a program is executed.
    daemon = host.start_daemon(executed=True, LD_LIBRARY_PATH="/nowhere")
    (note,) = wait_until(lambda: daemon.client.status().body["notes"], "the missing library to be told")
    assert "install the NVIDIA driver (libnvidia-ml.so.1)" in note
    refused = ask(daemon, "sleep")
    assert (refused.status, refused.data["kind"]) == (409, "blind")
    assert "install the NVIDIA driver" in refused.data["detail"]
    wait_until(lambda: daemon.model("a")["idle_s"] > 1.2, "the idle time to pass")
    assert a.calls("/sleep") == {}
    assert daemon.words().count("GPU memory cannot be read") == 1


def test_nvml_that_begins_to_fail(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    (host.ledger.directory / "nvml_error").write_text("15 nvmlDeviceGetMemoryInfo")
    (note,) = wait_until(lambda: daemon.client.status().body["notes"], "NVML's error to be told")
    assert "GPU is lost" in note
    assert "reboot" in note
    refused = ask(daemon, "wake", timeout_s=0.3)
    assert (refused.status, refused.data["kind"]) == (409, "blind")
    assert "GPU is lost" in refused.data["detail"]
    assert a.calls("/wake_up") == {}


def test_no_gpu(host: Host) -> None:
    host.configure("a")
    host.start_servers("a")
    Ledger.create(host.ledger.directory, [])
    daemon = host.start_daemon()
    (note,) = wait_until(lambda: daemon.client.status().body["notes"], "the missing GPU to be told")
    assert "wanted at least one GPU, found none; nvidia-smi -L tells more" in note
    assert "found none" in ask(daemon, "sleep").data["detail"]


def test_gpu_that_does_not_exist(host: Host) -> None:
    host.configure("a", "ok", a={"gpus": ["7"]})
    _, ok = host.start_servers("a", "ok", options=SMALL)
    daemon = host.start_daemon()
    told = "gpus = 7 in [models.a], but the GPUs here are 0 (nvidia-smi -L)"
    assert daemon.client.explain("a").body["verdict"] == f"stays awake: {told}"
    refused = ask(daemon, "sleep")
    assert (refused.status, refused.data["kind"]) == (409, "blind")
    assert told in refused.data["detail"]
    assert_managed(daemon, ok)


# the state directory


def test_newer_state_database(host: Host) -> None:
    host.configure("a")
    path = host.root / "state" / "state.db"
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    daemon = host.start_daemon(ready=False)
    assert daemon.wait() == 1
    (line,) = daemon.words().strip().splitlines()
    assert f"{path}: wanted a state database of version " in line
    assert "or older, found version 99" in line
    assert "start that one, or move the file away" in line


def test_corrupt_state_database(host: Host) -> None:
    host.configure("a")
    path = host.root / "state" / "state.db"
    path.parent.mkdir()
    path.write_bytes(b"this is no database" * 1000)
    daemon = host.start_daemon(ready=False)
    assert daemon.wait() == 1
    (line,) = daemon.words().strip().splitlines()
    assert f"{path}: wanted a readable sleepd state database, found: file is not a database" in line
    assert "move the file away to start anew" in line


def test_second_daemon(host: Host) -> None:
    host.configure("a")
    host.start_servers("a")
    first = host.start_daemon()
    second = host.start_daemon(ready=False)
    assert second.wait() == 1
    line = first.words().strip().splitlines()[-1]
    assert f"wanted to be the only sleepd on {host.root}/state, found another one (pid {first.pid}): stop it" in line
    config = host.etc / "sleepd.toml"
    config.write_text(config.read_text().replace("/state", "/other"))
    third = host.start_daemon(ready=False)
    assert third.wait() == 1
    line = first.words().strip().splitlines()[-1]
    assert f"cannot listen on {host.socket}: another process does, most likely a second sleepd; stop it" in line
    assert first.model("a")["state"] == "awake"
    assert first.client.sleep("a").status == 200
