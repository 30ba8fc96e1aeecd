"""Looks that grew old before their turn, behind the commits of a slow disk: they open no gate."""

from sleepd.core.draft import Draft
from sleepd.core.units import MonotonicS

LOOKS_AGAIN = 5
"""How often what was seen may have grown old before its turn. On a disk that slow polls wait as long, so that what is
believed of open gates is no younger: then the gate opens all the same, and whoever waits for it is served."""


def is_late(draft: Draft, seen_s: MonotonicS, looked_again: int) -> bool:
    """Whether what was seen then is older than a poll, and another look is to tell first. No open gate is believed in
    for longer without one."""
    return looked_again < LOOKS_AGAIN and draft.mono_s - seen_s > draft.settings.poll_every_s
