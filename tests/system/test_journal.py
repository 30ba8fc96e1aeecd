"""What the journal holds: sentences with fields to ask for, no keys, and no more than a reader can take."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from tests.integration.fake_server import PROMPT
from tests.integration.waiting import wait_until
from tests.system.callers import ask
from tests.system.inside import LIMIT_S, SOCKET, System, journal, run, systemctl

SECRETS = Path("/etc/sleepd/secrets")
SERVER_KEY, CLIENT_KEY, WRONG_KEY = "sk-server-5ecret", "sk-client-5ecret", "sk-wrong-5ecret"


def test_messages_are_found_by_model_task_rule_and_gpu(system: System) -> None:
    system.configure(
        "a", "b", extra='[[rules]]\nname = "soon"\nmodels = ["b"]\nwhen = { idle = "1s" }\nthen = { sleep = 1 }'
    )
    system.start_servers("a", "b")
    system.start_daemon()
    task = system.client.sleep("a").body["task"]
    system.await_model("b", state="asleep")
    begun = wait_until(lambda: system.journal("RULE=soon", "SLEEPD_KIND=task_begun"), "the rule's task", LIMIT_S)[0]
    assert (begun["MODEL"], begun["GPU"], begun["PRIORITY"], begun["SYSLOG_IDENTIFIER"]) == ("b", "0", "6", "sleepd")
    assert begun["_SYSTEMD_UNIT"] == "sleepd.service"
    of_task = system.journal(f"TASK={task}", "MODEL=a")
    assert {line["SLEEPD_KIND"] for line in of_task} >= {"task_begun", "task_ended"}
    assert all(line["MODEL"] == "a" for line in of_task)
    for line in system.journal():
        text = line["MESSAGE"]
        assert "[" not in text.split(" ")[0], "fields stand beside the sentence, not in it"
        assert "\n" not in text


def test_no_key_ever_stands_in_it(system: System) -> None:
    SECRETS.mkdir(parents=True)
    for name, text in (("server", SERVER_KEY), ("clients", f"me:{CLIENT_KEY}")):
        path = SECRETS / name
        path.write_text(f"{text}\n")
        path.chmod(0o600)
        run("chown", "sleepd:sleepd", path)
    run("chown", "sleepd:sleepd", SECRETS)
    system.configure(
        "a", a={"api_key_file": f'"{SECRETS}/server"'}, extra=f'[gateway]\napi_keys_file = "{SECRETS}/clients"'
    )
    system.start_servers("a", arguments=f"--api-key {SERVER_KEY}")
    systemctl("start", "sleepd-gateway.socket")
    system.start_daemon()
    body = f'{{"model": "a", "prompt": "{PROMPT}", "max_tokens": 8}}'
    url = "http://127.0.0.1:8800/v1/completions"
    for key, status in ((CLIENT_KEY, "200"), (WRONG_KEY, "401")):
        headers = ("-H", "content-type: application/json", "-H", f"authorization: Bearer {key}")
        done = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *headers, "-d", body, url)
        assert done.stdout == status
    (SECRETS / "server").write_text(f"{WRONG_KEY}\n")
    systemctl("reload", "sleepd.service")
    (SECRETS / "server").write_text(f"{SERVER_KEY} {WRONG_KEY}\n")
    systemctl("reload", "sleepd.service", check=False)
    system.client.sleep("a")
    said = str(journal("_SYSTEMD_UNIT=sleepd.service", since_s=system.since_s))
    assert "reloaded" in said
    for key in (SERVER_KEY, CLIENT_KEY, WRONG_KEY):
        assert key not in said
    assert all(key not in systemctl("status", "sleepd.service").stdout for key in (SERVER_KEY, CLIENT_KEY, WRONG_KEY))


def test_a_local_user_cannot_fill_it(system: System) -> None:
    system.configure("a")
    system.start_servers("a")
    system.start_daemon()
    before = len(system.journal())
    for number in range(400):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT_S)
            client.connect(str(SOCKET))
            client.sendall(
                b"\x16\x03\x01 no HTTP at all\r\n\r\n" if number % 2 else b"GET /v1/none HTTP/1.1\r\nhost: x\r\n\r\n"
            )
            client.recv(4096)
    for number in range(200):
        assert ask(SOCKET, "PUT", f"/v1/holds/h{number % 5}", {"model": "a", "ttl_s": 60, "wait": False})[0] in "24"
    assert len(system.journal()) - before < 250
    assert os.path.exists(SOCKET)
