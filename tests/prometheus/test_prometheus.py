"""A real Prometheus scrapes a real daemon: it takes the page, its numbers are what happened, and what ships in
examples/ works with it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.harness import GIB, Daemon, Host
from tests.integration.programs import Program, free_port
from tests.integration.waiting import wait_until

pytestmark = pytest.mark.prometheus

EXAMPLES = Path(__file__).parents[2] / "examples"
LIMIT_S = 40.0
SILENT = {
    # Nothing of this happens on the test's host: these queries must be understood, and say nothing.
    "Failures an hour",
    "How long turns last: p50",
    "How long turns are waited for: p50 and p95",
}
"""Panels of the dashboard that have nothing to show here."""


class Prometheus(Program):
    """One real Prometheus on loopback, with a database of its own."""

    def __init__(self, programs: Path, root: Path, target: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        written = (EXAMPLES / "prometheus" / "prometheus.yml").read_text().replace("15s", "500ms")
        assert "127.0.0.1:9800" in written
        for name in ("rules.yml", "alerts.yml"):
            (root / name).write_text((EXAMPLES / "prometheus" / name).read_text())
        (root / "prometheus.yml").write_text(written.replace("127.0.0.1:9800", target))
        options = (
            f"--config.file={root}/prometheus.yml",
            f"--storage.tsdb.path={root}/tsdb",
            f"--web.listen-address={self.address}",
        )
        super().__init__([programs / "prometheus", *options], root)

    def await_ready(self) -> None:
        wait_until(self._is_ready, "Prometheus to be ready", LIMIT_S)

    def _is_ready(self) -> bool:
        self.assert_runs()
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=LIMIT_S) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer. Raises AssertionError with Prometheus' own words where it refuses."""
        self.assert_runs()
        url = f"http://{self.address}/api/v1/{path}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
                body = json.load(response)
        except urllib.error.HTTPError as refused:
            raise AssertionError(f"{query}: {refused.read().decode()}") from None
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=expression)["result"]]

    def value(self, expression: str) -> float | None:
        found = self.query(expression)
        return found[0][1] if len(found) == 1 else None

    def await_value(self, expression: str, wanted: float) -> None:
        wait_until(lambda: self.value(expression) == wanted, f"{expression} to be {wanted}", LIMIT_S)


@pytest.fixture
def daemon(host: Host) -> tuple[Daemon, int, int]:
    """A daemon with two models, a gateway and metrics over TCP."""
    metrics, gateway = free_port(), free_port()
    extra = f'[metrics]\nlisten = ["127.0.0.1:{metrics}"]\n[gateway]\nlisten = ["127.0.0.1:{gateway}"]'
    host.start_servers("a", "b", options=("--kv", "10GiB"))
    host.configure("a", "b", extra=extra)
    return host.start_daemon(), metrics, gateway


@pytest.fixture
def prometheus(programs: Path, host: Host, daemon: tuple[Daemon, int, int]) -> Iterator[Prometheus]:
    root = host.root / "prometheus"
    root.mkdir()
    started = Prometheus(programs, root, f"127.0.0.1:{daemon[1]}")
    try:
        started.await_ready()
        yield started
    finally:
        started.end()


def chat(port: int, model: str, max_tokens: int = 2) -> int:
    body = json.dumps({"model": model, "prompt": "tides", "max_tokens": max_tokens}).encode()
    fields = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/v1/completions", body, fields)
    with contextlib.closing(urllib.request.urlopen(asked, timeout=LIMIT_S)) as response:
        response.read()
        return int(response.status)


def queries() -> list[tuple[str, str]]:
    """Every query of the dashboard with its panel, variables filled in as Grafana does."""
    dashboard = json.loads((EXAMPLES / "grafana" / "sleepd.json").read_text())
    filled = {"$__rate_interval": "30s", "$__range": "5m", "$job": "sleepd", "$instance": ".*", "$model": ".*"}
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in filled.items():
                expression = expression.replace(name, value)
            assert "$" not in expression, expression
            found.append((panel["title"], expression))
    return found


