"""What the doctor sees of a host, its units and its GPUs: made-up trees and processes, limits, shared GPUs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from core_worlds import FACTS, record, seen, world
from doctor_worlds import unmarred

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.adapters.store import DATABASE
from sleepd.cli.doctor import judge_nvml, tell_none
from sleepd.core.footprint import Footprint
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpuSeen, MemoryLimit
from sleepd.core.units import GIB
from sleepd.doctor.findings import Finding, Verdict
from sleepd.doctor.host import HostKind, judge_kind
from sleepd.doctor.limits import judge_limits
from sleepd.doctor.models import judge_models
from sleepd.doctor.placement import judge_boot, judge_placement
from sleepd.doctor.servers import interposer_of
from sleepd.doctor.units import UnitSettings
from sleepd.service.examination import look_at_disk
from sleepd.survey.host import find_controllers, find_orphans, is_clock_synchronized, is_wsl, unified_memory
from sleepd.survey.table import ProcessTable, read_table


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"clock": None}, {"host.clock": "warn"}),
        ({"clock": False}, {"host.clock": "warn"}),
        ({"wsl": True}, {"host.wsl": "warn"}),
        ({"unified": "NVIDIA GB10"}, {"gpu.unified": "warn"}),
        ({"unified": None}, {"gpu.unified": "warn"}),
        ({"controllers": ["llama-swap (pid 7)"]}, {"host.controllers": "warn"}),
        ({"orphans": ["VLLM::EngineCore, pid 7 of vllm"]}, {"gpu.orphans": "warn"}),
        ({"hides": True}, {"host.controllers": "warn", "gpu.orphans": "warn"}),
    ],
)
def test_kinds_of_hosts(change: dict[str, Any], expected: dict[str, str]) -> None:
    assert unmarred(judge_kind(HostKind(**change))) == expected


def tree(root: Path, **files: str) -> Path:
    for number, (name, text) in enumerate(files.items()):
        path = root / {
            "card": f"proc/driver/nvidia/gpus/{number}/information",
        }.get(name, f"proc/device-tree/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_wsl_is_known_by_its_kernel() -> None:
    assert not is_wsl("6.8.0-60-generic")
    assert is_wsl("5.15.167.4-microsoft-standard-WSL2")


def test_unified_memory_is_known_by_the_gpus_names_and_by_the_board(tmp_path: Path) -> None:
    rack = tree(tmp_path / "rack", card="Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 7\n")
    assert unified_memory([], rack) == ""
    assert unified_memory([], tree(tmp_path / "spark", card="Model: \t\t NVIDIA GB10\n")) == "NVIDIA GB10"
    jetson = tree(tmp_path / "jetson", compatible="nvidia,p3701\0nvidia,tegra234\0", model="NVIDIA Jetson AGX Orin\0")
    assert unified_memory([], jetson) == "NVIDIA Jetson AGX Orin"
    bare = tmp_path / "none"
    assert unified_memory(["NVIDIA H100", "NVIDIA GB10"], bare) == "NVIDIA GB10"
    assert unified_memory(["NVIDIA H100"], bare) == ""
    assert unified_memory([], bare) is None, "neither NVML nor the kernel tells"


def test_other_controllers_and_engines_without_a_server_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        (1, "systemd", 0, ["/sbin/init"]),
        (10, "llama-swap", 1, ["llama-swap", "--config", "x"]),
        (11, "python3", 1, ["/usr/bin/python3", "-I", "/usr/bin/sleepd", "run"]),
        (12, "less", 1, ["less", "sleepd", "running"]),
        (13, "sudo", 1, ["sudo", "sleepd", "run"]),
        (20, "vllm", 1, ["python", "vllm", "serve", "m"]),
        (21, "VLLM::EngineCor", 20, ["VLLM::EngineCore"]),
        (22, "VLLM::EngineCor", 1, ["VLLM::EngineCore"]),
    ]
    found = [
        SimpleNamespace(pid=pid, info={"name": name, "ppid": parent, "cmdline": words})
        for pid, name, parent, words in rows
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda _: iter(found))
    monkeypatch.setattr(psutil, "Process", lambda pid: SimpleNamespace(username=lambda: "vllm"))
    table = read_table()
    assert not table.hides
    assert find_controllers(table) == ("llama-swap (pid 10)",)
    assert find_orphans(table) == ("VLLM::EngineCore, pid 22 of vllm",)
    found.append(SimpleNamespace(pid=14, info=found[2].info))
    assert find_controllers(read_table())[1] == "sleepd runs 2 times (pid 11, 14)"


@pytest.mark.parametrize("first", [[], [SimpleNamespace(pid=1, info={"name": None, "ppid": None, "cmdline": None})]])
def test_processes_that_the_kernel_hides_are_known_by_the_first(
    first: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = SimpleNamespace(pid=9, info={"name": "bash", "ppid": 1, "cmdline": ["bash"]})
    monkeypatch.setattr(psutil, "process_iter", lambda _: iter([*first, own]))
    assert read_table().hides


def test_where_nothing_is_there_that_is_said_and_where_nothing_is_seen_that() -> None:
    none, unseen = tell_none(ProcessTable({})), tell_none(ProcessTable({}, hides=True))
    assert (none.verdict, none.found, unseen.verdict) == ("ok", "none runs here, of 0 processes", "warn")
    assert judge_nvml(Known((on(0, ()),), 0.0, 0.0)).verdict == "ok"
    assert judge_nvml(Known((), 0.0, 0.0)) == Finding("gpu.caller", Verdict.WARN, "no GPU is listed")
    no_driver = judge_nvml(Missing(MissingReason.UNREADABLE, "NVML: no library"))
    assert (no_driver.verdict, no_driver.found) == ("warn", "NVML: no library")


def test_a_database_that_is_gone_or_cannot_be_written_is_told_whatever_its_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert look_at_disk(tmp_path / "none", "").wrong == "No such file or directory"
    assert "is gone" in look_at_disk(tmp_path, "").wrong
    (database := tmp_path / DATABASE).touch()
    assert (look_at_disk(tmp_path, "").wrong, look_at_disk(tmp_path, "full").unrecorded) == ("", "full")
    for locked in (database, tmp_path):
        monkeypatch.setattr(os, "access", lambda path, mode, locked=locked: path != locked)
        assert look_at_disk(tmp_path, "").wrong == f"{locked.name} cannot be written"


@pytest.mark.parametrize(("state", "synchronized"), [(0, True), (1, True), (5, False), (-1, None)])
def test_whether_the_clock_is_right_is_the_kernels_word(
    state: int, synchronized: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(adjtimex=lambda told: state))
    assert is_clock_synchronized() is synchronized


def test_a_library_before_the_drivers_is_known_by_the_environment() -> None:
    assert interposer_of({"LD_PRELOAD": "/usr/local/vgpu/libvgpu.so"}) == "/usr/local/vgpu/libvgpu.so"
    assert interposer_of({"CUDA_DEVICE_MEMORY_LIMIT_0": "40g"}) == "CUDA_DEVICE_MEMORY_LIMIT_0"
    assert interposer_of({"LD_PRELOAD": "/usr/lib/libjemalloc.so"}) == ""


OWN = "system.slice/system-vllm.slice/vllm@a.service"


@pytest.mark.parametrize(
    ("gib", "more", "expected"),
    [
        (200, {}, "ok"),
        (30, {}, "ok"),  # the checkpoint's 10 and, unmeasured, twice that
        (29, {}, "warn"),
        (19, {}, "fail"),
        (24, {"footprint": Footprint(backups=(12 * GIB,))}, "ok"),
        (21, {"footprint": Footprint(backups=(12 * GIB,), host_pinned=True)}, "warn"),
        (11, {"spec": {"host_ram_bytes": 12 * GIB}}, "fail"),
        (100, {"facts": None, "footprint": Footprint()}, "warn"),
    ],
)
def test_a_limit_holds_weights_and_backup_or_is_told(gib: int, more: dict[str, Any], expected: str) -> None:
    made = world(record("a", **more))
    (found,) = judge_limits(made, {"a": [MemoryLimit(OWN, "memory.max", gib * GIB)]})
    assert (found.check, found.verdict, found.about) == ("unit.memory", expected, "vllm@a.service")
    assert f"memory.max is {gib}GiB" in found.found


def test_a_limit_above_several_must_hold_all_their_backups_and_who_never_sleeps_needs_none() -> None:
    made = world(record("a"), record("b"), record("c", spec={"max_level": 0}))
    slice_ = MemoryLimit("system.slice", "memory.high", 50 * GIB)
    own = MemoryLimit(OWN, "memory.max", 49 * GIB)
    found = list(judge_limits(made, {"a": [own, slice_], "b": [slice_], "c": [MemoryLimit("c", "memory.max", GIB)]}))
    assert [(one.about, one.verdict.value) for one in found] == [("vllm@a.service", "ok"), ("system.slice", "ok")]
    tight = replace(slice_, limit_bytes=49 * GIB)
    (found_two,) = judge_limits(made, {"a": [tight], "b": [tight]})
    assert found_two.verdict is Verdict.WARN
    assert "weights and the backups of 2 models are up to 50GiB" in found_two.found


def test_limits_are_read_from_the_unit_up_to_the_root(tmp_path: Path) -> None:
    for group, limit in ((OWN, "1000"), ("system.slice/system-vllm.slice", "max"), ("system.slice", "5000")):
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "memory.max").write_text(limit)
    (tmp_path / "system.slice" / "memory.high").write_text("4000")
    model = record("a", spec={"unit": "vllm@a.service"})
    assert CgroupMemory(tmp_path).limits(model.spec, ()) == (
        MemoryLimit(OWN, "memory.max", 1000),
        MemoryLimit("system.slice", "memory.max", 5000),
        MemoryLimit("system.slice", "memory.high", 4000),
    )
    (tmp_path / "memory.max").write_text("3000")
    assert CgroupMemory(tmp_path).limits(model.spec, ())[3:] == (MemoryLimit("/", "memory.max", 3000),)
    assert CgroupMemory(tmp_path / "none").limits(model.spec, ()) == ()


def on(number: int, pids: tuple[int, ...]) -> GpuSeen:
    return GpuSeen(f"GPU-{number}", number, 80 * GIB, GIB, dict.fromkeys(pids, GIB))


def placed(name: str, pid: int, *gpus: str, **more: Any) -> ModelRecord:
    model = record(name, seen=seen(pids=(pid,)), **more)
    return replace(model, spec=replace(model.spec, gpus=gpus, unit=more.get("unit", "v.service")))


def test_the_gpus_that_are_configured_are_compared_with_those_that_are_used() -> None:
    model = placed("a", 7, "0")
    assert unmarred(judge_placement(world(model), (on(0, (7,)), on(1, ())))) == {}
    (wrong,) = judge_placement(world(model), (on(0, ()), on(1, (7,))))
    assert (wrong.verdict, wrong.found) == ("fail", "gpus = 0, but it holds memory on GPU 1")
    both = placed("a", 7, "0", "1")
    assert unmarred(judge_placement(world(both), (on(0, (7,)), on(1, ())))) == {"model.gpus": "warn"}
    (nowhere,) = judge_placement(world(placed("a", 7, "5")), (on(0, (7,)),))
    assert (nowhere.verdict, nowhere.found) == (
        "fail",
        "gpus = 5 in [models.a], but the GPUs here are 0 (nvidia-smi -L)",
    )
    # Where nobody tells who holds what, or where it may be, nothing is said.
    assert list(judge_placement(world(model), (replace(on(0, ()), used_by_pid=None),))) == []
    assert list(judge_placement(world(placed("a", 7)), (on(0, (7,)),))) == []


def test_who_starts_beside_others_needs_a_unit_or_a_kv_cache_of_a_given_size() -> None:
    gpus = (on(0, ()), on(1, ()))
    pair = (placed("a", 7, "0"), placed("b", 8, "0"))
    assert unmarred(judge_placement(world(*pair), gpus)) == {}
    bare = replace(pair[0], spec=replace(pair[0].spec, unit=""))
    (warned,) = (one for one in judge_placement(world(bare, pair[1]), gpus) if one.verdict is Verdict.WARN)
    assert (warned.check, warned.about) == ("model.start", "a")
    assert "while b may sleep or wake" in warned.found
    sized = replace(bare, facts=replace(FACTS, kv_cache_memory_bytes=GIB))
    assert unmarred(judge_placement(world(sized, pair[1]), gpus)) == {}
    apart = replace(pair[1], spec=replace(pair[1].spec, gpus=("1",)))
    assert list(judge_placement(world(bare, apart), gpus)) == [], "nobody beside it"


def test_units_of_one_gpu_that_start_together_at_boot_are_told() -> None:
    units = [UnitSettings(f"{name}.service", enabled=name != "c") for name in "abc"]
    gpus_of = {f"{name}.service": ["GPU-0"] for name in "abc"}
    (found,) = judge_boot(units, gpus_of)
    assert (found.verdict, found.found) == ("warn", "a.service, b.service start together at boot, on one GPU")
    assert unmarred(judge_boot(units, gpus_of | {"b.service": ["GPU-1"]})) == {}
    (none,) = judge_boot([replace(one, enabled=False) for one in units], gpus_of)
    assert (none.verdict, none.found) == ("ok", "none does")
    assert list(judge_boot([], gpus_of)) == []


def test_what_starts_at_boot_on_which_gpu_is_not_said_to_be_well_where_it_is_not_known() -> None:
    apart = {"a.service": ["GPU-0"], "b.service": ["GPU-1"]}
    units = [UnitSettings("a.service", enabled=True), UnitSettings("b.service", enabled=True)]

    def warned(units: Iterable[UnitSettings], gpus_of: dict[str, list[str]]) -> list[str]:
        return [one.found for one in judge_boot(units, gpus_of) if one.verdict is Verdict.WARN]

    assert warned(units, apart) == []
    assert warned(units, {**apart, "b.service": []}) == ["on which GPU b.service starts at boot is not known"]
    assert warned(units, {"a.service": ["GPU-0"]}) == ["on which GPU b.service starts at boot is not known"]
    unread = [units[0], UnitSettings("b.service", missing="systemd did not answer")]
    assert warned(unread, apart) == ["whether b.service starts at boot is not known"]
    # One alone meets nobody, wherever it is.
    assert [one.verdict for one in judge_boot(units[1:], {"b.service": []})] == [Verdict.OK]
    assert list(judge_boot([UnitSettings("b.service", missing="there is no such unit")], {})) == []
    both = [UnitSettings(name, missing="systemd did not answer") for name in apart]
    assert warned(both, apart) == ["whether a.service, b.service starts at boot is not known"]


def test_what_sleeps_left_behind_is_told_once_there_are_two() -> None:
    def grown(*residual: int, sleeps: int) -> list[Finding]:
        footprint = Footprint(
            residual={"1": {"GPU-0": residual}}, first_residual={"1": {"GPU-0": residual[0]}}, sleeps=sleeps
        )
        found = judge_models(world(record("a", footprint=footprint)), 0.0, {})
        return [one for one in found if one.check == "model.grows"]

    assert grown(GIB, sleeps=1) == []
    assert grown(GIB, GIB, sleeps=2)[0].found == "after 2 sleeps it keeps no more than after its first"
    assert grown(GIB, 2 * GIB, sleeps=2)[0].found == "after 2 sleeps it keeps 1GiB more than after its first"


def test_several_ranks_without_a_unit_are_told_to_need_one() -> None:
    model = record("a", facts=replace(FACTS, tensor_parallel=2))
    (found,) = (one for one in judge_models(world(model), 0.0, {}) if one.check == "model.unit")
    assert "several ranks leaves nothing but a restart (F46)" in found.found
