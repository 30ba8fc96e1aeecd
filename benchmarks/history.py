"""How large a month of history is, and how long questions to it take: `python benchmarks/history.py [--days D]`.

Goals: 30 days of 20 models that are used every minute of the day and sleep and wake 40 times each day stay below
100 MB, and 95 of 100 questions of each kind are answered within 100 ms, the largest ones included. Prints both and
exits with 1 where one is not met.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sleepd.adapters.history_db import HistoryDatabase
from sleepd.adapters.history_queries import read_buckets, read_page, read_report
from sleepd.history.found import Span
from sleepd.history.rows import Batch, Counts, Interval, Result, Spent, Transition, bucket_of

DAY_S, HOUR_S, MINUTE_S = 86_400, 3600, 60
BEGIN_S = 1_767_225_600  # 2026-01-01
GIB = 1 << 30
SIZE_GOAL_BYTES = 100_000_000
ANSWER_GOAL_S = 0.1
CYCLES = 40
"""Sleeps and wakes of each model a day."""
MODELS_A_GPU = 4


def day_of(day: int, models: int, chance: random.Random) -> Batch:
    """Return what one day leaves behind."""
    begin_s, batch = BEGIN_S + day * DAY_S, Batch()
    batch.wall_s = begin_s + DAY_S
    for number in range(models):
        name, gpu = f"model-{number:03}", f"GPU-{number // MODELS_A_GPU:08}-aaaa-bbbb-cccc-dddddddddddd"
        for minute in range(begin_s, begin_s + DAY_S, MINUTE_S):
            count = chance.randrange(1, 20)
            batch.minutes[minute, name] = Counts(count, count, count * 700, count * 150)
        _cycles(batch, name, begin_s, day * CYCLES * models * 2 + number * CYCLES * 2, chance)
        for hour in range(begin_s, begin_s + DAY_S, HOUR_S):
            batch.spent[hour, name, ""] = Spent(awake_s=1800.0, other_s=20.0, wakes=0, energy_j=3e5)
            batch.spent[hour, name, "rule nap"] = Spent(asleep_s=1780.0, given_back=1780.0 * 46 * GIB, wakes=2)
            batch.energy_j[hour, gpu] = batch.energy_j.get((hour, gpu), 0.0) + 3e5
        for minute in range(begin_s, begin_s + DAY_S, 10 * MINUTE_S):
            batch.vram[minute, gpu, name] = chance.randrange(60) * GIB
            batch.vram[minute, gpu, ""] = chance.randrange(80) * GIB
    return batch


def _cycles(batch: Batch, name: str, begin_s: int, task: int, chance: random.Random) -> None:
    lasts_s = DAY_S / CYCLES
    for cycle in range(CYCLES):
        at_s = begin_s + cycle * lasts_s
        for step, (state, level, after_s) in enumerate(
            (("awake", 0, 0.0), ("draining", 0, 600.0), ("falling_asleep", None, 600.1), ("asleep", 1, 603.0))
        ):
            until_s = (600.0, 600.1, 603.0, lasts_s - 4.0)[step]
            freed = 46 * GIB if state == "asleep" else None
            rule = ("rule", "nap", task) if step else ("request", "gateway", task)
            batch.intervals.append(
                Interval(name, state, level, "loaded", at_s + after_s, at_s + until_s, *rule, freed_bytes=freed)
            )
        wakes_s = at_s + lasts_s - 4.0
        batch.intervals.append(
            Interval(name, "waking", None, "offloaded", wakes_s, wakes_s + 4.0, "request", "gateway")
        )
        for kind, began_s, by in (("sleep", at_s + 600.0, "rule"), ("wake", wakes_s, "request")):
            task += 1
            outcome = f"{kind} ended well"
            batch.transitions[task] = Transition(
                *(task, name, kind, 1, by, "nap", began_s, began_s + 3.5, Result.DONE, outcome), served=3
            )
        for _ in range(5):
            key = (int(wakes_s // HOUR_S) * HOUR_S, name, "rule nap", "served", bucket_of(chance.uniform(0.5, 9.0)))
            batch.waits[key] = batch.waits.get(key, 0) + 1


async def fill(database: HistoryDatabase, days: int, models: int, seed: int = 1) -> None:
    """Write so many days of so many models."""
    await database.open()
    chance = random.Random(seed)
    for day in range(days):
        await database.write(day_of(day, models, chance))


def questions(days: int, models: int, chance: random.Random) -> dict[str, Callable[[HistoryDatabase], object]]:
    """Return one question of each kind that people and pages ask, about some moment of these days."""
    end_s = BEGIN_S + days * DAY_S
    day = Span(at_s := BEGIN_S + chance.randrange(days) * DAY_S, at_s + DAY_S)
    one = Span(BEGIN_S, end_s, (f"model-{chance.randrange(models):03}",))
    hour = Span(at_s + 8 * HOUR_S, at_s + 9 * HOUR_S)
    month = Span(BEGIN_S, end_s)
    week = Span(max(BEGIN_S, end_s - 7 * DAY_S), end_s)
    return {
        "an hour of all models": lambda db: db.ask(lambda found: read_page(found, hour, 1000)),
        "a day of all models, first page": lambda db: db.ask(lambda found: read_page(found, day, 1000)),
        "a month of one model, first page": lambda db: db.ask(lambda found: read_page(found, one, 1000)),
        "a week of all models by 6 hours": lambda db: db.ask(lambda found: read_buckets(found, week, 6 * HOUR_S)),
        "a week of all models by the hour": lambda db: db.ask(lambda found: read_buckets(found, week, HOUR_S)),
        "a report of a week": lambda db: db.ask(lambda found: read_report(found, week)),
        "a report of all": lambda db: db.ask(lambda found: read_report(found, month)),
    }


async def measure(days: int, models: int, runs: int) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.db"
        database = HistoryDatabase(path, lambda: BEGIN_S + days * DAY_S)
        began_s = time.perf_counter()
        await fill(database, days, models)
        await database.ask(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        wrote_s, size = time.perf_counter() - began_s, path.stat().st_size
        print(f"{days} days of {models} models: {size / 1e6:.1f} MB, written in {wrote_s:.1f} s")
        met = size <= SIZE_GOAL_BYTES
        chance, taken = random.Random(2), dict[str, list[float]]()
        for _ in range(runs):
            for name, ask in questions(days, models, chance).items():
                began_s = time.perf_counter()
                await ask(database)  # type: ignore[misc]
                taken.setdefault(name, []).append(time.perf_counter() - began_s)
        for name, seconds in taken.items():
            seconds.sort()
            p95_s = seconds[int(len(seconds) * 0.95)]
            met = met and p95_s <= ANSWER_GOAL_S
            print(f"  {name:36} p50 {seconds[len(seconds) // 2] * 1000:6.1f} ms  p95 {p95_s * 1000:6.1f} ms")
        await database.close()
    print("met" if met else "not met", f"the goals: {SIZE_GOAL_BYTES / 1e6:g} MB, p95 {ANSWER_GOAL_S * 1000:g} ms")
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--runs", type=int, default=40)
    options = parser.parse_args()
    return 0 if asyncio.run(measure(options.days, options.models, options.runs)) else 1


if __name__ == "__main__":
    sys.exit(main())
