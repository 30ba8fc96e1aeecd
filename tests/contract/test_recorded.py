"""What a real vLLM 0.32.0 was recorded to answer, replayed against the simulated one, step by step.

`data/vllm-0.32.0.json` is distilled from recordings: statuses and control bodies in full, of inference answers their
shape, of 500s the words before the worker's own (the recorded worker was a CPU's). `arm` stands where a fault was
injected. Left out: what only that worker did (computing while asleep; a reload into sleeping weights that a wake
repaired, which on a GPU ends the CUDA context). `data/metrics-0.32.0.json` holds every sample name of two recorded
pages with its labels.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sleepd.sim import vllm_metrics
from sleepd.sim.vllm_faults import parse_fault
from sleepd.sim.vllm_types import SimChunk
from tests.unit.sim_vllm_bench import Bench, Call

DATA = Path(__file__).parent / "data"
RECORDINGS = json.loads((DATA / "vllm-0.32.0.json").read_text())


def shape(value: Any) -> Any:
    """Names and types, without the values."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None if value is None else type(value).__name__


def replay(bench: Bench, step: dict[str, Any]) -> Call:
    method, _, target = step["send"].partition(" ")
    body = step["raw"].encode() if "raw" in step else step.get("body")
    call = bench.send(method, target, body, step.get("headers"))
    bench.clock.run(15)
    return call


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording["recording"])
def test_the_simulated_server_answers_as_recorded(recording):
    bench = Bench("0.32.0", **recording["spec"])
    for step in recording["steps"]:
        if "arm" in step:
            bench.engine.arm(parse_fault(step["arm"]))
            continue
        call, where = replay(bench, step), f"{step['is']} {step['send']}"
        assert call.status == step["status"], where
        if "answer" in step:
            assert call.body == step["answer"], where
        elif "events" in step:
            events = [answer.data for answer in call.answers if isinstance(answer, SimChunk)]
            said = [shape(events[0]), shape(events[1]), shape(events[-2]), events[-1]]
            assert said == step["events"], where
        elif "shape" in step:
            assert shape(call.body) == step["shape"], where
            assert call.body.get("error", {}).get("message", "").startswith(step.get("failure", "")), where
        else:
            assert call.body is None, where


def test_the_recordings_are_not_thin():
    steps = [step for recording in RECORDINGS for step in recording["steps"] if "send" in step]
    assert len(steps) > 150
    assert {step["status"] for step in steps} == {200, 400, 401, 404, 405, 500}


def test_every_recorded_metric_exists_with_its_labels():
    recorded = json.loads((DATA / "metrics-0.32.0.json").read_text())
    bench = Bench("0.32.0")
    bench.ask()
    for target in ("/sleep", "/wake_up"):
        bench.do(target)
    bench.get("/is_sleeping")
    text = vllm_metrics.render(bench.now, bench.engine.spec, bench.engine.dialect)
    rendered: dict[str, set[str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name = re.split(r"[{ ]", line)[0]
            labels = re.findall(r'(\w+)="', line)
            rendered.setdefault(name, set()).update(labels)
    for name, labels in recorded.items():
        assert name in rendered
        assert set(labels) <= rendered[name], name


def test_the_page_is_as_long_as_recorded():
    """A fresh page had 591 lines, one with four handlers 693."""
    bench = Bench("0.32.0")
    fresh = vllm_metrics.render(bench.now, bench.engine.spec, bench.engine.dialect)
    assert 550 <= len(fresh.splitlines()) <= 640
    bench.ask()
    bench.do("/sleep")
    bench.do("/wake_up")
    bench.get("/is_sleeping")
    used = vllm_metrics.render(bench.now, bench.engine.spec, bench.engine.dialect)
    assert 650 <= len(used.splitlines()) <= 740
