"""What a unit holds and which limit above it binds: made-up trees of cgroup v2, read from files."""

from dataclasses import replace
from pathlib import Path

import pytest

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.host_memory import ProcHostMemory
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.model import Known, ModelSpec
from sleepd.core.seen import UnitMemory
from tests.adapters.raw_server import reply, serving

UNIT = ModelSpec("a", "http://127.0.0.1:1", unit="vllm@a.service")


def group(root: Path, path: str, current: int, *, limits: dict[str, str] | None = None, **stat: int) -> Path:
    """One cgroup; `current` is memory.current, `stat` memory.stat, `limits` other files."""
    directory = root / path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "memory.current").write_text(f"{current}\n")
    (directory / "memory.stat").write_text("".join(f"{key} {value}\n" for key, value in stat.items()))
    for name in ("memory.max", "memory.high"):
        (directory / name).write_text((limits or {}).get(name, "max") + "\n")
    return directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    group(tmp_path, "system.slice", 900, active_file=100)
    group(tmp_path, "system.slice/vllm@a.service", 500, anon=200, shmem=100, file=180, active_file=50, inactive_file=30)
    return tmp_path


def read(root: Path, spec: ModelSpec = UNIT, pids: tuple[int, ...] = ()) -> UnitMemory | None:
    return CgroupMemory(root, root / "proc").read(spec, pids)


def test_reclaimable_file_pages_do_not_count_and_shmem_does(root: Path) -> None:
    assert read(root) == UnitMemory(used_bytes=420, kept_bytes=300, own=True, limit_bytes=None)


@pytest.mark.parametrize(
    ("where", "limits", "bound", "by"),
    [
        (
            "system.slice/vllm@a.service",
            {"memory.max": "1000"},
            (1000, 420),
            "memory.max of system.slice/vllm@a.service",
        ),
        ("system.slice/vllm@a.service", {"memory.max": "1000", "memory.high": "700"}, (700, 420), "memory.high of"),
        # The slice's own limit is larger, but so is what others in it hold.
        ("system.slice", {"memory.max": "1010"}, (1010, 800), "memory.max of system.slice"),
    ],
)
def test_the_limit_that_leaves_least_room_binds(
    root: Path, where: str, limits: dict[str, str], bound: tuple[int, int], by: str
) -> None:
    for name, value in limits.items():
        (root / where / name).write_text(value)
    found = read(root)
    assert found is not None
    assert (found.limit_bytes, found.limit_used_bytes) == bound
    assert found.limited_by.startswith(by)
    assert found.headroom_bytes == bound[0] - bound[1]


def test_of_a_limit_on_the_unit_and_one_above_the_tighter_is_told(root: Path) -> None:
    (root / "system.slice/vllm@a.service/memory.max").write_text("2000")
    (root / "system.slice/memory.max").write_text("1500")
    found = read(root)
    assert found is not None
    assert found.limited_by == "memory.max of system.slice"
    assert found.headroom_bytes == 700


def test_several_containers_of_one_server_add_up(root: Path) -> None:
    group(root, "docker/a1", 10, anon=4, limits={"memory.max": "50"})
    group(root, "docker/a2", 20, anon=6, limits={"memory.max": "40"})
    found = read(root, ModelSpec("a", "http://127.0.0.1:1", cgroup="docker/a*"))
    assert found is not None
    assert (found.used_bytes, found.kept_bytes, found.headroom_bytes) == (30, 10, 20)


def test_without_a_unit_the_limits_of_its_processs_cgroup_count_and_growth_does_not(root: Path) -> None:
    group(root, "user.slice/app.scope", 70, anon=60, limits={"memory.max": "100"})
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text("4:memory:/elsewhere\n0::/user.slice/app.scope\n")
    found = read(root, ModelSpec("a", "http://127.0.0.1:1", gpus=("0",)), (7,))
    assert found == UnitMemory(70, 60, False, 100, 70, "memory.max of user.slice/app.scope")


