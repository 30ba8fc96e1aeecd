"""The doctor's judgements: each check with facts that pass it and facts that do not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from core_worlds import FACTS, NOW, gpus, record
from doctor_worlds import unmarred, verdicts, world

from sleepd.cli.doctor import tell_findings
from sleepd.cli.screen import Screen
from sleepd.core.footprint import Footprint
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.seen import EngineFacts, GpuSeen
from sleepd.core.units import GIB, MIB
from sleepd.doctor.checks import CHECKS
from sleepd.doctor.daemon import DiskSeen, judge_daemon, judge_gpus
from sleepd.doctor.engines import judge_engine
from sleepd.doctor.findings import Verdict, by_check, fail, ok, warn, worst
from sleepd.doctor.models import judge_models
from sleepd.doctor.servers import UNTRUSTED, ServerSeen, judge_server
from sleepd.doctor.trial import Free, judge_trial
from sleepd.doctor.units import UnitSettings, judge_rights, judge_unit
from sleepd.survey.host import POLKIT, RULE, polkit_on

GOOD = ServerSeen("a", "unix:/run/vllm/a.sock", dev_mode=True, environ={}, facts=FACTS, managed=True)
DISK = DiskSeen("/var/lib/sleepd", 100 * GIB)


def test_a_server_that_is_as_it_should_be_passes_everything() -> None:
    found = verdicts(judge_server(GOOD))
    assert set(found.values()) == {"ok"}
    assert found.keys() == {check for check in CHECKS if check.startswith("server.")}
    unread = verdicts(judge_server(replace(GOOD, environ=None)))
    assert found.keys() - unread.keys() == {"server.environment", "server.interposer"}, "one line says so for all"
    unasked = verdicts(judge_server(replace(GOOD, facts=None, locked=None)))
    assert "server.key" not in unasked, "whether it has one was not told"
    keyed = replace(GOOD, locked=True)
    assert [one.found for one in judge_server(keyed) if one.check == "server.key"] == ["it has one, and a unix socket"]


def test_a_model_that_is_as_it_should_be_passes_everything_that_may_be_asked_of_it() -> None:
    """`model.start` and `model.gpus` depend on its GPUs, and are elsewhere."""
    slept = Footprint(freed={"g": (9,)}, awake={"g": 10}, sleeps=2)
    model = record(
        spec={"unit": "v.service", "max_level": 2}, facts=replace(FACTS, checkpoint_bytes=GIB), footprint=slept
    )
    found = verdicts(judge_models(world(model), NOW.mono_s, {}))
    assert set(found.values()) == {"ok"}
    assert found.keys() == {check for check in CHECKS if check.startswith("model.")} - {"model.start", "model.gpus"}
    assert "model.frees" not in verdicts(judge_models(world(record()), NOW.mono_s, {})), "no sleep was measured"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"facts": None, "silent": "nobody listens there"}, {"server.answers": "warn"}),
        ({"dev_mode": False}, {"server.dev-mode": "fail"}),
        ({"dev_mode": None, "environ": {"HOME": "/"}}, {"server.dev-mode": "fail"}),
        # As vLLM reads it: bool(int(value)).
        ({"dev_mode": None, "environ": {"VLLM_SERVER_DEV_MODE": " 01"}}, {}),
        ({"dev_mode": None, "environ": {"VLLM_SERVER_DEV_MODE": "2"}}, {}),
        ({"dev_mode": None, "environ": {"VLLM_SERVER_DEV_MODE": "0"}}, {"server.dev-mode": "fail"}),
        ({"dev_mode": None, "environ": {"VLLM_SERVER_DEV_MODE": "true"}}, {"server.dev-mode": "fail"}),
        ({"dev_mode": None, "environ": None}, {"server.dev-mode": "warn", "server.allocator": "warn"}),
        ({"exposed": True}, {"server.exposed": "fail"}),
        ({"exposed": None}, {"server.exposed": "warn"}),
        # Without sleep endpoints an open port is vLLM's ordinary API.
        ({"exposed": True, "dev_mode": False}, {"server.dev-mode": "fail"}),
        ({"locked": True, "url": "http://127.0.0.1:8000"}, {"server.key": "warn"}),
        ({"locked": True}, {}),
        ({"locked": None}, {"server.key": "warn"}),
        ({"managed": False}, {"server.managed": "warn"}),
        ({"wrong_unit": "vllm@b.service"}, {"server.managed": "warn"}),
        ({"managed": None}, {}),
        ({"encoder_stays": True}, {"server.encoder": "warn"}),
        ({"encoder_stays": None}, {"server.encoder": "warn"}),
        ({"counts": False}, {"server.counts": "warn"}),
        ({"counts": None}, {"server.counts": "warn"}),
        ({"port_of": ["pid 8"]}, {"server.port": "warn"}),
        ({"port_of": None}, {"server.port": "warn"}),
        # It said its release, and nothing more.
        ({"silent": "no answer within 5 s"}, {"server.answers": "warn"}),
        ({"environ": {"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "1"}}, {"server.environment": "warn"}),
        ({"environ": {"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH": "2"}}, {"server.environment": "warn"}),
        ({"environ": {"VLLM_USE_V1": "1"}}, {}),
        ({"environ": {"VLLM_USE_V1": "00"}}, {"server.environment": "warn"}),
        ({"interposed": "/usr/local/vgpu/libvgpu.so"}, {"server.interposer": "warn"}),
        ({"environ": None}, {"server.allocator": "warn"}),
        ({"environ": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}}, {"server.allocator": "warn"}),
        ({"environ": {"PYTORCH_ALLOC_CONF": "a:1,expandable_segments:True"}}, {"server.allocator": "fail"}),
        ({"environ": {"PYTORCH_CUDA_ALLOC_CONF": "a:1, expandable_segments: True"}}, {"server.allocator": "warn"}),
        ({"environ": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False"}}, {}),
        # Where it listens is not known, so neither is who reaches it.
        ({"url": "", "facts": None}, {"server.answers": "warn", "server.exposed": "warn"}),
    ],
)
def test_what_is_wrong_with_a_server(change: dict[str, Any], expected: dict[str, str]) -> None:
    found = list(judge_server(replace(GOOD, **change)))
    assert unmarred(found) == expected
    assert len({one.check for one in found}) == len(found), "no line says ok beside one that says otherwise"


@pytest.mark.parametrize(
    ("silent", "environ", "helps"),
    [
        ("no answer within 5 s", {}, "wait until it has loaded"),
        ("no answer within 5 s", None, "run sleepctl doctor as root"),
        ("Permission denied", {}, "run sleepctl doctor as root"),
        (f"{UNTRUSTED} (self-signed certificate)", {}, "set ca_file of its model"),
        ("it listens in a network namespace of its own", {}, "--uds PATH"),
    ],
)
def test_a_server_that_does_not_answer_is_told_with_what_helps(
    silent: str, environ: dict[str, str] | None, helps: str
) -> None:
    found = list(judge_server(replace(GOOD, facts=None, silent=silent, environ=environ, counts=None)))
    assert found[0].check == "server.answers"
    assert helps in found[0].remedy
    assert "server.counts" not in verdicts(found), "it was not asked"


def test_before_0_20_nothing_switches_expandable_segments_off() -> None:
    old = replace(FACTS, version="0.19.0", release=(0, 19))
    environ = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert unmarred(judge_server(replace(GOOD, facts=old, environ=environ))) == {"server.allocator": "fail"}


def facts(release: tuple[int, ...] | None, **more: Any) -> EngineFacts:
    return replace(FACTS, version=".".join(map(str, release or ("fork",))), release=release, **more)


@pytest.mark.parametrize(
    ("engine", "fenced", "expected"),
    [
        (FACTS, False, {}),
        (facts((0, 32), sleep_mode=False), False, {"model.sleep-mode": "fail"}),
        (facts((0, 32), sleep_mode=None), False, {"model.sleep-mode": "warn"}),
        (facts((0, 15)), False, {"model.sleep-mode": "fail", "model.trap": "warn"}),
        (facts((0, 15)), True, {"model.trap": "warn"}),
        (facts((0, 32), pipeline_parallel=2), False, {"model.trap": "warn"}),
        (facts((0, 32), mamba=True), False, {}),
        (facts((0, 32), mamba=True, kv_cache_dtype="fp8_e4m3"), False, {"model.trap": "warn"}),
        (replace(FACTS, version="0.32.0+rocm700"), False, {"model.trap": "warn"}),
        (facts((0, 13)), True, {"model.trap": "warn"}),
        (facts((0, 10, 2)), True, {"model.trap": "warn"}),
        (facts((0, 10, 0)), True, {"model.trap": "warn"}),
        (facts((0, 17)), True, {}),
        # Nothing told its arguments.
        (facts((0, 32), described=False), False, {"model.trap": "warn"}),
        (facts((0, 32), load_format="ipc_cache"), True, {"model.trap": "warn"}),
        (facts((0, 32), kv_connector="NixlConnector"), False, {"model.sleep-mode": "fail"}),
        (facts(None), True, {"model.release": "warn"}),
        (facts((0, 99)), True, {"model.release": "warn"}),
    ],
)
def test_releases_and_their_traps(engine: EngineFacts, fenced: bool, expected: dict[str, str]) -> None:
    assert unmarred(judge_engine("a", engine, fenced=fenced)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (UnitSettings("v.service", "always", "control-group", "stop"), {}),
        (UnitSettings("v.service", "always", "mixed", "kill"), {}),
        (UnitSettings("v.service", "always", "mixed", "continue"), {"unit.oom": "warn"}),
        (UnitSettings("v.service", "always", "control-group", sends_sigkill=False), {"unit.kill-mode": "warn"}),
        (UnitSettings("v.service", "no", "control-group"), {"unit.restart": "warn"}),
        (UnitSettings("v.service", "on-failure", "process"), {"unit.restart": "warn", "unit.kill-mode": "fail"}),
        (UnitSettings("v.service", missing="no system bus"), {"unit.restart": "warn"}),
    ],
)
def test_units(settings: UnitSettings, expected: dict[str, str]) -> None:
    assert unmarred(judge_unit(settings)) == expected


def test_rights_matter_where_there_are_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = ["vllm@a.service", "chat.service", "llm@b.service", "other.service"]
    assert polkit_on(units, tmp_path) == (False, units)
    for file in (POLKIT, RULE):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    assert polkit_on(units, tmp_path) == (True, units[1:])
    own = tmp_path / "etc/polkit-1/rules.d/50-own.rules"
    own.parent.mkdir(parents=True)
    own.write_text('["chat.service", "llm@b.service"].includes(action.lookup("unit"))')
    assert polkit_on(units, tmp_path) == (True, ["other.service"])
    own.write_text("/^(chat.service|llm@.*)$/.test(unit)")
    assert polkit_on(units, tmp_path) == (True, ["other.service"])

    def refuse(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "listdir", refuse)
    assert polkit_on(units, tmp_path) == (True, None)
    assert unmarred(judge_rights(units, polkit=True, ruleless=[])) == {}
    assert unmarred(judge_rights(units, polkit=False, ruleless=[])) == {"unit.rights": "warn"}
    (bare,) = judge_rights(units, polkit=True, ruleless=["chat.service"])
    assert (bare.verdict, bare.found) == ("warn", "there is no rule for chat.service")
    (unseen,) = judge_rights(units, polkit=True, ruleless=None)
    assert (unseen.verdict, unseen.remedy) == ("warn", "run sleepctl doctor as root"), "what helps, not what might be"
    assert not list(judge_rights([], polkit=False, ruleless=[]))


@pytest.mark.parametrize(
    ("version", "release", "found"),
    [
        ("0.8.4", (0, 8, 4), "vLLM 0.8.4 was not read"),
        ("0.8.5", (0, 8, 5), ""),
        ("0.10.1", (0, 10, 1), "vLLM 0.10.1 was not read: it counts as 0.10.0"),
        ("0.10.2", (0, 10, 2), ""),
        ("0.21.0", (0, 21, 0), "vLLM 0.21.0 was not read: it counts as 0.20"),
        ("0.22.1", (0, 22, 1), ""),
        ("0.29.1", (0, 29, 1), "vLLM 0.29.1 was not read: it counts as 0.28"),
        ("0.33.0", (0, 33, 0), ""),
        ("0.34.0", (0, 34, 0), "vLLM 0.34.0 was not read"),
        ("a fork", None, "vLLM a fork was not read"),
    ],
)
def test_a_release_that_nobody_read_is_told(version: str, release: tuple[int, ...] | None, found: str) -> None:
    facts = replace(FACTS, version=version, release=release)
    (judged,) = (one for one in judge_engine("a", facts, fenced=True) if one.check == "model.release")
    assert judged.found == (found or f"vLLM {version}")
    assert judged.verdict is (Verdict.WARN if found else Verdict.OK)
    assert ("strictest" in judged.remedy) is (found.endswith("not read"))


@pytest.mark.parametrize(
    ("disk", "jumped_s", "expected"),
    [
        (DISK, 0.0, {}),
        (DISK, -3600.0, {"daemon.clock": "warn"}),
        (replace(DISK, free_bytes=GIB // 2), 0.0, {"daemon.state": "warn"}),
        (replace(DISK, free_bytes=MIB), 0.0, {"daemon.state": "fail"}),
        (replace(DISK, wrong="it cannot be written"), 0.0, {"daemon.state": "fail"}),
        (replace(DISK, unrecorded="state.db: disk I/O error"), 0.0, {"daemon.state": "fail"}),
    ],
)
def test_the_daemon_s_disk_and_clock(disk: DiskSeen, jumped_s: float, expected: dict[str, str]) -> None:
    assert unmarred(judge_daemon(world(), disk, jumped_s)) == expected


def test_gpus_as_the_daemon_reads_them() -> None:
    listed = Known((GpuSeen("GPU-0", 0, 80 * GIB, GIB, {7: GIB}),), 0.0, 0.0)
    assert verdicts(judge_gpus(listed, declared=False)) == {"gpu.daemon": "ok", "gpu.processes": "ok"}
    assert unmarred(judge_gpus(gpus(GIB), declared=False)) == {"gpu.processes": "warn"}
    assert verdicts(judge_gpus(gpus(GIB), declared=True)) == {"gpu.daemon": "ok"}
    assert verdicts(judge_gpus(Known((), 0.0, 0.0), declared=False)) == {"gpu.daemon": "warn"}
    assert unmarred(judge_gpus(Missing(MissingReason.UNREADABLE, "no driver"), declared=False)) == {
        "gpu.daemon": "fail"
    }
    assert unmarred(judge_gpus(Missing(MissingReason.NOT_YET), declared=False)) == {"gpu.daemon": "warn"}


@pytest.mark.parametrize(
    ("after_bytes", "held_bytes", "expected"),
    [
        (40 * GIB, 30 * GIB, "ok"),
        (40 * GIB, None, "ok"),
        (20 * GIB, 30 * GIB, "warn"),
        (10 * GIB, None, "fail"),
        (9 * GIB, 30 * GIB, "fail"),
    ],
)
def test_what_a_tried_sleep_gave_back(after_bytes: int, held_bytes: int | None, expected: str) -> None:
    found = judge_trial("a", Free(10 * GIB, "by NVML"), Free(after_bytes, "by NVML"), held_bytes=held_bytes)
    assert found.verdict == expected


def test_lines_stand_in_the_order_of_the_table_with_what_to_do_below() -> None:
    found = [ok("model.failed", "awake", "a"), warn("host.clock", "not so"), fail("daemon.answers", "nobody")]
    lines = list(tell_findings(by_check(found), Screen(None, colour=False, unicode=False)))
    assert lines[0] == "fail  daemon.answers  nobody"
    assert lines[1].strip().startswith("do: systemctl status sleepd")
    assert [line.split()[1] for line in lines if line[:4].strip() in ("ok", "warn", "fail")] == [
        "daemon.answers",
        "host.clock",
        "model.failed",
    ]
    assert lines[-1] == "1 ok, 1 warn, 1 fail"
    assert worst(found) is Verdict.FAIL
    assert worst([]) is Verdict.OK
