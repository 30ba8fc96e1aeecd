"""What stands in examples/forward-auth, in real proxies before a real daemon and simulated servers."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.fake_server import PROMPT
from tests.integration.harness import Daemon, Host, Server
from tests.integration.programs import Program, free_port
from tests.integration.test_room import start_two_that_do_not_fit
from tests.integration.waiting import wait_until

pytestmark = pytest.mark.proxies

EXAMPLES = Path(__file__).parents[2] / "examples" / "forward-auth"
LIMIT_S = 60.0
WAIT_S = 2
"""Instead of the example's 50: what is not let through is to be seen soon."""


@dataclass(frozen=True)
class Answer:
    """What a client of the proxy got; `pieces_s`: when each piece of its body came."""

    status: int
    retry_after: str | None
    text: str
    pieces_s: tuple[float, ...] = ()


class Proxy(Program):
    """A proxy that runs, on a port of loopback."""

    def __init__(self, command: list[str | Path], port: int, root: Path) -> None:
        self.port = port
        super().__init__(command, root, dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"), str(root)))
        wait_until(self._listens, f"{command[0]} to listen", LIMIT_S)

    def _listens(self) -> bool:
        self.assert_runs()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def complete(self, model: str, *, at: str = "", **more: object) -> Answer:
        """Return the answer to a completion of this model, asked at /MODEL/v1/completions."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        try:
            asked = {"model": model, "prompt": PROMPT, "max_tokens": 8, "temperature": 0, **more}
            # As browsers send them: nothing of it may reach the gate, which trusts no page.
            fields = {"Content-Type": "application/json", "Origin": "https://a.page", "Authorization": "Bearer x"}
            connection.request("POST", at or f"/{model}/v1/completions", json.dumps(asked), fields)
            response = connection.getresponse()
            pieces, came = [], []
            while piece := response.read1():
                pieces.append(piece)
                came.append(time.monotonic())
            return Answer(response.status, response.getheader("Retry-After"), b"".join(pieces).decode(), tuple(came))
        finally:
            connection.close()


def start_nginx(programs: Path, host: Host) -> Proxy:
    port, root = free_port(), host.root
    site = _placed("nginx.conf", host, port)
    temporary = "".join(
        f"{kind}_temp_path {root}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"daemon off; pid {root}/nginx.pid; error_log stderr;\n"
    whole += "user root;\n" if os.geteuid() == 0 else ""
    whole += f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{site}\n}}\n"
    (root / "nginx.conf").write_text(whole)
    return Proxy([programs / "nginx", "-c", root / "nginx.conf", "-p", root], port, root)


def start_caddy(programs: Path, host: Host) -> Proxy:
    port = free_port()
    written = host.root / "Caddyfile"
    written.write_text("{\n\tadmin off\n}\n" + _placed("Caddyfile", host, port))
    return Proxy([programs / "caddy", "run", "--adapter", "caddyfile", "--config", written], port, host.root)


def _placed(name: str, host: Host, port: int) -> str:
    """The example, with the paths and the port of this host."""
    text = (EXAMPLES / name).read_text()
    for there, here in (
        ("/run/sleepd/sleepd.sock", str(host.socket)),
        ("/run/vllm/", f"{host.root}/"),
        ("127.0.0.1:8080", f"127.0.0.1:{port}"),
        ("wait_s=50", f"wait_s={WAIT_S}"),
    ):
        assert there in text, there
        text = text.replace(there, here)
    return text


@pytest.fixture(params=[start_nginx, start_caddy], ids=["nginx", "caddy"])
def scene(request: pytest.FixtureRequest, programs: Path, host: Host) -> Iterator[tuple[Proxy, Daemon, Server, Server]]:
    """A proxy before two servers that do not fit together: `a` asleep, `b` awake."""
    host.configure("a", "b")
    start: Callable[[Path, Host], Proxy] = request.param
    scene = start_two_that_do_not_fit(host)
    proxy = start(programs, host)
    try:
        yield proxy, *scene
    finally:
        proxy.end()


def test_a_proxy_wakes_before_it_sends(scene: tuple[Proxy, Daemon, Server, Server]) -> None:
    proxy, daemon, a, b = scene
    right = b.complete()
    woken = proxy.complete("a")
    assert woken.status == 200, woken
    assert daemon.model("b")["state"] == "asleep", "it made room"
    assert json.loads(woken.text)["choices"][0]["text"] == a.complete()
    assert [hold["id"] for hold in daemon.client.holds().body["holds"]] == ["gate-a"]
    assert a.calls("/wake_up") == {"2xx": 1}

    # Held for 30 s: b does not get its room before. What is not let through is told as it is, and when to come again.
    refused = proxy.complete("b")
    assert refused.status == 503, refused
    assert refused.retry_after is not None
    assert int(refused.retry_after) > 0
    assert daemon.client.release("gate-a").body["released"]
    assert json.loads(proxy.complete("b").text)["choices"][0]["text"] == right

    unknown = proxy.complete("nobody")
    assert (unknown.status, unknown.retry_after) == (404, None)
    assert proxy.complete("b", at="/b/metrics").status == 404


def test_many_at_once_cost_one_wake_and_streams_come_as_they_are_made(
    scene: tuple[Proxy, Daemon, Server, Server],
) -> None:
    proxy, daemon, a, _ = scene
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(proxy.complete("a", stream=True))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert [answer.status for answer in answers] == [200] * 12
    assert len({answer.text.count("data: ") for answer in answers}) == 1
    assert all(answer.text.endswith("data: [DONE]\n\n") and len(answer.pieces_s) > 2 for answer in answers)
    assert a.calls("/wake_up") == {"2xx": 1}
    assert daemon.model("a")["state"] == "awake"


def test_while_sleepd_is_away_the_proxy_says_so(
    scene: tuple[Proxy, Daemon, Server, Server], request: pytest.FixtureRequest
) -> None:
    proxy, daemon, _, _ = scene
    daemon.terminate()
    refused = proxy.complete("b")
    told = {"nginx": (503, "5"), "caddy": (502, None)}
    assert (refused.status, refused.retry_after) == told[request.node.callspec.id], refused


def test_caddy_takes_its_file_without_a_word(programs: Path, host: Host) -> None:
    done = subprocess.run(
        [programs / "caddy", "validate", "--adapter", "caddyfile", "--config", EXAMPLES / "Caddyfile"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(host.root)},
    )
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout + done.stderr
    assert '"level":"error"' not in done.stderr
