"""How many lines of one sort the log takes: whoever can cause a line must not be able to fill the disk with it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

BURST = 60
PER_S = 2.0
SORTS_LIMIT = 4096


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_s: float
    withheld: int = 0


class Rations:
    """A bucket of `BURST` lines for each sort, filled at `PER_S` a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def take(self, sort: tuple[str, str]) -> int | None:
        """Return how many lines of this sort were withheld since the last one that was not; None: withhold this too."""
        now_s = self._clock()
        if sort not in self._buckets and len(self._buckets) >= SORTS_LIMIT:
            self._buckets.clear()
        bucket = self._buckets.setdefault(sort, _Bucket(BURST, now_s))
        bucket.left = min(BURST, bucket.left + (now_s - bucket.filled_s) * PER_S)
        bucket.filled_s = now_s
        if bucket.left < 1.0:
            bucket.withheld += 1
            return None
        bucket.left -= 1.0
        withheld, bucket.withheld = bucket.withheld, 0
        return withheld
