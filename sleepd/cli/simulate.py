"""`sleepd simulate`: traffic replayed against a policy in virtual time."""

import argparse
import gc
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from sleepd.cli.columns import Columns
from sleepd.cli.screen import look_at
from sleepd.config.errors import ConfigError
from sleepd.core.units import UnitError, WallS, format_duration
from sleepd.replay.account import Account
from sleepd.replay.hosts import Host
from sleepd.replay.learned import read_host
from sleepd.replay.outcome import Outcome, outcome_of
from sleepd.replay.page import make_replay_page
from sleepd.replay.shell import Replay
from sleepd.replay.stage import set_stage
from sleepd.replay.tables import COMPARED, HEADS, compared_rows, rows_of, sentences
from sleepd.replay.trace import Trace, TraceError, read_trace

DONE, FAILED, USAGE = 0, 1, 2
BEGIN = "2026-01-05T00:00:00+00:00"
"""A Monday: when a trace begins of which nothing else is known."""
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
    except UnitError as error:
        print(f"sleepd simulate: {error}", file=sys.stderr)
        return USAGE
    try:
        trace, host = read_trace(options.trace), read_host(options.host)
        gc.freeze()  # hundreds of thousands of requests that stay: nobody need look at them again and again
        played = _play(options, trace, host, start_wall_s)
    except (TraceError, ConfigError) as error:
        print(error, file=sys.stderr)
        return USAGE
    accounts, outcomes, remarks = played
    what = (
        f"{len(trace.arrivals)} requests for {len(trace.models)} models in {format_duration(round(trace.end_s))},"
        f" on {len(host.gpus)} GPU{'s' if len(host.gpus) > 1 else ''}, by the configuration in {options.config}."
    )
    if options.report is not None:
        page = make_replay_page(accounts, outcomes, trace.end_s, remarks, what)
        try:
            options.report.write_text(page, "utf-8")
        except OSError as error:
            print(f"sleepd simulate: {options.report}: cannot be written: {error.strerror}", file=sys.stderr)
            return FAILED
    if options.json:
        print(json.dumps({"remarks": remarks, "policies": outcomes}, indent=1))
    else:
        _print(outcomes, remarks, what)
    return DONE


def read_begin(text: str) -> WallS:
    """Return the moment when a trace begins; UTC where no zone is named. Raises UnitError."""
    try:
        begin = datetime.fromisoformat(text)
    except ValueError:
        raise UnitError(f"--begin: wanted a time such as {BEGIN}, found {text!r}") from None
    return (begin if begin.tzinfo else begin.replace(tzinfo=UTC)).timestamp()


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
        accounts[name] = replay.run()
        outcomes[name] = outcome_of(accounts[name], replay.end_s)
    remarks = tuple(dict.fromkeys(remark for stage in stages.values() for remark in stage.remarks))
    return accounts, outcomes, remarks


def _print(outcomes: dict[str, Outcome], remarks: tuple[str, ...], what: str) -> None:
    screen = look_at(sys.stdout)
    first = next(iter(outcomes.values()))
    rows = rows_of(first)
    right = set(range(1, len(HEADS) - 1))
    print("\n".join(Columns(HEADS, rows, right).render(screen, [{} for _ in rows])))
    print("P50 to MAX are of the requests that waited.")
    print()
    for sentence in sentences(first, remarks, what):
        print("\n".join(screen.wrap(sentence, 0)))
    if len(outcomes) > 1:
        compared = compared_rows(outcomes)
        print()
        lines = Columns(COMPARED, compared, set(range(1, len(COMPARED) - 1))).render(screen, [{} for _ in compared])
        print("\n".join(lines))
