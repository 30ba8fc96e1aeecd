"""Deaths by the kernel's OOM killer, told from made-up trees of cgroup v2."""

import shutil
from pathlib import Path

import pytest

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec
from tests.adapters.raw_server import reply, serving

UNIT = ModelSpec("a", "http://127.0.0.1:1", unit="vllm@a.service")
OWN, SLICE = "system.slice/vllm@a.service", "system.slice"
ENDED = f"the kernel's OOM killer ended a process of {OWN}"
STRUCK = f"the kernel's OOM killer struck in {SLICE} as it ended"


def kill(root: Path, group: str, times: int) -> None:
    """As the kernel writes it, with what came before and after it on the page."""
    directory = root / group
    directory.mkdir(parents=True, exist_ok=True)
    page = f"low 0\nhigh 3\nmax 12\noom 1\noom_kill {times}\noom_group_kill 0\n"
    (directory / "memory.events").write_text(page)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    for group in (SLICE, OWN):
        kill(tmp_path, group, 1)
        (tmp_path / group / "memory.current").write_text("10\n")
        (tmp_path / group / "memory.stat").write_text("anon 5\n")
    return tmp_path


async def test_what_was_counted_before_it_was_first_seen_is_not_its_end(root: Path) -> None:
    units = CgroupMemory(root)
    assert await units.killed(UNIT) == ""
    units.read(UNIT, (7,))
    assert await units.killed(UNIT) == ""


async def test_one_of_its_processes_was_killed_while_the_server_still_answered(root: Path) -> None:
    """EngineCore is killed, the API server ends seconds later: looks in between succeed."""
    units = CgroupMemory(root)
    units.read(UNIT, (7,))
    kill(root, OWN, 2)
    units.read(UNIT, (7,))
    assert await units.killed(UNIT) == ENDED
    units.read(UNIT, (7,))
    assert await units.killed(UNIT) == "", "another process"


@pytest.mark.parametrize(("times", "told"), [(2, STRUCK), (1, "")])
async def test_a_cgroup_that_is_gone_leaves_its_count_with_what_it_lay_in(root: Path, times: int, told: str) -> None:
    units = CgroupMemory(root)
    units.read(UNIT, (7,))
    kill(root, SLICE, times)
    shutil.rmtree(root / OWN)
    assert await units.killed(UNIT) == told


@pytest.mark.parametrize("page", ["", "oom_kill many\n", "some_oom_kill 9\n"])
async def test_a_page_that_tells_nothing_is_no_death(root: Path, page: str) -> None:
    units = CgroupMemory(root)
    units.read(UNIT, (7,))
    (root / OWN / "memory.events").write_text(page)
    assert await units.killed(UNIT) == ""


async def test_every_refusal_tells_it_until_another_process_answers(root: Path) -> None:
    pages = {
        "/metrics/": b"process_start_time_seconds 12.5\n",
        "/version": {"version": "0.32.0"},
        "/is_sleeping": {"is_sleeping": False},
    }
    spec = ModelSpec("a", f"unix:{root / 's'}", unit=UNIT.unit)
    vllm = VllmServer(spec, SystemClock(), ProcessFinder(root), CgroupMemory(root))
    async with serving(root / "s", lambda asked: reply(pages.get(asked.path, {}))):
        assert isinstance(await vllm.look(ask_sleeping=False, timeout_s=5.0), Known)
    kill(root, OWN, 2)
    for _ in range(3):
        gone = await vllm.look(ask_sleeping=True, timeout_s=5.0)
        assert isinstance(gone, Missing)
        assert (gone.reason, gone.killed) == (MissingReason.REFUSED, ENDED)
    pages["/metrics/"] = b"process_start_time_seconds 99.5\n"
    async with serving(root / "s", lambda asked: reply(pages.get(asked.path, {}))):
        assert isinstance(await vllm.look(ask_sleeping=False, timeout_s=5.0), Known)
    gone = await vllm.look(ask_sleeping=True, timeout_s=5.0)
    assert isinstance(gone, Missing)
    assert gone.killed == "", "that one ended otherwise"
    await vllm.close()
