"""The history database asked for a drawing: states and bytes in use, as fine as a line can show."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator

from sleepd.adapters.history_queries import models_on_record, names_of
from sleepd.history.found import Span, WrongQuestion
from sleepd.history.rows import MINUTE_S
from sleepd.history.timeline import GpuLine, Stay, Timeline, draw, thin

STEPS_LIMIT = 2_000
"""Of a span: more than a screen has columns for it."""
RESTATED_S = 2_400
"""Within so long every GPU's bytes are written again, whether they moved or not (docs/history.md)."""

STAYS = (
    "SELECT since_ms, until_ms, state, level, by, who FROM intervals"
    " WHERE model = :model AND since_ms < :to AND since_ms >= coalesce("
    "(SELECT max(since_ms) FROM intervals WHERE model = :model AND since_ms <= :from), :from) ORDER BY since_ms"
)
IN_USE = (
    "SELECT g.name, minute, bytes FROM vram JOIN names g ON g.id = gpu WHERE minute >= :from AND minute < :to"
    " AND model = (SELECT id FROM names WHERE name = '') ORDER BY minute"
)


def read_timeline(db: sqlite3.Connection, span: Span, step_s: int) -> Timeline:
    """Return a span as it is drawn. Raises WrongQuestion for more steps than `STEPS_LIMIT`."""
    length_s = span.to_wall_s - span.from_wall_s
    if length_s / step_s > STEPS_LIMIT:
        raise WrongQuestion(f"wanted at most {STEPS_LIMIT} steps, found {length_s / step_s:.0f}: take larger ones")
    models = []
    causes = Causes(db)
    for id_, name in models_on_record(db, "intervals", span.patterns):
        runs = draw(_stays(db, id_, span, causes), length_s, step_s)
        if any(state for _, state, _ in runs):
            models.append((name, runs))
    points: dict[str, list[tuple[float, int]]] = defaultdict(list)
    keys = {"from": span.from_wall_s - RESTATED_S, "to": span.to_wall_s}
    for gpu, minute, held_bytes in db.execute(IN_USE, keys):
        # A minute that the span begins within counts as its first one.
        second = minute - span.from_wall_s
        points[gpu].append((max(0.0, second) if second > -MINUTE_S else second, held_bytes))
    gpus = tuple(GpuLine(gpu, thin(found, step_s)) for gpu, found in sorted(points.items()))
    return Timeline(span.from_wall_s, span.to_wall_s, step_s, tuple(models), gpus)


class Causes(dict[tuple[int, int], str]):
    """Words for causes, by the numbers of `by` and `who`: there are few, and hundreds of thousands of rows."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._names = names_of(db)

    def __missing__(self, key: tuple[int, int]) -> str:
        by, who = key
        found = self[key] = f"{self._names[by]} {self._names[who]}".strip()
        return found


def _stays(db: sqlite3.Connection, model: int, span: Span, causes: Causes) -> Iterator[Stay]:
    keys = {"model": model, "from": round(span.from_wall_s * 1000), "to": round(span.to_wall_s * 1000)}
    from_s, to_s = span.from_wall_s, span.to_wall_s
    for since_ms, until_ms, state, level, by, who in db.execute(STAYS, keys):
        shown = f"{state} {level}" if level and state == "asleep" else state
        yield since_ms / 1000 - from_s, (to_s if until_ms is None else until_ms / 1000) - from_s, shown, causes[by, who]
