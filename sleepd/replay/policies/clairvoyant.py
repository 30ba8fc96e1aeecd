"""Knows every request to come: what being awake costs at least.

A model sleeps as soon as it idles where the time until its next request is long enough to sleep and wake in it, and is
woken so that it is awake when that request comes. Where GPU memory is no constraint nobody waits, and no policy under
which nobody waits is awake for less: while requests run it must be awake, and a gap too short to sleep in it must be
spent awake. So its GiB-hours bound those of all policies without waits; a policy below them makes somebody wait. Where
memory is short it is only a good policy: it wakes ahead only what fits, and no choice of victims is optimised.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from sleepd.core.units import GIB, Seconds
from sleepd.replay.hosts import Costs
from sleepd.replay.policies.base import Hands, KeepAlive
from sleepd.replay.trace import Trace

SETTLES_S: Seconds = 0.5
"""What looking takes beside the calls: confirming, proving, the poll before."""
EARLY_S: Seconds = 0.1


class Clairvoyant(KeepAlive):
    """Wakes what fits in time for its next request."""

    def __init__(self, trace: Trace, costs: Mapping[str, Costs]) -> None:
        self._costs = costs
        self._comes_s: dict[str, list[Seconds]] = {}
        for arrival in trace.arrivals:
            self._comes_s.setdefault(arrival.model, []).append(arrival.at_s)

    def begin(self, hands: Hands) -> None:
        super().begin(hands)
        for model, comes_s in self._comes_s.items():
            self.timers.set(model, max(0.0, comes_s[0] - self._costs[model].wake1_s - EARLY_S), self._wake)

    def idled(self, model: str) -> None:
        now_s, costs = self.hands.now_s, self._costs[model]
        next_s = self._next_s(model)
        wake_s = costs.wake1_s + EARLY_S
        if next_s is not None and next_s - now_s <= costs.sleep1_s + wake_s + SETTLES_S:
            return
        self.let_sleep(model)
        if next_s is not None:
            self.timers.set(model, next_s - wake_s, self._wake)

    def woke(self, model: str) -> None:
        """It was woken for a request that is about to come, or is there."""

    def _wake(self, model: str) -> None:
        self.hands.wake(model)

    def _next_s(self, model: str) -> Seconds | None:
        comes_s = self._comes_s.get(model, [])
        at = bisect_right(comes_s, self.hands.now_s)
        return comes_s[at] if at < len(comes_s) else None


def least_gpu_gib_h(
    trace: Trace, costs: Mapping[str, Costs], gpus: Mapping[str, Sequence[str]], from_s: Seconds, until_s: Seconds
) -> float:
    """The GiB-hours of [from_s, until_s) without which somebody waits, were memory no constraint: all spans in which
    requests run, with the gaps that are too short to sleep and wake in, each with a wake before and a sleep after."""
    total = 0.0
    for model in trace.models:
        cost = costs[model]
        held_s = sum(
            max(0.0, min(end_s + cost.sleep1_s, until_s) - max(begin_s - cost.wake1_s, from_s))
            for begin_s, end_s in _used(trace, model, cost)
        )
        total += held_s * cost.awake_bytes * len(gpus[model]) / GIB / 3600.0
    return total


def _used(trace: Trace, model: str, cost: Costs) -> list[tuple[Seconds, Seconds]]:
    """The spans in which the model must be awake. Requests count as if each ran alone: none is shorter than that."""
    spans: list[tuple[Seconds, Seconds]] = []
    for arrival in trace.arrivals:
        if arrival.model != model:
            continue
        end_s = arrival.at_s + cost.request_s(arrival.prompt_tokens, arrival.output_tokens, 0)
        if spans and arrival.at_s - spans[-1][1] <= cost.sleep1_s + cost.wake1_s:
            spans[-1] = spans[-1][0], max(spans[-1][1], end_s)
        else:
            spans.append((arrival.at_s, end_s))
    return spans
