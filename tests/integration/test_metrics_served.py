"""What Prometheus sees of a real daemon, over its socket and over TCP: the numbers that happened, and nothing else."""

from __future__ import annotations

import socket

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.harness import ASLEEP_BYTES, GIB, Daemon, Host
from tests.integration.programs import free_port
from tests.integration.waiting import wait_until

AWAKE_BYTES = 27 * GIB
"""Small enough for both on one GPU."""


def page_of(daemon: Daemon) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = daemon.ask("GET", "/metrics")
    assert answer.status == 200
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value_of(daemon: Daemon, name: str, **labels: str) -> float | None:
    return page_of(daemon).get((name, frozenset(labels.items())))


def get(port: int, request: bytes) -> bytes:
    """Return everything that the address says to these bytes, until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        said = b""
        while piece := connection.recv(65536):
            said += piece
        return said


def test_what_happened_is_what_is_counted(host: Host) -> None:
    host.start_servers("a", "b", options=("--kv", "10GiB"))
    port = free_port()
    host.configure("a", "b", idle="1h", extra=f'[metrics]\nlisten = ["127.0.0.1:{port}", "unix:{host.root}/m.sock"]')
    daemon = host.start_daemon()
    daemon.client.sleep("a", level=1)
    before = page_of(daemon)

    def of(name: str, **labels: str) -> float | None:
        return before.get((name, frozenset(labels.items())))

    assert of("sleepd_model_state", model="a", state="asleep") == 1
    assert of("sleepd_model_state", model="a", state="awake") == 0
    assert (of("sleepd_model_level", model="a"), of("sleepd_model_level", model="b")) == (1, 0)
    done = {"model": "a", "kind": "sleep", "level": "1", "cause": "operator", "outcome": "done"}
    assert of("sleepd_transitions_total", **done) == 1
    assert of("sleepd_transition_duration_seconds_count", model="a", kind="sleep", level="1") == 1
    assert of("sleepd_proofs_total", model="a", outcome="proven") == 1
    assert of("sleepd_model_vram_asleep_bytes", model="a", gpu="0") == ASLEEP_BYTES
    assert of("sleepd_gpu_free_bytes", gpu="0") == 80 * GIB - AWAKE_BYTES - ASLEEP_BYTES
    assert of("sleepd_host_available_bytes") == 200 * GIB
    assert of("sleepd_rule_actions_total", rule="nap", model="a") == 0
    assert of("sleepd_wishes_total", outcome="done") == 1
    assert of("process_resident_memory_bytes") is not None
    # Nothing is known of what b would leave behind: no sample, not zero.
    assert of("sleepd_model_vram_asleep_bytes", model="b", gpu="0") is None

    def saved_bytes() -> bool:
        saved = value_of(daemon, "sleepd_saved_gpu_byte_seconds_total", model="a", gpu="0")
        return saved is not None and saved > (AWAKE_BYTES - ASLEEP_BYTES) * 0.2

    wait_until(saved_bytes, "what sleeping saves to add up")
    daemon.client.wake("a")
    assert value_of(daemon, "sleepd_transition_duration_seconds_count", model="a", kind="wake", level="1") == 1

    openmetrics = get(port, b"GET /metrics HTTP/1.1\r\nhost: x\r\naccept: application/openmetrics-text\r\n\r\n")
    assert b"application/openmetrics-text" in openmetrics.partition(b"\r\n\r\n")[0]
    assert openmetrics.endswith(b"# EOF\n")
    assert b'{"ready": true' in get(port, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
    assert get(port, b"GET /healthz HTTP/1.0\r\n\r\n").endswith(b'{"ok": true}\n')
    assert get(port, b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx").startswith(b"HTTP/1.1 405 ")
    assert get(port, b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 404 ")

    before = page_of(daemon)
    host.configure("b", idle="1h", extra=f'[metrics]\nlisten = ["127.0.0.1:{port}", "unix:{host.root}/m.sock"]')
    assert daemon.client.reload().status == 200
    after = page_of(daemon)
    assert not [series for series in after if ("model", "a") in series[1]], "a model that is gone is still told"
    kept = [s for s in before if s[0].endswith(("_total", "_count", "_sum", "_bucket")) and ("model", "a") not in s[1]]
    assert kept
    assert [s for s in kept if after.get(s, -1.0) < before[s]] == [], "a counter went back"
    assert daemon.terminate() == 0
    assert not (host.root / "m.sock").exists()
