"""`sleepd simulate`: traffic replayed against a policy in virtual time."""

import argparse
import gc
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sleepd.cli.columns import render_numbers
from sleepd.cli.put_file import put_file
from sleepd.cli.screen import look_at
from sleepd.config.errors import ConfigError
from sleepd.core.units import UnitError, WallS, format_duration
from sleepd.replay.account import Account
from sleepd.replay.hosts import Host
from sleepd.replay.learned import read_host
from sleepd.replay.outcome import Outcome, outcome_of
from sleepd.replay.page import make_replay_page
from sleepd.replay.shell import Replay
from sleepd.replay.stage import Stage, set_stage
from sleepd.replay.tables import COMPARED, HEADS, compared_rows, rows_of, sentences
from sleepd.replay.trace import Trace, TraceError, read_trace

DONE, FAILED, USAGE = 0, 1, 2
BEGIN = "2026-01-05T00:00:00+00:00"
"""A Monday: when a trace begins of which nothing else is known."""
LAST_YEAR = 2199
LEAST = ("HOST GIB-H", "KWH", "P99", "P50", "AWAKE", "MAX", "WAKES L1/L2")
LEAST_COMPARED = ("HOST GIB-H", "REQUESTS", "ENERGY", "WAKES", "REFUSED")
"""What narrow screens do without, beginning with the first: everything is in --json and --report."""
ABOUT = (
    "Replay the requests of a trace against a configuration, in virtual time: how many would have waited, how long, and"
    " what being awake would have cost. Nothing is touched. The trace has the columns"
    " seconds,model,prompt_tokens,output_tokens (csv or csv.gz); sleepctl history --trace writes one."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = ABOUT
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE", help="the requests")
    parser.add_argument("--config", type=Path, required=True, metavar="DIR", help="the configuration to try")
    parser.add_argument("--host", type=Path, metavar="FILE", help="a host in TOML, or sleepctl status --json of one")
    parser.add_argument("--compare", type=Path, metavar="DIR2", help="another configuration, beside the first")
    parser.add_argument(
        "--begin",
        default=BEGIN,
        metavar="TIME",
        help=f"when the trace begins, for rules with days and hours; default {BEGIN}, a Monday",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page with a timeline: one HTML file")


def run(options: argparse.Namespace) -> int:
    """Play, and print what came of it. Return 0, 1 where the report cannot be written, 2 for bad input."""
    try:
        start_wall_s = read_begin(options.begin)
        if options.compare is not None and options.compare.resolve() == options.config.resolve():
            raise UnitError(f"--compare: wanted another folder than --config, found {options.compare} again")
    except UnitError as error:
        print(f"sleepd simulate: {error}", file=sys.stderr)
        return USAGE
    if options.report is not None and not (folder := options.report.resolve().parent).is_dir():
        print(f"sleepd simulate: --report: wanted a file in a folder, found no folder {folder}", file=sys.stderr)
        return FAILED
    try:
        trace, host = read_trace(options.trace), read_host(options.host)
        gc.freeze()  # hundreds of thousands of requests that stay: nobody need look at them again and again
        played = _play(options, trace, host, start_wall_s)
    except (TraceError, ConfigError) as error:
        print(error, file=sys.stderr)
        return USAGE
    accounts, outcomes, remarks = played
    what = (
        f"{_count(len(trace.arrivals), 'request')} for {_count(len(trace.models), 'model')} in"
        f" {format_duration(round(trace.end_s))}, on {_count(len(host.gpus), 'GPU')}, by the configuration in"
        f" {options.config}."
    )
    code = DONE
    if options.report is not None:
        code = _write_report(options.report, make_replay_page(accounts, outcomes, trace.end_s, remarks, what))
    if options.json:
        print(json.dumps({"remarks": remarks, "policies": outcomes}, indent=1))
    else:
        _print(outcomes, remarks, what)
    return code


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _write_report(target: Path, page: str) -> int:
    """Put the page there, whole or not at all; what is no file (a pipe, a terminal) gets it as it is."""
    whole = target.resolve()
    try:
        if whole.exists() and not whole.is_file():
            whole.write_text(page, "utf-8")
        else:
            put_file(whole, page)
    except OSError as error:
        print(f"sleepd simulate: {target}: cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    return DONE


def read_begin(text: str) -> WallS:
    """Return the moment when a trace begins, from 1970 to 2199; UTC where no zone is named. Raises UnitError."""
    try:
        begin = datetime.fromisoformat(text)
    except ValueError:
        raise UnitError(f"--begin: wanted a time such as {BEGIN}, found {text!r}") from None
    begin_s = (begin if begin.tzinfo else begin.replace(tzinfo=UTC)).timestamp()
    if begin_s < 0 or begin.year > LAST_YEAR:
        raise UnitError(f"--begin: wanted a time from 1970 to {LAST_YEAR}, found {text!r}")
    return begin_s


def _play(
    options: argparse.Namespace, trace: Trace, host: Host, start_wall_s: float
) -> tuple[dict[str, Account], dict[str, Outcome], tuple[str, ...]]:
    """Play every configuration that was named. Raises ConfigError."""
    dirs = [options.config, *([options.compare] if options.compare is not None else [])]
    stages = {str(folder): set_stage(folder, host, trace.models) for folder in dirs}
    accounts, outcomes = {}, {}
    for name, stage in stages.items():
        replay = Replay(
            stage.settings,
            stage.host,
            stage.servers(),
            trace,
            start_wall_s=start_wall_s,
            queue_limit=stage.queue_limit,
        )
        _tell_progress(replay, f"playing {name}")
        accounts[name] = replay.run()
        outcomes[name] = outcome_of(accounts[name], replay.end_s)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    return accounts, outcomes, tuple(_remarks(stages))


def _remarks(stages: dict[str, Stage]) -> Iterator[str]:
    """What is to be said of all configurations, and what of one of them alone."""
    for remark in dict.fromkeys(remark for stage in stages.values() for remark in stage.remarks):
        where = [name for name, stage in stages.items() if remark in stage.remarks]
        yield remark if len(where) == len(stages) else f"of {where[0]}: {remark}"


def _tell_progress(replay: Replay, what: str) -> None:
    """Say on a terminal how far it is and how long the rest may take, at moments at which nothing else happens."""
    if not sys.stderr.isatty():
        return
    began_s = time.monotonic()

    def tell(percent: int) -> None:
        left_s = (time.monotonic() - began_s) / percent * (100 - percent)
        left = f", {format_duration(max(1, round(left_s)))} left"
        print(f"\r\033[K{what}: {percent}%{left} ", end="", file=sys.stderr, flush=True)

    for percent in range(1, 100):
        replay.at(replay.end_s * percent / 100, partial(tell, percent))


def _print(outcomes: dict[str, Outcome], remarks: tuple[str, ...], what: str) -> None:
    screen = look_at(sys.stdout)
    first = next(iter(outcomes.values()))
    print("\n".join(render_numbers(HEADS, rows_of(first), screen, least=LEAST)))
    print("P50 to MAX are of the requests that waited.")
    print()
    for sentence in sentences(first, remarks, what):
        print("\n".join(screen.wrap(sentence, 0)))
    if len(outcomes) > 1:
        print()
        print("\n".join(render_numbers(COMPARED, compared_rows(outcomes), screen, least=LEAST_COMPARED)))
