"""Whose calls moved a server's control counters: those of ours that no page has shown yet, or somebody else's."""

from collections.abc import Sequence

from sleepd.core.frozen import replace
from sleepd.core.plan import COUNTED_AS, Verb
from sleepd.core.seen import CallCount, ControlCounts

_OURS = tuple(dict.fromkeys(COUNTED_AS.values()))


def take_off(uncounted: Sequence[Verb], was: ControlCounts, now: ControlCounts) -> tuple[tuple[Verb, ...], bool]:
    """Return (which of our calls these counters still do not show, whether anything else moved them).

    A call is counted when it is answered, whoever still waits for it: one whose answer was lost shows later, or never.
    """
    left, strange = list(uncounted), (now.pause, now.update) != (was.pause, was.update)
    for handler in _OURS:
        moved = _answered(getattr(now, handler)) - _answered(getattr(was, handler))
        ours = [verb for verb in left if COUNTED_AS[verb] == handler]
        strange = strange or not 0 <= moved <= len(ours)
        for verb in ours[: max(0, moved)]:
            left.remove(verb)
    return tuple(left), strange


def only_checked(was: ControlCounts, now: ControlCounts) -> bool:
    """Whether nothing was called but the route that tells checksums of the weights, or zeroes them."""
    return was != now and was == replace(now, check=was.check)


def _answered(counted: CallCount) -> int:
    return counted.ok + counted.failed