@pytest.mark.parametrize(
    "slices", ["a.slice/a-b.slice/a-b-c.slice", "user.slice/user-1000.slice/user@1000.service/app.slice"]
)
def test_a_unit_deep_below_the_root_is_found_by_its_process_and_is_its_own(root: Path, slices: str) -> None:
    """What its backup took shows there as in any unit's cgroup; its workers may be in groups of their own below it."""
    unit = ModelSpec("a", "http://127.0.0.1:1", unit="deep.service")
    group(root, f"{slices}/deep.service", 70, anon=50, shmem=10, limits={"memory.max": "100"})
    group(root, f"{slices}/deep.service/worker", 7, anon=5)
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text(f"0::/{slices}/deep.service/worker\n")
    assert read(root, unit, (7,)) == UnitMemory(70, 60, True, 100, 70, f"memory.max of {slices}/deep.service")
    elsewhere = replace(unit, unit="another.service")
    assert read(root, elsewhere, (7,)) == UnitMemory(7, 5, False, 100, 70, f"memory.max of {slices}/deep.service")


def test_what_was_swapped_out_is_kept_all_the_same(root: Path) -> None:
    """Else the rest of the server, pushed out by its own backup, would be taken off what that took."""
    (root / "system.slice/vllm@a.service/memory.swap.current").write_text("40\n")
    assert read(root) == UnitMemory(used_bytes=420, kept_bytes=340, own=True, limit_bytes=None)


def test_a_limit_counts_where_what_is_held_below_it_cannot_be_read(root: Path) -> None:
    (root / "system.slice/memory.max").write_text("1000")
    (root / "system.slice/memory.stat").unlink()
    found = read(root)
    assert found is not None
    assert (found.limit_bytes, found.limit_used_bytes) == (1000, 420), "at least what the server holds itself"


def test_in_a_container_the_limit_of_its_own_root_binds_too(root: Path) -> None:
    """The container's cgroup is the root there (cgroup_namespaces(7)), and what runs in it is "0::/"."""
    group(root, ".", 950, active_file=50, anon=600, limits={"memory.max": "1000"})
    found = read(root)
    assert found is not None
    assert (found.headroom_bytes, found.limited_by) == (100, "memory.max of /")
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text("0::/\n")
    bare = ModelSpec("a", "http://127.0.0.1:1", gpus=("0",))
    assert read(root, bare, (7,)) == UnitMemory(900, 600, False, 1000, 900, "memory.max of /")


@pytest.mark.parametrize("content", ["0::/../../etc\n", "0::/gone\n", "garbage\n", ""])
def test_a_cgroup_that_is_not_below_the_root_is_not_read(root: Path, content: str) -> None:
    (root / "proc/7").mkdir(parents=True)
    (root / "proc/7/cgroup").write_text(content)
    assert read(root, ModelSpec("a", "http://127.0.0.1:1", gpus=("0",)), (7,)) is None


def test_a_unit_without_readable_numbers_is_not_known(root: Path) -> None:
    (root / "system.slice/vllm@a.service/memory.current").write_text("many\n")
    assert read(root) is None
    assert read(root, ModelSpec("a", "http://127.0.0.1:1", unit="other.service")) is None


async def test_a_host_of_cgroup_v1_says_so_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 2 kB\nMemAvailable: 1 kB\n")
    units = CgroupMemory(tmp_path)
    reading = await ProcHostMemory(tmp_path, SystemClock(), units).read()
    assert isinstance(reading, Known)
    assert f"wanted cgroup v2 in {tmp_path}, found cgroup v1" in reading.value.no_limits
    assert "systemd.unified_cgroup_hierarchy=1" in reading.value.no_limits
    (tmp_path / "cgroup.controllers").write_text("")
    assert units.refusal() == ""


async def test_a_look_brings_the_units_memory_but_not_the_look_a_wake_waits_for(root: Path) -> None:
    pages = {
        "/metrics/": b"process_start_time_seconds 12.5\n",
        "/version": {"version": "0.32.0"},
        "/is_sleeping": {"is_sleeping": False},
    }
    async with serving(root / "s", lambda asked: reply(pages.get(asked.path, {}))):
        spec = ModelSpec("a", f"unix:{root / 's'}", unit=UNIT.unit)
        vllm = VllmServer(spec, SystemClock(), ProcessFinder(root), CgroupMemory(root))
        found = []
        for ask_sleeping, fence in ((True, False), (False, False), (True, False), (True, True)):
            reading = await vllm.look(ask_sleeping=ask_sleeping, timeout_s=5.0, fence=fence)
            assert isinstance(reading, Known), reading
            found.append(reading.value.unit_memory)
        await vllm.close()
    assert found == [UnitMemory(420, 300), UnitMemory(420, 300), None, UnitMemory(420, 300)]
