"""Scaling to zero by windows, as Knative's autoscaler does (knative/serving, pkg/autoscaler/scaling).

The average of requests inside over the stable window decides; in panic (a short window far above what runs) nothing is
taken away. One server either runs or does not: a panic means that it does. So a model sleeps when its stable window has
run empty and the grace period is over: what is left of the three numbers with one server a model.
"""

from sleepd.core.units import Seconds
from sleepd.replay.policies.base import KeepAlive

STABLE_WINDOW_S: Seconds = 60.0
"""config-autoscaler: stable-window."""
GRACE_S: Seconds = 30.0
"""config-autoscaler: scale-to-zero-grace-period, the last pod is kept so long at most after the decision. Where
requests pass the activator anyway it is over already: of 60 to 90 s, this is the end at which fewest wait."""
TICK_S: Seconds = 2.0
"""The autoscaler decides this often (autoscaler/scaling/multiscaler.go, tickInterval)."""


class Windows(KeepAlive):
    """Knative's defaults."""

    def idled(self, model: str) -> None:
        over_s = self.hands.now_s + STABLE_WINDOW_S + GRACE_S
        self.timers.set(model, over_s + -over_s % TICK_S, self.let_sleep)
