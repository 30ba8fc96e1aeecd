#!/usr/bin/env python3
"""Training that alternates with inference on one GPU: roll-outs from a model, then a step with the room that it had.

    python examples/rlhf_loop.py --model chat --gpu 0 --vram 60GiB --steps 3

While it samples, a hold keeps the model awake. While it trains, a reservation keeps the GPU memory: the model sleeps,
with its weights in host RAM, and is awake again when the step is over. Put your own `train` in place of the one below.
Works with any daemon: `sleepd demo --keep`, or the real one ($SLEEPD_SOCKET, else /run/sleepd/sleepd.sock).
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import time
from urllib.parse import urlsplit

from sleepd.client import Client
from sleepd.core.units import format_size, parse_size

PROMPT = "Tell me about tides."


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def sample(url: str, model: str, prompt: str) -> str:
    """Return one roll-out: what the model's own server goes on with."""
    parts = urlsplit(url)
    line = _UnixConnection(url.removeprefix("unix:")) if parts.scheme == "unix" else None
    connection = line or http.client.HTTPConnection(parts.netloc, timeout=120)
    body = {"model": model, "prompt": prompt, "max_tokens": 16, "temperature": 0}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    return str(answer["choices"][0]["text"])


def train(rollouts: list[str], seconds: float) -> float:
    """Return the loss of a training step; this one only takes its time. Yours allocates up to what was reserved, and
    gives it back before it returns (torch: `del`, then `torch.cuda.empty_cache()`)."""
    time.sleep(seconds)
    return 1.0 / sum(len(text) + 1 for text in rollouts)


def main() -> None:
    options = _options()
    client = Client(options.socket)
    for step in range(1, options.steps + 1):
        with client.holding(options.model, reason=f"roll-outs of step {step}"):
            url = client.model(options.model).body["url"]
            rollouts = [sample(url, options.model, PROMPT) for _ in range(options.rollouts)]
        print(f"step {step}: {len(rollouts)} roll-outs from {options.model}", flush=True)
        room = client.reserve([options.gpu], options.vram, reason=f"training step {step}", timeout_s=options.timeout)
        with room as reserved:
            assert reserved.reservation is not None
            aside = ", ".join(reserved.reservation["aside"]) or "nobody"
            loss = train(rollouts, options.seconds)
        size = format_size(options.vram)
        print(f"step {step}: trained with {size} on GPU {options.gpu}, aside: {aside}, loss {loss:.4f}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", help="default $SLEEPD_SOCKET, else /run/sleepd/sleepd.sock")
    parser.add_argument("--model", required=True)
    parser.add_argument("--gpu", default="0", help="index or UUID")
    parser.add_argument("--vram", type=parse_size, default="60GiB", help="what a step needs; default 60GiB")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rollouts", type=int, default=4, help="in each step")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the dummy step takes")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds to wait for the room")
    return parser.parse_args()


if __name__ == "__main__":
    main()
