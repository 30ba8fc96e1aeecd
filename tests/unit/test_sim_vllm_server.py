"""The simulated engine behind HTTP: connections, sockets, the command line, and the ends of the process."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time

import aiohttp
import pytest

from sleepd.cli import fake_vllm
from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.fake_world import open_ledger
from sleepd.sim.ledger import Ledger, LedgerGpu
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import EngineSpec, OutOfMemory, Timing

SPEC = EngineSpec(weights_bytes=8, kv_bytes=20, residual_bytes=1, timing=Timing(0.0, 0.0, 0.0), pace_s=0.001)
CHAT = {"model": "tiny-a", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
ENTRY = (
    "import argparse, sys; from sleepd.cli import fake_vllm; p = argparse.ArgumentParser(); "
    "fake_vllm.add_arguments(p); sys.exit(fake_vllm.run(p.parse_args()))"
)


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    fake_vllm.add_arguments(parser)
    return parser.parse_args(words)


async def test_a_unix_socket_and_its_control_socket(tmp_path):
    uds, control = tmp_path / "vllm.sock", tmp_path / "control.sock"
    async with FakeVllm(SPEC, uds=uds, control_uds=control):
        inside = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(control)))
        outside = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(uds)))
        async with inside, outside:
            async with inside.post("/fake/fault", json={"kind": "fail_wake", "blocks": 1}) as answer:
                assert (answer.status, (await answer.json())["blocks"]) == (200, 1)
            async with inside.post("/fake/fault", json={"kind": "explode"}) as answer:
                assert answer.status == 400
                assert (await answer.json())["error"].startswith("kind is 'explode': wanted one of")
            async with outside.post("/sleep?level=1") as answer:
                assert await answer.json() == {"status": "sleeping", "level": 1}
            reader, writer = await asyncio.open_unix_connection(uds)
            writer.write(b"POST /wake_up HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await asyncio.wait_for(reader.read(), 2)  # the connection ends, unannounced
            writer.close()
            assert head.startswith(b"HTTP/1.1 500 ")
            assert b"Vary" not in head
            assert b"Connection" not in head
            async with inside.get("/fake/state") as answer:
                state = await answer.json()
            assert state["mapped_blocks"] == {"weights": [1, 4], "kv_cache": [0, 4]}
            assert (state["pinned_bytes"], state["armed"]) == (8, [])


async def test_a_hang_over_http_and_its_release(tmp_path):
    control = tmp_path / "control.sock"
    async with FakeVllm(SPEC, port=0, control_uds=control) as server:
        inside = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(control)))
        async with inside, aiohttp.ClientSession(server.base_url) as client:
            await inside.post("/fake/fault", json={"kind": "hang"})
            sleep = asyncio.create_task(client.post("/sleep"))
            await asyncio.sleep(0.1)
            async with client.get("/health") as answer:
                assert answer.status == 200
            assert not sleep.done()
            await inside.post("/fake/release")
            async with await sleep as answer:
                assert answer.status == 200
            await inside.post("/fake/fault", json={"kind": "hang"})
            await inside.delete("/fake/fault")
            async with inside.get("/fake/state") as answer:
                assert (await answer.json())["armed"] == []


async def test_a_lost_answer_breaks_the_connection():
    async with FakeVllm(SPEC, port=0) as server, aiohttp.ClientSession(server.base_url) as client:
        server.engine.arm(Fault("lose_after"))
        with pytest.raises(aiohttp.ClientError):
            await client.post("/sleep")
        assert server.engine.snapshot().held_bytes == 1


async def test_a_client_that_disconnects_abandons_its_request():
    async with FakeVllm(SPEC, port=0) as server, aiohttp.ClientSession(server.base_url) as client:
        (await client.post("/sleep")).close()
        with pytest.raises(TimeoutError):
            await client.post("/v1/chat/completions", json=CHAT, timeout=aiohttp.ClientTimeout(total=0.1))
        for _ in range(100):
            if server.engine.snapshot().in_flight_requests == 0:
                break
            await asyncio.sleep(0.01)
        assert server.engine.snapshot().in_flight_requests == 0


async def test_engine_death_answers_503_then_refuses_then_exits_0():
    async with FakeVllm(SPEC, port=0) as server, aiohttp.ClientSession(server.base_url) as client:
        server.engine.arm(Fault("die_now"))
        async with client.get("/health") as answer:
            assert answer.status == 503
        await asyncio.sleep(0.3)
        with pytest.raises(aiohttp.ClientError):
            await client.get("/health")
        assert await asyncio.wait_for(server.exited, 2) == 0


async def test_a_stream_ends_in_an_error_event_when_the_engine_dies():
    async with FakeVllm(SPEC, port=0) as server, aiohttp.ClientSession(server.base_url) as client:
        body = CHAT | {"stream": True, "vllm_xargs": {"pace_ms": 50}}
        async with client.post("/v1/chat/completions", json=body) as answer:
            assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
            await answer.content.readuntil(b"\n\n")
            server.engine.arm(Fault("die_now"))
            rest = (await answer.content.read()).decode()
        assert 'data: {"error": {"message": "EngineCore encountered an issue.' in rest
        assert rest.endswith("data: [DONE]\n\n")


async def test_the_ledger_holds_what_the_engine_holds(tmp_path):
    book = Ledger.create(tmp_path, [LedgerGpu("GPU-0", 40), LedgerGpu("GPU-1", 40)])
    pid = 1  # a process that lives as long as this test
    async with FakeVllm(SPEC, port=0, gpu=open_ledger(str(tmp_path), [0, 1], pid)) as server:
        assert [gpu.used_by_pid for gpu in book.read()] == [{pid: 29}, {pid: 29}]
        with pytest.raises(OutOfMemory, match="CUDA Error: out of memory"):
            await FakeVllm(SPEC, port=0, gpu=open_ledger(str(tmp_path), [1], 2)).__aenter__()
        async with aiohttp.ClientSession(server.base_url) as client:
            await client.post("/sleep")
        assert [gpu.used_by_pid for gpu in book.read()] == [{pid: 1}, {pid: 1}]
    assert [gpu.used_by_pid for gpu in book.read()] == [{}, {}]


async def test_a_claim_on_several_gpus_is_all_or_nothing(tmp_path):
    book = Ledger.create(tmp_path, [LedgerGpu("GPU-0", 40), LedgerGpu("GPU-1", 20)])
    memory = open_ledger(str(tmp_path), [0, 1], 1)
    memory.claim(10)
    assert memory.free_bytes() == 10
    with pytest.raises(OutOfMemory):
        memory.claim(30)
    assert [gpu.used_bytes for gpu in book.read()] == [10, 10]


async def test_the_command_line_serves_until_sigterm_and_exits_0(tmp_path):
    book = Ledger.create(tmp_path / "gpus", [LedgerGpu("GPU-0", 100 * 2**30)])
    command = [sys.executable, "-c", ENTRY, "--port", "0", "--version", "0.22.1"]
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *command, "--ledger", str(tmp_path / "gpus"), "--gpu", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 10)).decode()
        assert time.monotonic() - began < 5
        url = line.rpartition(" ")[2].strip()
        assert line.startswith("sleepd fake-vllm: tiny-a speaks vLLM 0.22.1 on http://127.0.0.1:")
        async with aiohttp.ClientSession(url) as client, client.get("/version") as answer:
            assert await answer.json() == {"version": "0.22.1"}
        assert book.read()[0].used_by_pid == {process.pid: 29 * 2**30}
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert book.read()[0].used_by_pid == {}


def test_the_arguments_become_the_spec():
    args = parse(
        *("--uds", "/x", "--name", "m", "--weights", "2GiB", "--kv", "1GiB", "--residual", "512MiB", "--blocks", "3"),
        *("--sleep-seconds", "1", "--wake-seconds", "2", "--reload-seconds", "3", "--first-sleep-factor", "20"),
        *("--no-dev-mode", "--no-sleep-mode", "--api-key", "k", "--pace-ms", "5", "--gpu", "0", "--gpu", "1"),
    )
    spec = fake_vllm.spec_of(args)
    assert (spec.weights_bytes, spec.kv_bytes, spec.residual_bytes, spec.blocks) == (2**31, 2**30, 2**29, 3)
    assert spec.timing == Timing(1.0, 2.0, 3.0, 20.0)
    assert (spec.dev_mode, spec.sleep_mode, spec.api_key, spec.pace_s) == (False, False, "k", 0.005)
    assert (spec.name, spec.tensor_parallel_size) == ("m", 2)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--port", "0", "--version", "0.99"], "wanted 0.8 to 0.33"),
        (["--port", "0", "--weights", "8GB"], "wanted a size such as"),
        (["--port", "70000"], "wanted a port from 0 to 65535"),
        (["--port", "0", "--blocks", "0"], "wanted a whole number from 1 up"),
        (["--port", "0", "--sleep-seconds", "-1"], "wanted a number from 0 up"),
        ([], "one of the arguments --port --uds is required"),
    ],
)
def test_bad_arguments_are_refused_in_words(words, problem, capsys):
    with pytest.raises(SystemExit):
        parse(*words)
    assert problem in capsys.readouterr().err


def test_what_stands_in_the_way_of_a_start_is_said(tmp_path, capsys):
    args = parse("--port", "0", "--ledger", str(tmp_path))
    assert fake_vllm.run(args) == 1
    assert "wanted a GPU ledger in" in capsys.readouterr().err
    Ledger.create(tmp_path, [LedgerGpu("GPU-0", 2**30)])
    args = parse("--port", "0", "--ledger", str(tmp_path), "--gpu", "3")
    assert fake_vllm.run(args) == 1
    assert "wanted GPU 3, found [0]" in capsys.readouterr().err
    args = parse("--port", "0", "--ledger", str(tmp_path))
    assert fake_vllm.run(args) == 1
    assert "out of memory" in capsys.readouterr().err
