"""The clients that people use, through the gateway, at two real servers that cannot be awake together."""

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.waiting import wait_until
from tests.realvllm.daemon_host import Daemon, DaemonHost
from tests.realvllm.fixtures import PROMPT

pytestmark = pytest.mark.vllm

NAMES = ("tiny-1", "tiny-2")
ASKED = [{"role": "user", "content": PROMPT}]


def package(name: str) -> Any:
    """The client package; `make test-vllm` installs tests/realvllm/requirements-clients.txt, `make test` does not."""
    return importlib.import_module(name)


@pytest.fixture
def base(host: DaemonHost) -> str:
    """Where the gateway listens, once its daemon runs; `host.daemon` is not needed, the clients see it all."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = host.root / "keys"
    keys.write_text("tests:a-key-for-tests\n")
    keys.chmod(0o600)
    listen = f'[gateway]\nlisten = ["127.0.0.1:{port}"]\napi_keys_file = "{keys}"\nheartbeat = "200ms"'
    host.configure(listen)
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def daemon(host: DaemonHost, base: str) -> Daemon:
    return host.start()


@pytest.fixture
def chat(daemon: Daemon, base: str) -> Iterator[Any]:
    with package("openai").OpenAI(base_url=f"{base}/v1", api_key="a-key-for-tests", max_retries=0) as client:
        yield client


@pytest.fixture
def messages(daemon: Daemon, base: str) -> Iterator[Any]:
    with package("anthropic").Anthropic(base_url=base, api_key="a-key-for-tests", max_retries=0) as client:
        yield client


def ask(chat: Any, model: str, **more: Any) -> Any:
    return chat.chat.completions.create(model=model, messages=ASKED, max_tokens=8, temperature=0, **more)


def test_openai_gets_every_answer_right_whoever_is_awake(host: DaemonHost, chat: Any) -> None:
    right = host.pair.right_answers
    for name in (*NAMES, *NAMES):
        assert ask(chat, name).choices[0].message.content == right[name]
    with ThreadPoolExecutor(8) as pool:
        several = list(pool.map(lambda _: ask(chat, "tiny-1").choices[0].message.content, range(8)))
    assert set(several) == {right["tiny-1"]}
    assert {model.id for model in chat.models.list()} >= set(NAMES)


def test_openai_streams_are_whole_heartbeats_and_all(host: DaemonHost, chat: Any) -> None:
    for name in NAMES[::-1]:
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(chat, name, stream=True) if chunk.choices]
        assert "".join(pieces) == host.pair.right_answers[name]


def test_anthropic_asks_and_streams(host: DaemonHost, messages: Any) -> None:
    for name in NAMES[::-1]:
        told = {"model": name, "messages": ASKED, "max_tokens": 8, "extra_body": {"temperature": 0}}
        with messages.messages.stream(**told) as stream:
            streamed = "".join(stream.text_stream)
        whole = messages.messages.create(**told)
        assert streamed == whole.content[0].text == host.pair.right_answers[name]


def test_errors_are_the_clients_own(chat: Any, messages: Any, base: str) -> None:
    with pytest.raises(package("openai").NotFoundError, match="does not exist"):
        ask(chat, "nobody")
    with pytest.raises(package("anthropic").NotFoundError, match="does not exist"):
        messages.messages.create(model="nobody", messages=ASKED, max_tokens=1)
    with pytest.raises(package("openai").AuthenticationError):
        ask(package("openai").OpenAI(base_url=f"{base}/v1", api_key="another", max_retries=0), "tiny-1")


def test_who_hangs_up_is_cancelled_at_the_server(host: DaemonHost, daemon: Daemon, chat: Any) -> None:
    first = host.pair.first
    assert ask(chat, first.name).choices
    before = time.monotonic()
    slow = {"vllm_xargs": {"pace_ms": 100}, "ignore_eos": True}
    stream = chat.chat.completions.create(
        model=first.name, messages=ASKED, max_tokens=400, stream=True, extra_body=slow
    )
    next(iter(stream))
    wait_until(lambda: daemon.model(first.name)["in_flight"] == 1, "the request to be counted")
    stream.close()
    wait_until(lambda: daemon.model(first.name)["in_flight"] == 0, "the request to be counted out")
    wait_until(lambda: 'num_requests_running{engine="0",model_name="tiny-1"} 0.0' in page(first), "vLLM to be idle")
    assert time.monotonic() - before < 20
    assert ask(chat, "tiny-2").choices[0].message.content == host.pair.right_answers["tiny-2"]


def page(server: Any) -> str:
    return str(server.request("GET", "/metrics").body)
