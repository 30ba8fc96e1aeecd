"""The pair of servers in a known state, and the real `sleepd run` on the real driver, RAM and /proc."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.gpu.gpu_server import MIB, Gpu, GpuServer, Vllm, clean_environment
from tests.realvllm.daemon_host import Daemon, DaemonFolder, wait_until
from tests.realvllm.vllm_server import ServerFailed
from tests.realvllm.wire import Listener, ask

PROMPTS = ("Hello", "The quick brown fox", "0123456789", "A sleeping model", "Who asks?")
"""Several, since every fifth answer or so of random weights begins with a close call."""
Answers: TypeAlias = tuple[tuple[str, ...], ...]
"""To each of PROMPTS the clear tokens."""
CALL_LIMIT_S = 120.0
CLOSE_NATS = 2.0
NEARLY_BYTES = 64 * MIB
CACHED_BYTES = 1024 * MIB
"""What PyTorch may keep for itself: a sleep empties that, a reload fills it (0.33 GiB seen)."""
CONFIGURATION = """
[daemon]
state_dir = "{root}/state"
poll_every = "200ms"

[api]
socket = "{root}/sleepd.sock"

[gateway]
listen = ["unix:{root}/gateway.sock"]

[gpu]
margin = "1GiB"

[host]
reserve = "1GiB"

[model_defaults]
gpus = ["{uuid}"]
min_awake = "1s"
max_level = {max_level}
"""


@dataclass(frozen=True)
class GpuPair:
    """Both servers, their GPU, and what each answers to PROMPTS while its weights are right."""

    gpu: Gpu
    vllm: Vllm
    first: GpuServer
    second: GpuServer
    right_answers: dict[str, Answers]

    @property
    def servers(self) -> tuple[GpuServer, GpuServer]:
        return self.first, self.second

    def settle(self) -> None:
        """The first is awake with the right weights, the second sleeps at level 1. One that is dead or does not obey is
        started anew."""
        for server in (self.second, self.first):
            try:
                lay_down(server)
            except (OSError, ServerFailed):
                server.stop()
        for server in self.servers:
            if not server.is_started:
                server.start()
                server.wait_healthy()
                self.right_answers.setdefault(server.name, answer(server))
                lay_down(server)
        try:
            self._make_right(self.first)
        except (OSError, ServerFailed):
            self.first.stop()
            self.first.start()
            self.first.wait_healthy()
            self._make_right(self.first)

    def is_right(self, server: GpuServer, said: Answers | None = None) -> bool:
        """What it says, or just said, is what it said at first, as far as neither was a close call."""
        return agree(answer(server) if said is None else said, self.right_answers[server.name])

    def _make_right(self, server: GpuServer) -> None:
        raise_up(server)
        if not self.is_right(server):
            reload(server)
        if not self.is_right(server):
            raise ServerFailed(f"{server.name} does not answer as it did at first; see {server.log}")


def question(server: GpuServer, prompt: str) -> dict[str, Any]:
    """The body of a chat request that also asks how close each token was."""
    asked = {"model": server.name, "messages": [{"role": "user", "content": prompt}], "max_tokens": 8}
    return asked | {"temperature": 0, "logprobs": True, "top_logprobs": 2}


def clear_tokens(body: Any) -> tuple[str, ...]:
    """The answer's tokens before the first that a second one came close to: in bfloat16 such a call is decided by what
    else is computed at the same time."""
    tokens = []
    for said in body["choices"][0]["logprobs"]["content"]:
        first, second = (option["logprob"] for option in said["top_logprobs"][:2])
        if first - second < CLOSE_NATS:
            break
        tokens.append(said["token"])
    return tuple(tokens)


def agree(some: Answers, others: Answers) -> bool:
    """As far as both go, which is somewhere, they are the same."""
    pairs = [pair for one, other in zip(some, others, strict=True) for pair in zip(one, other, strict=False)]
    return bool(pairs) and all(one == other for one, other in pairs)


def answer(server: GpuServer, listener: Listener | None = None) -> Answers:
    """What it says to PROMPTS, asked at its address or at `listener`. Raises ServerFailed for any status but 200."""
    answers = []
    for prompt in PROMPTS:
        asked = question(server, prompt)
        said = ask(listener or server.listener, "POST", "/v1/chat/completions", asked, timeout_s=CALL_LIMIT_S)
        if said.status != 200:
            raise ServerFailed(f"{server.name} answered {said.status}: {said.body}")
        answers.append(clear_tokens(said.body))
    return tuple(answers)


def lay_down(server: GpuServer) -> None:
    """A running server sleeps, at level 1 if it was awake."""
    if server.is_started and not server.is_sleeping():
        order(server, "/sleep?level=1")


def raise_up(server: GpuServer) -> None:
    """The server is awake, whatever its weights are."""
    if server.is_sleeping():
        order(server, "/wake_up")


def reload(server: GpuServer) -> None:
    """An awake server's weights are read anew from its files."""
    order(server, "/collective_rpc", {"method": "reload_weights"})
    order(server, "/reset_prefix_cache")


def order(server: GpuServer, path: str, body: object = None) -> None:
    """The call was answered with 200. Raises ServerFailed with vLLM's words where not."""
    answer = server.request("POST", path, body, timeout_s=CALL_LIMIT_S)
    if answer.status != 200:
        raise ServerFailed(f"POST {path} of {server.name}: {answer.status} {answer.body}")


class GpuHost(DaemonFolder):
    """The machine as one test's daemon finds it."""

    def __init__(self, pair: GpuPair) -> None:
        super().__init__(clean_environment())
        self.pair = pair

    def start(self, *, max_level: int = 1) -> Daemon:
        """A daemon that has looked at both models.

        It counts the calls of others, so an awake one that slept before is asked for its known answer: that has ended.
        """
        lines = [CONFIGURATION.format(root=self.root, uuid=self.pair.gpu.uuid, max_level=max_level)]
        lines += [f'[models.{server.name}]\nurl = "{server.url}"' for server in self.pair.servers]
        (self.root / "etc" / "sleepd.toml").write_text("\n".join([*lines, ""]))
        daemon = self.begin(server.name for server in self.pair.servers)
        first = self.pair.first
        if first.count_calls("/sleep"):
            wait_until(lambda: daemon.told("task_ended", first.name), f"{first.name} to be proved", CALL_LIMIT_S)
        return daemon
