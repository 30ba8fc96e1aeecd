"""Reloading while everything runs: what is touched changes, the rest goes on, and what no operator means is refused."""

import signal
import subprocess
import sys

from tests.integration.harness import Daemon, Host
from tests.integration.waiting import wait_until


def hang_up(daemon: Daemon) -> None:
    """SIGHUP, and return once the reload is over."""
    daemon.forget()
    daemon.child.send_signal(signal.SIGHUP)
    daemon.hear("RELOADING=1")
    daemon.hear("READY=1")


def test_a_task_under_way_goes_on_through_a_reload(host: Host) -> None:
    host.configure("a", "b")
    a, _ = host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB", "--wake-seconds", "3"))
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    assert daemon.ask("POST", "/v1/models/a/wake", {"wait": False}).status == 202
    daemon.await_model("a", state="waking")
    host.configure("a", "b", idle="2h", a={"priority": 7}, extra='[gpu]\nmargin = "2GiB"')
    hang_up(daemon)
    during = daemon.model("a")
    assert (during["state"], during["priority"]) == ("waking", 7)
    daemon.await_model("a", state="awake")
    ended = daemon.model("a")["last_wake"]
    assert ended["ok"]
    assert ended["seconds"] > 2.5, "the wake that ended is the one that had begun"
    assert a.calls("/wake_up") == {"2xx": 1}


def test_a_model_that_is_not_touched_keeps_its_idle_time_and_level(host: Host) -> None:
    host.configure("a", "b")
    host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    wait_until(lambda: daemon.model("b")["idle_s"] > 1.0, "b to be idle for a second")
    since = daemon.model("a")["since"]
    host.configure("a", "b", extra='[models.b.labels]\nteam = "x"')
    changed = daemon.client.reload().body["changed"]
    assert changed == ['[models.b.labels] team: not set → "x"']
    assert (daemon.model("a")["level"], daemon.model("a")["since"]) == (1, since)
    assert daemon.model("b")["idle_s"] > 1.0


def test_an_emptied_file_forgets_no_model(host: Host) -> None:
    """What an editor leaves behind that truncates first and dies, or a copy onto a full disk."""
    host.configure("a")
    host.start_servers("a")
    daemon = host.start_daemon()
    (host.etc / "sleepd.toml").write_text("")
    refused = daemon.ask("POST", "/v1/reload", {})
    assert refused.status == 422
    assert any("sleepd.toml: is empty, and had keys when it was read last" in e for e in refused.data["errors"])
    assert daemon.model("a")["state"] == "awake"
    (host.etc / "sleepd.toml").write_text(f'# no model left\n[api]\nsocket = "{host.socket}"\n')
    refused = daemon.ask("POST", "/v1/reload", {})
    assert "1 model is managed" in str(refused.data["errors"])
    assert daemon.model("a")["state"] == "awake"
    host.configure("a")
    assert daemon.client.reload().status == 200


def test_a_file_that_is_being_written_is_waited_for(host: Host) -> None:
    """A slow writer: the first half alone would be a valid configuration without the second model."""
    host.configure("a", "b")
    host.start_servers("a", "b", options=("--weights", "4GiB", "--kv", "4GiB"))
    daemon = host.start_daemon()
    whole = (host.etc / "sleepd.toml").read_text()
    cut = whole.index("[models.b]")
    script = "import sys, time\nf = open(sys.argv[1], 'w')\n" + "".join(
        f"f.write({part!r}); f.flush(); print(flush=True); time.sleep(0.2)\n"
        for part in (whole[:cut], "# ", "still ", "writing\n", whole[cut:])
    )
    command = [sys.executable, "-c", script, str(host.etc / "sleepd.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        answer = daemon.client.reload()
        assert writer.wait(10) == 0
    assert answer.status == 200
    assert {m["name"] for m in daemon.client.models().body["models"]} == {"a", "b"}
