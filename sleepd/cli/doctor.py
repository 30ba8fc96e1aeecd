"""`sleepctl doctor`: what whoever calls it sees of the host, what the daemon sees, and what a sleep gives back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sleepd import __version__
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.nvml import NvmlGpus
from sleepd.cli.codes import DONE, REFUSED
from sleepd.cli.screen import Screen, clean, look_at
from sleepd.cli.trial import try_sleep
from sleepd.client import ApiProblem, Client, DaemonUnreachable
from sleepd.core.model import Missing, Reading
from sleepd.core.seen import EngineFacts, GpusSeen
from sleepd.doctor.daemon import tell_free
from sleepd.doctor.engines import judge_engine
from sleepd.doctor.findings import AS_ROOT, Finding, Verdict, by_check, fail, ok, warn, worst
from sleepd.doctor.host import HostKind, judge_kind
from sleepd.doctor.placement import judge_boot
from sleepd.doctor.servers import ServerSeen, interposer_of, judge_server
from sleepd.doctor.units import UnitSettings, judge_rights, judge_unit
from sleepd.survey.arguments import ServerArguments
from sleepd.survey.asking import Told, ask_all
from sleepd.survey.first_config import name_servers
from sleepd.survey.host import (
    find_controllers,
    find_orphans,
    is_clock_synchronized,
    is_wsl,
    polkit_on,
    unified_memory,
)
from sleepd.survey.identity import ModelTold, find_places, match_models, others_at_its_port, read_model
from sleepd.survey.processes import FoundProcess, is_exposed, is_fenced, survey_processes
from sleepd.survey.table import ProcessTable, read_table
from sleepd.survey.unit_settings import read_units

if TYPE_CHECKING:
    import argparse
    from typing import Any

_COLOUR = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the daemon said; `models` None where it did not tell any as this sleepctl knows them."""

    findings: tuple[Finding, ...]
    models: tuple[ModelTold, ...] | None = None


def run_doctor(client: Client, options: argparse.Namespace) -> int:
    """Examine everything and tell it, a line for each check. 1 where anything failed."""
    asked = ask_daemon(client)
    findings = [*asked.findings, *asyncio.run(_look_around(asked.models))]
    if name := vars(options)["try"]:
        findings += try_sleep(client, name) if asked.models is not None else [_untried(name)]
    told = by_check(findings)
    if options.json:
        bodies = [finding.body for finding in told]
        print(json.dumps({"verdict": worst(told), "findings": bodies}, ensure_ascii=False))
    else:
        print("\n".join(tell_findings(told, look_at(sys.stdout))))
    return REFUSED if worst(told) is Verdict.FAIL else DONE


def ask_daemon(client: Client) -> Asked:
    """Ask the daemon for its own examination and its models. A daemon that does not answer is a finding, and so is one
    of another release: what it has to say is told as far as it is understood."""
    try:
        status = client.status().body
    except (DaemonUnreachable, ApiProblem) as error:
        return Asked((fail("daemon.answers", str(error)),))
    try:
        theirs, models = str(status["version"]), tuple(read_model(model) for model in status["models"])
    except (KeyError, TypeError, ValueError) as error:
        return Asked((fail("daemon.answers", f"it tells no status as this sleepctl wants it: {cause(error)}"),))
    answers = ok("daemon.answers", f"at {client.socket_path}")
    version = (ok if theirs == __version__ else warn)("daemon.version", f"sleepctl {__version__}, sleepd {theirs}")
    try:
        told = client.doctor().body["findings"]
        own = [_understand(one) for one in told]
    except (DaemonUnreachable, ApiProblem, KeyError, TypeError) as error:
        own = [fail("daemon.answers", f"it does not examine itself as this sleepctl wants it: {cause(error)}")]
    return Asked((answers, version, *own), models)


def cause(error: Exception) -> str:
    """A KeyError says the key alone."""
    return f"no {error}" if isinstance(error, KeyError) else str(error)


def _understand(told: Any) -> Finding:
    """A finding of the daemon's; a check that we do not know keeps the daemon's own advice, and an unknown verdict is
    not taken for a good one."""
    known = told["verdict"] in tuple(Verdict)
    verdict = Verdict(told["verdict"]) if known else Verdict.WARN
    return Finding(told["check"], verdict, told["found"], told.get("about", ""), told.get("remedy", ""))


def _untried(name: str) -> Finding:
    return fail("try.sleep", "not tried: the daemon does not answer", name)


