"""What may not be read into a server's odd moments: a page with a gap, a connection that we could not open."""

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from sleepd.adapters import vllm_facts, vllm_http
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.connections import is_refusal
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_facts import parse_release
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.calls import NoAnswer, NoAnswerKind
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec
from sleepd.core.plan import Verb
from tests.adapters.raw_server import serving
from tests.unit.vllm_bench import METRICS, Bench

GAP = b"\n".join(line for line in METRICS.splitlines() if not line.startswith(b"process_start"))


def set_page(bench: Bench, page: bytes) -> None:
    bench.pages["/metrics/"] = bench.pages["/metrics"] = page


async def test_a_page_without_its_start_is_no_other_incarnation(bench: Bench) -> None:
    first = await bench.look()
    set_page(bench, GAP)
    gap = await bench.look()
    assert isinstance(gap, Missing)
    assert gap.reason is MissingReason.UNREADABLE
    assert "process_start_time_seconds" in gap.detail
    set_page(bench, METRICS)
    again = await bench.look()
    assert again.value.facts == first.value.facts


async def test_a_server_that_never_tells_its_start_is_seen(bench: Bench) -> None:
    set_page(bench, GAP)
    for _ in range(2):
        assert (await bench.look()).value.facts.incarnation is None


async def test_after_its_address_refused_us_a_server_may_be_another(tmp_path: Path) -> None:
    """What listens there next was started anew, and may be one that does not tell its start."""
    bench = Bench(tmp_path / "s")
    async with serving(bench.path, bench.answer) as bench.raw:
        await bench.look()
    bench.path.unlink(missing_ok=True)
    refused = await bench.look()
    assert isinstance(refused, Missing)
    assert refused.reason is MissingReason.REFUSED
    set_page(bench, GAP)
    async with serving(bench.path, bench.answer) as bench.raw:
        seen = await bench.look()
        assert isinstance(seen, Known)
        assert seen.value.facts.incarnation is None
        await bench.vllm.close()


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.11.0+cu129", (0, 11, 0)),
        ("0.14.0+rocm7.0.2", (0, 14, 0)),
        ("0.14.0+rocm700", (0, 14, 0)),
        ("0.11.0+xpu", (0, 11, 0)),
        ("0.11.0rc2+cu130", (0, 11, 0)),
        ("0.10.1.1", (0, 10, 1)),
        ("0.10.1.1+cu126", (0, 10, 1)),
        ("0.11.0.dev12+cu129", None),
        ("0.11.0+g1a2b3c4", None),
        ("0.10.1.1+381074ae.nv25.09", None),
        ("0.11.0+cu129.internal", None),
        ("0.11.0+", None),
    ],
)
def test_a_release_built_for_other_hardware_is_that_release(version: str, release: tuple[int, ...] | None) -> None:
    assert parse_release(version) == release


def server_at(path: Path) -> VllmServer:
    return VllmServer(ModelSpec("a", f"unix:{path}"), SystemClock(), ProcessFinder(path.parent))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ECONNREFUSED, MissingReason.REFUSED),
        (errno.ENOENT, MissingReason.REFUSED),
        (errno.EACCES, MissingReason.UNREACHABLE),
        (errno.EMFILE, MissingReason.UNREACHABLE),
        (errno.ECONNRESET, MissingReason.UNREACHABLE),
        (errno.EHOSTUNREACH, MissingReason.UNREACHABLE),
    ],
)
async def test_only_a_refusal_says_that_nobody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, reason: MissingReason
) -> None:
    async def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError(code, "what the kernel said")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", fail)
    vllm = server_at(tmp_path / "s")
    reading = await vllm.look(ask_sleeping=True, timeout_s=2.0)
    called = await vllm.call(Verb.WAKE, timeout_s=2.0, mode_parameter=True)
    await vllm.close()
    assert isinstance(reading, Missing)
    assert (reading.reason, reading.detail) == (reason, "what the kernel said")
    assert isinstance(called, NoAnswer)
    assert called.kind is NoAnswerKind.REFUSED, "no connection was made, so the call was certainly not carried out"


@pytest.mark.parametrize(
    ("told", "refused"),
    [
        ("Multiple exceptions: [Errno 99] Cannot assign requested address, [Errno 111] Connect call failed", True),
        ("Multiple exceptions: [Errno 99] Cannot assign requested address, [Errno 101] Network unreachable", False),
    ],
)
def test_a_name_with_two_addresses_refuses_where_one_of_them_does(told: str, refused: bool) -> None:
    """aiohappyeyeballs joins errors of different numbers into one without any: "localhost" on a host without IPv6."""
    assert is_refusal(OSError(told)) is refused


async def test_a_checkpoint_on_a_hung_mount_delays_one_look_and_holds_no_thread_of_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, begun = threading.Event(), []

    def hang(path: str) -> int:
        begun.append(threading.current_thread())
        hung.wait(10.0)
        return 7

    monkeypatch.setattr(vllm_http, "checkpoint_bytes", hang)
    monkeypatch.setattr(vllm_http, "SCAN_S", 0.05)
    bench.pages["/server_info"] = {"vllm_config": {"model_config": {"model": "/mnt/m"}, "parallel_config": {"x": 1}}}
    try:
        for start in (b"12.5", b"13.5"):
            set_page(bench, METRICS.replace(b"12.5", start))
            seen = (await bench.look()).value
            assert (seen.facts.model_path, seen.facts.checkpoint_bytes) == ("/mnt/m", None)
        (thread,) = begun
        assert thread.daemon, "a thread that hangs would keep the process from ending"
    finally:
        hung.set()
        thread.join(5.0)
    await asyncio.sleep(0.01)
    set_page(bench, METRICS.replace(b"12.5", b"14.5"))
    assert (await bench.look()).value.facts.checkpoint_bytes == 7


def test_facts_alone_read_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turning answers into facts happens on the loop's thread: nothing there may wait for a disk."""
    monkeypatch.setattr(Path, "glob", lambda *args: pytest.fail("the disk was read"))
    info = {"vllm_config": {"model_config": {"model": "/mnt/m"}}}
    assert vllm_facts.facts_of("0.32.0", None, None, info).checkpoint_bytes is None
