"""One `sleepd fake-vllm` as those speak to it who go past the daemon, over its two sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.integration.wire import Answer, send

PROMPT = "Tell me about tides."


class FakeServer:
    """A simulated vLLM server that somebody else started."""

    def __init__(self, name: str, path: Path, control: Path) -> None:
        self.name, self.path, self._control = name, path, control

    def ask(self, method: str, target: str, body: Any = None) -> Answer:
        """As a person with curl would: past the daemon."""
        return send(self.path, method, target, body)

    def complete(self, prompt: str = PROMPT, tokens: int = 8) -> str:
        """Return the greedy answer of whoever uses the server directly."""
        body = {"model": self.name, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
        answer = self.ask("POST", "/v1/completions", body)
        assert answer.status == 200, answer
        return str(answer.data["choices"][0]["text"])

    def arm(self, kind: str, **fault: Any) -> None:
        """Let the next fitting call go wrong (docs/fake-vllm.md, "Faults")."""
        answer = send(self._control, "POST", "/fake/fault", {"kind": kind, **fault})
        assert answer.status == 200, answer

    def release(self) -> None:
        """Let a hanging call go on."""
        send(self._control, "POST", "/fake/release")

    def state(self) -> dict[str, Any]:
        """What is true inside, whatever the server says."""
        found = send(self._control, "GET", "/fake/state").data
        assert isinstance(found, dict)
        return found
