"""From rows of history to the shapes of the API. Pure."""

from collections.abc import Iterable
from typing import cast

from sleepd.core.model import CauseKind
from sleepd.core.task import TaskKind
from sleepd.core.units import WallS
from sleepd.history.found import Bucket, Page, Report, Totals
from sleepd.history.rows import Interval, Transition, hour_of, percentile
from sleepd.history.timeline import Timeline
from sleepd.wire import history_shapes as shapes
from sleepd.wire.shapes import Level, State
from sleepd.wire.values import format_time

GIB_H = float(1 << 30) * 3600


def history_body(page: Page) -> shapes.History:
    return {
        "states": [_state(each) for each in page.intervals],
        "requests": [
            {
                "model": row.model,
                "minute": format_time(row.minute),
                "requests": row.counts.requests,
                "finished": row.counts.finished,
                "prompt_tokens": row.counts.prompt_tokens,
                "output_tokens": row.counts.output_tokens,
            }
            for row in page.minutes
        ],
        "wakes": [_task(each) for each in page.transitions if each.kind == TaskKind.WAKE],
        "tasks": [_task(each) for each in page.transitions if each.kind != TaskKind.WAKE],
        "vram": [
            {
                "minute": format_time(row.minute),
                "gpu": row.gpu,
                "model": row.model or None,
                "held_bytes": row.held_bytes,
            }
            for row in page.vram
        ],
        "next": page.next or None,
    }


def buckets_body(buckets: Iterable[Bucket], step_s: int) -> shapes.HistoryBuckets:
    return {"step_s": step_s, "buckets": [_bucket(each) for each in buckets]}


def timeline_body(timeline: Timeline) -> shapes.Timeline:
    runs = [run for _, runs in timeline.models for run in runs]
    states = list(dict.fromkeys(state for _, state, _ in runs))
    causes = list(dict.fromkeys(cause for _, _, cause in runs))
    state_at, cause_at = ({word: at for at, word in enumerate(words)} for words in (states, causes))
    return {
        "since": format_time(timeline.from_wall_s),
        "until": format_time(timeline.to_wall_s),
        "step_s": timeline.step_s,
        "states": states,
        "causes": causes,
        "models": [
            {"model": name, "runs": [[second, state_at[state], cause_at[cause]] for second, state, cause in found]}
            for name, found in timeline.models
        ],
        "gpus": [{"gpu": line.gpu, "points": [list(point) for point in line.points]} for line in timeline.gpus],
    }


def report_body(report: Report, until_wall_s: WallS) -> shapes.HistoryReport:
    since = hour_of(report.span.from_wall_s)
    if report.since is not None:
        since = max(since, report.since)
    by = [_row(name, totals) for name, totals in report.by.items()]
    return {
        "since": format_time(min(since, until_wall_s)),
        "until": format_time(until_wall_s),
        "total": _row("all", _sum(report.models.values())),
        "models": [_row(name, report.models[name]) for name in sorted(report.models)],
        "by": sorted(by, key=lambda row: (-row["given_back_gib_h"], row["name"])),
        "gpus": [{"gpu": gpu, "energy_j": round(joules, 1)} for gpu, joules in sorted(report.gpus_j.items())],
    }


def _state(each: Interval) -> shapes.StateSpan:
    return {
        "model": each.model,
        "state": cast(State, each.state),
        "level": cast(Level, each.level),
        "weights": each.weights,
        "since": format_time(each.since_wall_s),
        "until": None if each.until_wall_s is None else format_time(each.until_wall_s),
        "by": CauseKind(each.by) if each.by else None,
        "who": each.who,
        "task": each.task,
        "freed_bytes": each.freed_bytes,
    }


def _task(each: Transition) -> shapes.TaskSpan:
    return {
        "task": each.task,
        "model": each.model,
        "kind": TaskKind(each.kind),
        "level": each.level,
        "by": CauseKind(each.by),
        "who": each.who,
        "began": format_time(each.began_wall_s),
        "ended": format_time(each.ended_wall_s),
        "seconds": round(each.ended_wall_s - each.began_wall_s, 3),
        "result": each.result.value,
        "outcome": each.outcome,
        "victims": list(each.victims),
        "served": each.served,
        "longest_wait_s": each.longest_wait_s,
    }


def _bucket(bucket: Bucket) -> shapes.HistoryBucket:
    counts, spent = bucket.counts, bucket.spent
    return {
        "model": bucket.model,
        "start": format_time(bucket.start),
        "requests": counts.requests,
        "finished": counts.finished,
        "prompt_tokens": counts.prompt_tokens,
        "output_tokens": counts.output_tokens,
        "awake_s": round(spent.awake_s, 1),
        "asleep_s": round(spent.asleep_s, 1),
        "other_s": round(spent.other_s, 1),
        "given_back_gib_h": round(spent.given_back / GIB_H, 3),
        "wakes": spent.wakes,
        "failures": spent.failures,
        "refused": spent.refused,
        "energy_j": None if spent.energy_j is None else round(spent.energy_j, 1),
    }


def _row(name: str, totals: Totals) -> shapes.ReportRow:
    spent, waits = totals.spent, totals.waits
    p50, p95 = percentile(waits, 0.5), percentile(waits, 0.95)
    return {
        "name": name,
        "given_back_gib_h": round(spent.given_back / GIB_H, 3),
        "asleep_s": round(spent.asleep_s, 1),
        "unmeasured_s": round(spent.unmeasured_s, 1),
        "awake_s": round(spent.awake_s, 1),
        "requests": totals.counts.requests,
        "wakes": spent.wakes,
        "waits": sum(waits.values()),
        "wait_p50_s": None if p50 is None else round(p50, 3),
        "wait_p95_s": None if p95 is None else round(p95, 3),
        "refused": spent.refused,
        "failures": spent.failures,
        "energy_j": None if spent.energy_j is None else round(spent.energy_j, 1),
    }


def _sum(many: Iterable[Totals]) -> Totals:
    total = Totals()
    for each in many:
        total.counts.add(each.counts)
        total.spent.add(each.spent)
        for bucket, count in each.waits.items():
            total.waits[bucket] = total.waits.get(bucket, 0) + count
    return total
