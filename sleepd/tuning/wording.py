"""A proposal in words and as a table."""

from sleepd.core.units import Seconds, format_duration
from sleepd.replay.outcome import Outcome, Row
from sleepd.replay.tables import format_seconds, share
from sleepd.tuning.curves import NEVER
from sleepd.tuning.target import Aim, Target
from sleepd.tuning.tuner import Proposal

HEADS = ("MODEL", "REQUESTS", "IDLE", "TUNED", "LEVEL", "WAITED", "TUNED", "GPU GIB-H", "TUNED", "REFUSED")
LEAST = ("REFUSED", "REQUESTS", "LEVEL")
"""What narrow screens do without, beginning with the first."""


def rows_of(proposal: Proposal) -> list[tuple[str, ...]]:
    """One row a model, the most used first, and one for all: what is, and behind it what would be."""
    before, after = proposal.before["models"], proposal.after["models"]
    names = sorted(proposal.models, key=lambda name: (-before[name]["requests"], name))
    rows = []
    for name in names:
        tuned, was, is_ = proposal.models[name], before[name], after[name]
        timeouts = (format_timeout(tuned.now_s), format_timeout(tuned.then_s), str(tuned.level))
        rows.append(
            (name, str(was["requests"]), *timeouts, share(was), share(is_), *_hours(was, is_), str(is_["refused"]))
        )
    was, is_ = proposal.before["total"], proposal.after["total"]
    rows.append(
        ("all", str(was["requests"]), "", "", "", share(was), share(is_), *_hours(was, is_), str(is_["refused"]))
    )
    return rows


def _hours(*rows: Row) -> tuple[str, ...]:
    return tuple(f"{row['awake_gpu_gib_h']:.0f}" for row in rows)


def format_timeout(timeout_s: Seconds) -> str:
    return "never" if timeout_s == NEVER else format_duration(timeout_s)


def stated(target: Target) -> str:
    """The target in words."""
    if target.aim is Aim.WAITED:
        return f"at most {100 * target.limit:g}% of requests wait or are turned away"
    if target.aim is Aim.P95:
        return f"95 of 100 requests wait at most {format_duration(target.limit)}"
    return f"at most {target.limit:.0f} GiB-hours of GPU memory"


def effect(proposal: Proposal) -> list[str]:
    """What was asked for, whether it can be had, and what it would change, as sentences."""
    over = f"Played over {format_duration(round(proposal.before['seconds']))}"
    if proposal.kept:
        found = "what was asked for, and nothing that was tried does better" if proposal.met else "nearest to it"
        return [f"{over}: {_told(proposal.before)} with the present rules: {found}."]
    unmet = "" if proposal.met else " No timeouts that were tried meet this; these come nearest."
    return [f"{over}: {_told(proposal.before)} with the present rules; {_told(proposal.after)} with these.{unmet}"]


def _told(outcome: Outcome) -> str:
    total = outcome["total"]
    refused = f", {total['refused']} turned away" if total["refused"] else ""
    return (
        f"{share(total)} of {total['served']} requests waited{refused}, p95 {format_seconds(total['wait_s']['p95'])},"
        f" {total['awake_gpu_gib_h']:.0f} GiB-hours"
    )
