"""Two real vLLM servers on one make-believe GPU that holds one of them awake and the other asleep, not both awake.

`real_pair` starts them once a session of each worker, `real_servers` gives them to a test in a known state, whatever
the test before did to them, and `real_vllm` is one of them for a whole module.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sleepd.sim.ledger import Ledger, LedgerGpu
from tests.fakenvml.build import build
from tests.realvllm.server import MIB, RealServer, ServerFailed

__all__ = ["GPU_BYTES", "GPU_UUID", "RealPair", "fake_nvml", "real_pair", "real_servers", "real_vllm"]

# Awake 3300 MiB and asleep 300 MiB each: 1400 MiB are left with one awake, 4400 MiB with none.
GPU_BYTES = 5000 * MIB
GPU_UUID = "GPU-5eed0000-0000-4000-8000-000000000001"
PROMPT = "Hello"
SETTLE_LIMIT_S = 3.0


@dataclass(frozen=True)
class RealPair:
    """Both servers, their GPU, and what each answers to PROMPT while its weights are right."""

    ledger: Ledger
    first: RealServer
    second: RealServer
    right_answers: dict[str, str]

    @property
    def servers(self) -> tuple[RealServer, RealServer]:
        return self.first, self.second

    def settle(self, awake: RealServer | None) -> None:
        """`awake` is awake with the right weights, the other sleeps at level 1, no fault waits.

        Takes about 0.1 s, and 12 s for each server that had died or does not obey, and is started again.
        """
        for server in self.servers:
            server.clear_fault()
            if not lay_down(server):
                server.stop(limit_s=SETTLE_LIMIT_S)
        for server in self.servers:
            if not server.is_started:
                self._start(server)
        if awake is None or self._is_right(awake):
            return
        awake.stop(limit_s=SETTLE_LIMIT_S)
        self._start(awake)
        if not self._is_right(awake):
            raise ServerFailed(f"{awake.name} does not answer right after a fresh start; see {awake.log}")

    def _start(self, server: RealServer) -> None:
        server.start()
        server.wait_healthy()
        lay_down(server)

    def _is_right(self, sleeper: RealServer) -> bool:
        """The sleeper is awake, and answers as it did at first."""
        if not raise_up(sleeper):
            return False
        answer = sleeper.chat(PROMPT)
        return self.right_answers.setdefault(sleeper.name, answer) == answer


def lay_down(server: RealServer) -> bool:
    """The server sleeps at level 1, whatever half-done state it was in. False when it does not obey."""
    return _obeys(
        server,
        (
            "/collective_rpc",
            {"method": "sleep", "kwargs": {"level": 1}},
        ),  # what the executor believes to be awake or not
        ("/sleep?level=1&mode=abort", None),
    )


def raise_up(server: RealServer) -> bool:
    """A sleeping server is awake, its weights read anew from its files. False when it does not obey."""
    return _obeys(
        server,
        ("/wake_up?tags=weights", None),
        ("/collective_rpc", {"method": "reload_weights"}),
        ("/wake_up", None),
        ("/reset_prefix_cache", None),
    )


def _obeys(server: RealServer, *calls: tuple[str, object]) -> bool:
    if not server.is_started:
        return False
    try:
        return all(server.request("POST", path, body, timeout_s=SETTLE_LIMIT_S).status == 200 for path, body in calls)
    except OSError:
        return False


@pytest.fixture(scope="session")
def real_pair(request: pytest.FixtureRequest) -> Iterator[RealPair]:
    """Both servers running: the first awake, the second asleep. About 15 s on two cores."""
    directory = Path(tempfile.mkdtemp(prefix="sleepd-real-", dir="/tmp"))  # short, for the sockets' sake
    ledger = Ledger.create(directory / "gpus", [LedgerGpu(GPU_UUID, GPU_BYTES)])
    gate = directory / "first-is-asleep"
    first = RealServer("tiny-1", directory, ledger)
    second = RealServer("tiny-2", directory, ledger, start_gate=gate)
    pair = RealPair(ledger, first, second, {})
    try:
        first.start()
        second.start()
        first.wait_healthy()
        lay_down(first)
        gate.touch()
        second.wait_healthy()
        for server in (second, first):
            pair.settle(awake=server)
        yield pair
    finally:
        for server in pair.servers:
            server.stop()
        if request.session.testsfailed:
            print(f"the servers' logs are in {directory}")
        else:
            shutil.rmtree(directory)


@pytest.fixture
def real_servers(real_pair: RealPair) -> RealPair:
    """Both servers for one test, which may do anything to them: the first awake, the second asleep at level 1."""
    real_pair.settle(awake=real_pair.first)
    return real_pair


@pytest.fixture(scope="module")
def real_vllm(real_pair: RealPair) -> RealServer:
    """One server, awake at first, for a module's tests that leave it as they found it."""
    real_pair.settle(awake=real_pair.first)
    return real_pair.first


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built stand-in for libnvidia-ml.so.1; `tests.fakenvml.build.fool` makes a process load it."""
    return build(tmp_path_factory.mktemp("fakenvml"))
