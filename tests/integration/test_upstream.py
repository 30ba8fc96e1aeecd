"""How the daemon reaches its servers, and who else does: keys, and requests that go past it."""

import threading

import pytest
from harness import Host
from waiting import wait_until


@pytest.mark.waits_long
def test_a_direct_request_that_a_sleeper_holds_wakes_it(host: Host) -> None:
    host.configure("a")
    (a,) = host.start_servers("a")
    before = a.complete()
    daemon = host.start_daemon()
    daemon.client.sleep("a")
    answers: list[str] = []
    direct = threading.Thread(target=lambda: answers.append(a.complete()))
    direct.start()
    daemon.await_model("a", state="awake", limit_s=60.0)
    direct.join(30)
    assert answers == [before]
    assert a.calls("/wake_up") == {"2xx": 1}
    told = daemon.events.await_one("direct", "a")
    assert "a direct connection has been waiting for" in told["text"]


def test_a_key_is_asked_for_in_words_and_taken_with_a_reload(host: Host) -> None:
    key_file = host.root / "a.key"
    key_file.write_text("wrong-key-12345\n")
    key_file.chmod(0o600)
    host.configure("a")
    (a,) = host.start_servers("a", options=("--api-key", "right-key-12345"))
    daemon = host.start_daemon(ready=False)
    daemon.hear("READY=1")
    wait_until(lambda: daemon.model("a")["failure"], "the failure to be told")
    failure = daemon.model("a")["failure"]
    assert failure["code"] == "unauthorized"
    assert "set api_key_file in [models.a]" in failure["detail"]
    host.configure("a", a={"api_key_file": str(key_file)})
    assert "api_key_file" in daemon.client.reload().body["changed"][0]
    wait_until(lambda: str(key_file) in str(daemon.model("a")["failure"]), "the wrong key to be told")
    key_file.write_text("right-key-12345\n")
    daemon.client.reload()
    daemon.await_model("a", state="awake", failure=None)
    daemon.client.sleep("a")
    assert a.calls("/v1/completions") == {"2xx": 2}, "the known answer was taken, twice"
    assert daemon.client.wake("a").status == 200
    assert "right-key" not in daemon.words() + str(daemon.model("a"))