def test_prometheus_sees_what_happened_and_the_dashboard_shows_it(
    daemon: tuple[Daemon, int, int], prometheus: Prometheus
) -> None:
    sleepd, _, gateway = daemon
    prometheus.await_value('up{job="sleepd"}', 1)
    prometheus.await_value("sleepd_ready", 1)
    # What may fail is 0 before it first does: an alert on its increase sees the first time as one.
    prometheus.await_value('sum(sleepd_transitions_total{model="a", kind="wake", outcome="failed"})', 0)
    prometheus.await_value('sleepd_gateway_requests_total{model="a", outcome="timeout"}', 0)
    sleepd.client.sleep("a", level=1)
    prometheus.await_value('sleepd_model_level{model="a"}', 1)
    assert chat(gateway, "b") == 200
    assert chat(gateway, "a") == 200, "a request wakes its model"
    prometheus.await_value('sleepd_model_level{model="a"}', 0)
    sleepd.client.sleep("a", level=1)

    prometheus.await_value('sleepd_transitions_total{model="a", kind="sleep", cause="operator", outcome="done"}', 2)
    prometheus.await_value('sleepd_transitions_total{model="a", kind="wake", cause="request", outcome="done"}', 1)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        chat(gateway, "b", max_tokens=-1)
    first = 'increase(sleepd_gateway_requests_total{model="b", outcome="4xx"}[1m])'
    wait_until(lambda: (prometheus.value(first) or 0) > 0.5, "the first request that failed to be an increase", LIMIT_S)
    prometheus.await_value('sum(sleepd_gateway_requests_total{outcome="2xx"})', 2)
    prometheus.await_value('sleepd_gateway_wait_seconds_count{model="a", outcome="served"}', 1)
    prometheus.await_value('sum(sleepd_proofs_total{outcome="proven"})', 3)
    prometheus.await_value('sleepd_model_vram_asleep_bytes{model="a", gpu="0"}', GIB)
    prometheus.await_value("sleepd_gpu_free_bytes", (80 - 27 - 1) * GIB)
    prometheus.await_value("sleepd_host_available_bytes", 200 * GIB)
    rate = 'rate(sleepd_saved_gpu_byte_seconds_total{model="a"}[5s])'
    freed = pytest.approx(26 * GIB, rel=0.25)
    wait_until(lambda: (prometheus.value(rate) or 0) == freed, "what is saved a second to be what was freed", LIMIT_S)

    def empty_panels() -> set[str]:
        return {title for title, expression in queries() if not prometheus.query(expression)}

    wait_until(lambda: empty_panels() == SILENT, "every panel to show something", LIMIT_S)
    rules = prometheus.ask("rules")["groups"]
    assert sorted(rule["health"] for group in rules for rule in group["rules"]) == ["ok"] * 21
    alerts = prometheus.ask("alerts")["alerts"]
    assert [alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"] == []
    assert prometheus.query("max_over_time(scrape_samples_scraped[1m]) > 0")
    assert prometheus.query('count({__name__=~"sleepd_.*"})')[0][1] > 200


def test_promtool_finds_nothing_wrong(programs: Path, daemon: tuple[Daemon, int, int]) -> None:
    def promtool(*arguments: str, given: str = "") -> None:
        done = subprocess.run([programs / "promtool", *arguments], input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAILED" not in done.stdout + done.stderr

    sleepd, _, gateway = daemon
    assert chat(gateway, "b") == 200
    sleepd.client.sleep("a", level=1)
    page = sleepd.ask("GET", "/metrics").text
    promtool("check", "metrics", given=page)
    for name in ("rules.yml", "alerts.yml"):
        promtool("check", "rules", str(EXAMPLES / "prometheus" / name))
    promtool("check", "config", str(EXAMPLES / "prometheus" / "prometheus.yml"))
    promtool("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))