async def _look_around(models: Sequence[ModelTold] | None) -> list[Finding]:
    """Everything that the caller sees without the daemon."""
    table = await asyncio.to_thread(read_table)
    processes = (await asyncio.to_thread(survey_processes, table)).servers
    units = sorted({model.unit for model in models or () if model.unit} | {p.unit for p in processes if p.unit})
    told, settings, (gpus, names), places = await asyncio.gather(
        ask_all(processes), read_units(units), read_gpus(), find_places(models or ())
    )
    kind = await asyncio.to_thread(look_at_host, table, names)
    pairs = list(zip(processes, told, strict=True))
    matched = match_models(models or (), pairs, places)
    if not pairs:
        return [tell_none(table), *_judge_units(settings, models or ()), judge_nvml(gpus), *judge_kind(kind)]
    return [
        *judge_servers(pairs, matched, asked=models is not None, hides=table.hides),
        *_judge_units(settings, models or ()),
        judge_nvml(gpus),
        *judge_kind(kind),
    ]


async def read_gpus() -> tuple[Reading[GpusSeen], tuple[str, ...]]:
    """Return the GPUs as NVML tells them to whoever runs this, and what they are called."""
    nvml = NvmlGpus(SystemClock())
    return await nvml.read(processes=False), await nvml.read_names()


def look_at_host(table: ProcessTable, gpu_names: Sequence[str]) -> HostKind:
    """Read what tells the kind of host, beside its processes and its GPUs."""
    unified = unified_memory(gpu_names)
    others = find_controllers(table), find_orphans(table)
    return HostKind(is_clock_synchronized(), is_wsl(), unified, *others, hides=table.hides)


def tell_none(table: ProcessTable) -> Finding:
    """No server was found."""
    if table.hides:
        return warn(
            "server.answers", "not known: the kernel hides processes of others from you (hidepid)", advice=AS_ROOT
        )
    return ok("server.answers", f"none runs here, of {len(table)} processes")


def judge_servers(
    pairs: Sequence[tuple[FoundProcess, Told]], matched: Sequence[ModelTold | None], *, asked: bool, hides: bool = False
) -> Iterator[Finding]:
    """`matched`: by server, the model it is; `asked`: whether a daemon told its models; `hides`: the kernel shows some
    processes only."""
    processes = [process for process, _ in pairs]
    for guess, (process, told), model in zip(name_servers(pairs), pairs, matched, strict=True):
        name = model.name if model is not None else guess
        unit = model.unit if model is not None else ""
        yield from judge_server(
            ServerSeen(
                name=name,
                url=told.url,
                silent=told.silent,
                dev_mode=told.dev_mode,
                locked=told.locked,
                exposed=is_exposed(process, told.url),
                environ=process.environ,
                encoder_stays=keeps_encoder(process.arguments, told.facts),
                counts=False if process.arguments.has("--disable-log-stats") else told.counts,
                interposed=interposer_of(process.environ or {}),
                port_of=others_at_its_port(process, processes, hides=hides),
                facts=told.facts,
                managed=model is not None if asked else None,
                wrong_unit=unit if process.unit and unit != process.unit else "",
            )
        )
        if model is None and told.facts is not None:  # else the daemon judges it, which knows its configuration
            yield from judge_engine(name, told.facts, fenced=is_fenced(told.url))


def keeps_encoder(arguments: ServerArguments, facts: EngineFacts | None) -> bool | None:
    """Whether its vision encoder does not sleep: as it tells itself, else by its arguments; None where they stand in a
    file."""
    asked = arguments.value("--mm-encoder-tp-mode") == "data"
    if facts is not None and facts.described:
        return facts.encoder_mode == "data" or (asked and not facts.encoder_mode)
    return asked or (None if arguments.value("--config") else False)


def _judge_units(settings: Sequence[UnitSettings], models: Sequence[ModelTold]) -> Iterator[Finding]:
    for one in settings:
        yield from judge_unit(one)
    yield from judge_boot(settings, {model.unit: model.gpus for model in models if model.unit})
    units = [one.unit for one in settings]
    polkit, ruleless = polkit_on(units)
    yield from judge_rights(units, polkit=polkit, ruleless=ruleless)


def judge_nvml(gpus: Reading[GpusSeen]) -> Finding:
    if isinstance(gpus, Missing):
        return warn("gpu.caller", gpus.detail or gpus.reason.value)
    return ok("gpu.caller", tell_free(gpus.value)) if gpus.value else warn("gpu.caller", "no GPU is listed")


def tell_findings(findings: Sequence[Finding], screen: Screen) -> Iterator[str]:
    """A line for each, what to do below those that are not ok, and how many of each at the end. A daemon that does not
    answer stands first: without it half of the checks are missing."""
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        about = f"{clean(finding.about)}: " if finding.about else ""
        verdict = screen.paint(f"{finding.verdict.value:4}", _COLOUR[finding.verdict])
        indent = 4 + 2 + width + 2
        first, *rest = screen.wrap(f"{about}{clean(finding.found)}", indent)
        yield f"{verdict}  {finding.check:{width}}  {first}"
        yield from rest
        if finding.remedy:
            yield from (f"{' ' * indent}{line.strip()}" for line in screen.wrap(f"do: {finding.remedy}", indent))
    count = {verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict}
    yield ", ".join(f"{number} {verdict}" for verdict, number in count.items())
