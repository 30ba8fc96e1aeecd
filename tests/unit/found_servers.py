"""Servers as the survey finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sleepd.config.load import load_config
from sleepd.core.seen import EngineFacts
from sleepd.survey.arguments import ServerArguments
from sleepd.survey.processes import FoundProcess

DEV = {"VLLM_SERVER_DEV_MODE": "1"}


def process(*words: str, **more: Any) -> FoundProcess:
    return FoundProcess(7, "vllm", ServerArguments(words), more.pop("environ", DEV), **more)


def facts(*names: str, version: str = "0.32.0", **more: Any) -> EngineFacts:
    release = tuple(int(part) for part in version.split("."))
    return EngineFacts(version, release, "pst:1", served_names=names, described=True, **more)


def load(folder: Path, text: str) -> set[str]:
    """The models that the configuration has."""
    (folder / "sleepd.toml").write_text(text, encoding="utf-8")
    return set(load_config(folder, environ={}).settings.models)
