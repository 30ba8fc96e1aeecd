"""The doctor's judgements of models and their backups: facts that pass each check and facts that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core_worlds import FACTS, NOW, record, seen
from doctor_worlds import unmarred, verdicts, world

from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Failure, Known, Missing, MissingReason
from sleepd.core.record import ModelRecord
from sleepd.core.seen import HostSeen, UnitMemory
from sleepd.core.units import GIB
from sleepd.doctor.daemon import judge_host
from sleepd.doctor.findings import Verdict
from sleepd.doctor.models import judge_models


@pytest.mark.parametrize(
    ("model", "strangers", "expected"),
    [
        (record(spec={"unit": "v.service"}), 0, {}),
        (record(), 0, {"model.unit": "warn"}),
        (record(spec={"unit": "v.service"}), 2, {"model.stranger": "warn"}),
        (record(spec={"unit": "v.service"}, hold_down_until_s=NOW.mono_s + 60), 0, {"model.stranger": "warn"}),
        (
            record(spec={"unit": "v.service"}, seen=Missing(MissingReason.REFUSED)),
            0,
            {"model.looks": "fail"},
        ),
        (record(spec={"unit": "v.service"}, seen=Missing(MissingReason.NOT_YET)), 0, {"model.looks": "warn"}),
        (
            record(life=Life(State.FAILED, Weights.DOUBTFUL), failure=Failure("x", "it broke"), spec={"unit": "v"}),
            0,
            {"model.failed": "fail"},
        ),
        (record(life=Life(State.LOST, Weights.DOUBTFUL), spec={"unit": "v"}), 0, {"model.failed": "fail"}),
        (record(life=Life(State.UNKNOWN, Weights.DOUBTFUL), spec={"unit": "v"}), 0, {"model.failed": "warn"}),
        (record(spec={"unit": "v.service", "allow_exposed": True}), 0, {"model.exposed": "warn"}),
        (record(spec={"unit": "v.service"}, frees_nothing=True), 0, {"model.frees": "fail"}),
        (
            record(spec={"unit": "v.service"}, footprint=Footprint(freed={"g": (4,)}, awake={"g": 10}, sleeps=1)),
            0,
            {"model.frees": "warn"},
        ),
        (record(spec={"unit": "v.service"}, restart_wanted="it keeps more each time"), 0, {"model.grows": "warn"}),
        (
            record(spec={"unit": "v.service", "max_level": 2}, facts=replace(FACTS, speculative=True)),
            0,
            {"model.level2": "warn"},
        ),
    ],
)
def test_models_as_the_daemon_knows_them(model: ModelRecord, strangers: int, expected: dict[str, str]) -> None:
    assert unmarred(judge_models(world(model), NOW.mono_s, {"a": strangers})) == expected


def test_of_a_model_that_was_never_looked_at_nobody_is_said_to_have_left_it_alone() -> None:
    unseen = record(facts=None, seen=Missing(MissingReason.NOT_YET), life=Life(State.UNKNOWN, Weights.DOUBTFUL))
    assert "model.stranger" not in verdicts(judge_models(world(unseen), NOW.mono_s, {}))


def test_a_backup_that_does_not_fit_is_told_by_what_bounds_it() -> None:
    model = record(spec={"unit": "v.service"})
    assert unmarred(judge_models(world(model, available=12 * GIB), NOW.mono_s, {})) == {"model.backup": "warn"}
    limit = UnitMemory(10 * GIB, GIB, limit_bytes=11 * GIB, limit_used_bytes=10 * GIB, limited_by="memory.max of v")
    tight = replace(model, seen=seen(unit_memory=limit))
    (found,) = (f for f in judge_models(world(tight), NOW.mono_s, {}) if f.check == "model.backup")
    assert found.verdict is Verdict.WARN
    assert "memory.max of v" in found.found
    assert "MemoryMax=" in found.remedy


def test_all_backups_together_and_pressure() -> None:
    two = (record("a"), record("b"))
    assert unmarred(judge_host(world(*two))) == {"host.pressure": "warn"}, "PSI is not told in these worlds"
    assert unmarred(judge_host(world(*two, available=40 * GIB)))["host.backups"] == "warn"
    unmeasured = record("c", facts=None, footprint=Footprint())
    (none,) = (one for one in judge_host(world()) if one.check == "host.backups")
    assert (none.verdict, none.found) == ("ok", "none is still to be made")
    (unknown,) = (one for one in judge_host(world(*two, unmeasured)) if one.check == "host.backups")
    assert (unknown.verdict, unknown.found.rpartition("; ")[2]) == ("warn", "of 1 more it is not known")
    calm = Known(HostSeen(100 * GIB, 90 * GIB, 0.01), NOW.mono_s, NOW.mono_s)
    assert unmarred(judge_host(world(*two, host=calm))) == {}
    hard = Known(HostSeen(100 * GIB, 90 * GIB, 0.4), NOW.mono_s, NOW.mono_s)
    assert unmarred(judge_host(world(*two, host=hard))) == {"host.pressure": "warn"}
    blind = Known(HostSeen(100 * GIB, 90 * GIB, 0.01, "cgroup v1"), NOW.mono_s, NOW.mono_s)
    assert unmarred(judge_host(world(*two, host=blind))) == {"host.limits": "warn"}
    assert unmarred(judge_host(world(host=Missing(MissingReason.UNREADABLE)))) == {"host.ram": "fail"}


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, "warn"),
        ({"footprint": Footprint(host_pinned=True)}, "ok"),
        ({"life": Life(State.ASLEEP_L1, Weights.OFFLOADED)}, "ok"),
        ({"spec": {"max_level": 0}}, "ok"),
        # These have none yet, and may sleep at level 1 later on.
        ({"life": Life(State.ASLEEP_L2, Weights.BLANK)}, "warn"),
        ({"life": Life(State.FALLING_ASLEEP, Weights.DOUBTFUL)}, "warn"),
        # What the last process had pinned went with it.
        ({"life": Life(State.STOPPED, Weights.DOUBTFUL), "footprint": Footprint(host_pinned=True)}, "warn"),
    ],
)
def test_whose_backup_is_still_to_be_made_is_counted(more: dict[str, Any], verdict: str) -> None:
    two = record("a"), record("b", **more)
    assert verdicts(judge_host(world(*two, available=32 * GIB)))["host.backups"] == verdict
