"""The hybrid histogram policy of Shahrad et al., "Serverless in the Wild" (USENIX ATC 2020), section 4.

Of each application a histogram of idle times, in bins of a minute over four hours. Where it is representative, the
application is unloaded at once, loaded again before its 5th percentile (less a margin) and kept until its 99th (more
the margin). Where too many idle times are out of bounds, a forecast of the next one; where too few are known, or they
say nothing (a low coefficient of variation of the bins), it is kept for the whole range.
"""

from collections.abc import Sequence
from statistics import fmean, pstdev

from sleepd.core.units import Seconds
from sleepd.replay.policies.base import KeepAlive

BIN_S: Seconds = 60.0
BINS = 240
HEAD, TAIL = 0.05, 0.99
MARGIN = 0.10
LEAST_CV = 2.0
"""Below this the histogram is too flat to tell anything (section 4.2: "CV of the bin counts")."""
MOST_OUT_OF_BOUNDS = 0.5
"""Above this share of idle times beyond the range, the next one is forecast."""
KEPT_OUT = 10
"""The forecast is made from this many of the last idle times. The paper fits an ARIMA model to them; here it is their
mean, which is what ARIMA(0,0,0) with a constant predicts, as no statistics library is worth that much here."""
FORECAST_MARGIN = 0.15


class Histogram(KeepAlive):
    """`keep_most_s`: for how long a model is kept that nothing is known of; the paper's four hours."""

    def __init__(self, keep_most_s: Seconds = BINS * BIN_S) -> None:
        self._keep_most_s = keep_most_s
        self._bins: dict[str, list[int]] = {}
        self._out: dict[str, list[Seconds]] = {}
        self._out_count: dict[str, int] = {}
        self._idle_since_s: dict[str, Seconds] = {}
        self._until_s: dict[str, Seconds] = {}

    def arrived(self, model: str) -> None:
        super().arrived(model)
        since_s = self._idle_since_s.pop(model, None)
        if since_s is not None:
            self._learn(model, self.hands.now_s - since_s)

    def idled(self, model: str) -> None:
        now_s = self.hands.now_s
        self._idle_since_s[model] = now_s
        head_s, tail_s = self.window_s(model)
        self._until_s[model] = now_s + tail_s
        if head_s <= 0:
            self.timers.set(model, now_s + tail_s, self.let_sleep)
            return
        self.let_sleep(model)
        self.timers.set(model, now_s + head_s, self._load)

    def woke(self, model: str) -> None:
        """Loaded ahead: it is kept until the end of its window, which began when it idled."""
        if not self.hands.in_use(model) and model in self._until_s:
            self.timers.set(model, self._until_s[model], self.let_sleep)

    def window_s(self, model: str) -> tuple[Seconds, Seconds]:
        """When to load the model that idles now and until when to keep it, counted from now; load at 0: it stays."""
        bins, out = self._bins.get(model), self._out_count.get(model, 0)
        inside = sum(bins) if bins else 0
        if out and out > MOST_OUT_OF_BOUNDS * (inside + out):
            expected_s = fmean(self._out[model])
            return expected_s * (1 - FORECAST_MARGIN), expected_s * (1 + FORECAST_MARGIN)
        if bins is None or not inside or pstdev(bins) < LEAST_CV * fmean(bins):
            return 0.0, self._keep_most_s
        head_s = percentile_bin(bins, HEAD) * BIN_S * (1 - MARGIN)
        tail_s = (percentile_bin(bins, TAIL) + 1) * BIN_S * (1 + MARGIN)
        return head_s, tail_s

    def _learn(self, model: str, idle_s: Seconds) -> None:
        number = int(idle_s // BIN_S)
        if number < BINS:
            self._bins.setdefault(model, [0] * BINS)[number] += 1
            return
        self._out_count[model] = self._out_count.get(model, 0) + 1
        self._out[model] = [*self._out.get(model, []), idle_s][-KEPT_OUT:]

    def _load(self, model: str) -> None:
        if not self.hands.in_use(model):
            self.hands.wake(model)
            # Where there is no room it is not loaded: its window ends all the same.
            self.timers.set(model, max(self._until_s[model], self.hands.now_s), self.let_sleep)


def percentile_bin(bins: Sequence[int], share: float) -> int:
    """The first bin up to which at least this share of all counts lies."""
    wanted, seen = share * sum(bins), 0
    for number, count in enumerate(bins):
        seen += count
        if count and seen >= wanted:
            return number
    return len(bins) - 1
