"""Worlds to be judged by the doctor, and what of its findings is not ok."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core_worlds import gpus, host

from sleepd.core.model import Mode, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.units import GIB
from sleepd.core.world import World
from sleepd.doctor.findings import Finding, worst


def verdicts(findings: Iterable[Finding]) -> dict[str, str]:
    """The gravest verdict of each check."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.check, []).append(finding)
    return {check: worst(of_it).value for check, of_it in found.items()}


def unmarred(findings: Iterable[Finding]) -> dict[str, str]:
    """What is not ok."""
    return {check: verdict for check, verdict in verdicts(findings).items() if verdict != "ok"}


def world(*models: ModelRecord, available: int = 90 * GIB, **more: Any) -> World:
    settings = Settings({model.spec.name: model.spec for model in models}, mode=more.pop("mode", Mode.ENFORCE))
    known = {model.spec.name: model for model in models}
    return World(settings, known, gpus=gpus(40 * GIB), host=more.pop("host", host(available)), **more)
