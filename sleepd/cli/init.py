"""`sleepd init`: a first configuration, from the vLLM servers that run on this host."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.nvml import NvmlGpus
from sleepd.cli.put_file import fits, put_file
from sleepd.cli.screen import clean
from sleepd.config.load import DEFAULT_DIR, load_config
from sleepd.config.values import is_gpu
from sleepd.core.model import Known
from sleepd.core.seen import GpusSeen
from sleepd.survey.asking import Told, ask_all
from sleepd.survey.first_config import Found, missing, name_servers, shared_names, write_config
from sleepd.survey.processes import FoundProcess, Survey, survey_processes
from sleepd.survey.table import read_table

DONE, FAILED = 0, 1
FILE = Path("conf.d") / "models.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`init` knows its options."""
    parser.add_argument(
        "--dir", type=Path, default=DEFAULT_DIR, metavar="DIR", help=f"write there; default {DEFAULT_DIR}"
    )
    parser.add_argument("--force", action="store_true", help=f"replace {FILE} where it is there already")


def run(options: argparse.Namespace) -> int:
    """Look, ask, write; say what was found and what is missing. 1 where nothing was written, or what was written
    does not go with the other files of its folder."""
    target: Path = options.dir / FILE
    if os.path.lexists(target) and not options.force:
        return _refuse_to_replace(target)
    survey = survey_processes(read_table())
    if not survey.servers:
        return _refuse(_nothing(survey))
    found = asyncio.run(_look(survey.servers))
    text = write_config(found, when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    _check(text)
    try:
        put_file(target, text, replaces=options.force)
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(target):
            # Somebody wrote it while servers were asked.
            return _refuse_to_replace(target)
        why = f"{error.filename2 or error.filename or target}: {error.strerror}"
        return _refuse(f"{why}; nothing was written. Run this as root, or name another --dir")
    _tell(found, survey, options.dir)
    return DONE if fits(options.dir, "sleepd init") else FAILED


def _refuse(sentence: str) -> int:
    print(f"sleepd init: {sentence}", file=sys.stderr)
    return FAILED


def _refuse_to_replace(target: Path) -> int:
    return _refuse(f"{target} is there already and was left as it is; --force replaces it")


def _nothing(survey: Survey) -> str:
    blind = "" if survey.whole else " Not all can be seen without root."
    return (
        f"wanted a running vLLM server, found none among {survey.seen} processes.{blind} Start one, such as "
        "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-sleep-mode --uds PATH"
    )


async def _look(servers: Sequence[FoundProcess]) -> tuple[Found, ...]:
    told, gpus = await asyncio.gather(ask_all(servers), NvmlGpus(SystemClock()).read(processes=True))
    seen = gpus.value if isinstance(gpus, Known) else ()
    pairs = list(zip(servers, told, strict=True))
    return tuple(
        _place(name, process, one, seen) for name, (process, one) in zip(name_servers(pairs), pairs, strict=True)
    )


def _place(name: str, process: FoundProcess, told: Told, seen: GpusSeen) -> Found:
    """With the GPUs on which its processes hold memory; else what its environment says; else a guess where one must
    stand."""
    holds = tuple(str(gpu.index) for gpu in seen if gpu.used_by_pid and process.pids & gpu.used_by_pid.keys())
    shown = [word.strip() for word in (process.environ or {}).get("CUDA_VISIBLE_DEVICES", "").split(",")]
    visible = tuple(dict.fromkeys(word for word in shown if is_gpu(word)))
    if holds or visible or process.own_cgroup:
        return Found(name, process, told, holds or visible)
    return Found(name, process, told, ("0",), guessed=True)


def _check(text: str) -> None:
    """What is about to be written holds by itself. Raises ConfigError, which would be a mistake of this program."""
    with tempfile.TemporaryDirectory(prefix="sleepd-init-") as scratch:
        (Path(scratch) / "sleepd.toml").write_text(text, encoding="utf-8")
        load_config(Path(scratch), environ={})


def _tell(found: Sequence[Found], survey: Survey, folder: Path) -> None:
    for one in found:
        print(clean(f"{one.name}: {one.says}, {one.told.url or 'no address'}"))
        for sentence in missing(one, shared_names(found)):
            print(clean(f"  missing: {sentence}"))
    if not survey.whole:
        print("Environments and sockets of other users' servers were not seen: run this as root for those.")
    then = "sleepctl reload" if folder == DEFAULT_DIR else f"sleepd check --config {folder}"
    print(f"Wrote {folder / FILE}, in observe mode. Look at it, then: {then}")
