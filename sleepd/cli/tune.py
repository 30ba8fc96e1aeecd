"""`sleepd tune`: timeouts and levels for a stated target, from a host's own traffic."""

import argparse
import gc
import io
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sleepd.adapters.history_file import read_minutes
from sleepd.cli.columns import render_numbers
from sleepd.cli.put_file import fits, put_file
from sleepd.cli.screen import look_at
from sleepd.cli.simulate import BEGIN, read_begin
from sleepd.cli.trace import trace_of
from sleepd.config.errors import ConfigError
from sleepd.config.load import DEFAULT_DIR, load_config
from sleepd.core.units import UnitError, format_duration, parse_duration, parse_share
from sleepd.history.found import HistoryUnreadable, Page
from sleepd.replay.learned import read_host
from sleepd.replay.stage import set_stage
from sleepd.replay.trace import LONGEST_S, Trace, TraceError, parse_trace, read_trace
from sleepd.tuning.drop_in import write_drop_in
from sleepd.tuning.target import Aim
from sleepd.tuning.tuner import Goal, Proposal, TooLittle, tune
from sleepd.tuning.wording import HEADS, LEAST, effect, rows_of, stated
from sleepd.wire.history import history_body

DONE, FAILED, USAGE = 0, 1, 2
HISTORY = Path("/var/lib/sleepd/history.db")
PLAYS = 6
MINUTES_SHORTEST_S = 120.0
"""History knows the minute of a request, not the second: shorter timeouts cannot be told apart in it."""
ABOUT = (
    "Find timeouts and levels for each model from past requests, for a stated target, and say what they would change."
    " Nothing is touched but the file of --write. Reads the history of this host where no --trace is named."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = ABOUT
    requests = parser.add_mutually_exclusive_group()
    requests.add_argument("--history", type=Path, default=HISTORY, metavar="FILE", help=f"default {HISTORY}")
    requests.add_argument("--trace", type=Path, metavar="FILE", help="the requests, as for simulate")
    parser.add_argument("--config", type=Path, default=DEFAULT_DIR, metavar="DIR", help=f"default {DEFAULT_DIR}")
    parser.add_argument("--host", type=Path, metavar="FILE", help="a host in TOML, or sleepctl status --json of one")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--waited", metavar="SHARE", help="at most this share of requests waits, such as 2%%")
    goal.add_argument("--p95", metavar="DURATION", help="95 of 100 requests wait at most so long, such as 1s")
    goal.add_argument(
        "--gib-hours",
        metavar="N",
        help="awake models hold at most so many GiB-hours of GPU memory over all of the requests' time, or such a share"
        " of what they hold with the present rules; default 100%%",
    )
    parser.add_argument("--plays", type=_read_plays, default=PLAYS, metavar="N", help=f"try at most N ({PLAYS})")
    parser.add_argument(
        "--begin", default=BEGIN, metavar="TIME", help="when a trace begins, for rules with days and hours"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a file for conf.d")
    parser.add_argument("--force", action="store_true", help="replace the file of --write where it is there already")


def run(options: argparse.Namespace) -> int:
    """Tune, and print what came of it. Return 0, 1 where the target cannot be met or the file cannot be written, 2 for
    bad input."""
    if options.write is not None and options.write.suffix != ".toml":
        return _refuse(f"--write: wanted a name that ends in .toml, as conf.d is read, found {options.write}", USAGE)
    if options.write is not None and os.path.lexists(options.write) and not options.force:
        return _refuse(f"{options.write} is there already and was left as it is; --force replaces it", FAILED)
    try:
        goal = _read_goal(options)
        trace, start_wall_s, source = _read_requests(options)
        host = read_host(options.host)
        gc.freeze()  # hundreds of thousands of requests that stay: nobody need look at them again and again
        stage = set_stage(options.config, host, trace.models)
        began_s = time.monotonic()
        proposal = tune(
            stage,
            trace,
            goal,
            start_wall_s=start_wall_s,
            plays=options.plays,
            shortest_s=MINUTES_SHORTEST_S if options.trace is None else 0.0,
            told=lambda played: _tell(played, options.plays + 1, began_s),
        )
    except (TraceError, ConfigError) as error:
        print(error, file=sys.stderr)
        return USAGE
    except (HistoryUnreadable, TooLittle, UnitError) as error:
        return _refuse(str(error), USAGE)
    remarks = list(stage.remarks)
    if proposal.configured and stage.added:
        remarks.append("models that are not in the configuration keep the rules that they have: no file can name them")
    if options.json:
        print(json.dumps(_body(proposal, remarks), indent=1))
    else:
        _print(proposal, remarks, source)
    if options.write is not None and (code := _write(options, proposal, source)) != DONE:
        return code
    return DONE if proposal.met else FAILED


def _refuse(sentence: str, code: int) -> int:
    print(f"sleepd tune: {sentence}", file=sys.stderr)
    return code


def _tell(played: int, of: int, began_s: float) -> None:
    """Say on a terminal which play begins, and how long all may yet take, by those that are over."""
    if sys.stderr.isatty():
        over = played - 1
        left_s = (time.monotonic() - began_s) / over * (of - over) if over else 0.0
        left = f", {format_duration(max(1, round(left_s)))} left" if over else ""
        print(f"\r\033[Kplaying the requests: {played} of at most {of}{left} ", end="", file=sys.stderr, flush=True)


def _read_plays(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"wanted a number from 1 to 100, found {text!r}")
    return int(text)


def _read_goal(options: argparse.Namespace) -> Goal:
    """What is asked for. Raises UnitError."""
    try:
        if options.waited is not None:
            return Goal(Aim.WAITED, parse_share(options.waited))
        if options.p95 is not None:
            return Goal(Aim.P95, parse_duration(options.p95))
    except UnitError as error:
        raise UnitError(f"--{'p95' if options.waited is None else 'waited'}: {error}") from None
    text: str = "100%" if options.gib_hours is None else options.gib_hours
    share, number = text.endswith("%"), text.removesuffix("%")
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 < limit < 1e12:
        raise UnitError(f'--gib-hours: wanted a number such as 2500, or a share such as "80%", found {text!r}')
    return Goal(Aim.GIB_HOURS, limit / 100 if share else limit, share)


def _read_requests(options: argparse.Namespace) -> tuple[Trace, float, str]:
    """The requests, when they began, and where they are from. Raises TraceError, HistoryUnreadable, UnitError."""
    if options.trace is not None:
        start_wall_s = read_begin(options.begin)
        return read_trace(options.trace), start_wall_s, str(options.trace)
    minutes = read_minutes(options.history)
    if not minutes:
        raise TooLittle(f"wanted requests over at least a day, found none in {options.history}")
    newest = max(row.minute for row in minutes)
    minutes = tuple(row for row in minutes if row.minute > newest - LONGEST_S)
    told = trace_of(history_body(Page(minutes=minutes))["requests"])
    trace = parse_trace(str(options.history), io.BytesIO(told.text.encode()))
    return trace, float(min(row.minute for row in minutes)), str(options.history)


def _print(proposal: Proposal, remarks: list[str], source: str) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    screen = look_at(sys.stdout)
    print("\n".join(render_numbers(HEADS, rows_of(proposal), screen, least=LEAST)))
    print()
    sentences = [f"Asked for: {stated(proposal.target)}.", *effect(proposal), f"Requests are from {source}."]
    for sentence in [*sentences, *(f"Note: {remark}." for remark in remarks)]:
        print("\n".join(screen.wrap(sentence, 0)))


def _body(proposal: Proposal, remarks: list[str]) -> dict[str, Any]:
    models = {
        name: {
            "idle_s": None if tuned.then_s == float("inf") else tuned.then_s,
            "idle_now_s": None if tuned.now_s == float("inf") else tuned.now_s,
            "level": tuned.level,
            "replaces": list(tuned.replaced),
        }
        for name, tuned in proposal.models.items()
    }
    return {
        "target": {"aim": proposal.target.aim.value, "limit": proposal.target.limit},
        "met": proposal.met,
        "kept": proposal.kept,
        "plays": proposal.plays,
        "models": models,
        "before": proposal.before,
        "after": proposal.after,
        "remarks": remarks,
    }


def _write(options: argparse.Namespace, proposal: Proposal, source: str) -> int:
    """Put the file there, and see that the configuration takes it."""
    target: Path = options.write
    if proposal.kept:
        return _refuse("the present rules stay: nothing was written", DONE)
    if not any(model in proposal.configured for model in proposal.models):
        return _refuse(f"no model of the requests is in {options.config}: nothing was written", FAILED)
    if not proposal.met:
        return _refuse("the target is not met: nothing was written; ask for what can be had", FAILED)
    try:
        beside = load_config(options.config, without=target).settings
        if gone := sorted(proposal.configured - beside.models.keys()):
            return _refuse(f"{target} is where model {gone[0]} is configured: it was left as it is", FAILED)
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        put_file(target, write_drop_in(proposal, beside, source, when))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return _refuse(f"the other files do not go without {target}: nothing was written", FAILED)
    except OSError as error:
        return _refuse(f"{target}: cannot be written: {error.strerror}", FAILED)
    print(f"Wrote {target}. Look at it, then: sleepd check, sleepctl reload", file=sys.stderr)
    if target.resolve().parent == (options.config / "conf.d").resolve():
        return DONE if fits(options.config, "sleepd tune") else FAILED
    return DONE
