"""The rules a cast may have beside the two that everybody has, by name: files hold the names."""

from random import Random

from sleepd.core.rules import (
    EVERY_DAY,
    KEEP_AWAKE,
    SLEEP_1,
    SLEEP_2,
    STOP,
    WAKE,
    AsleepFor,
    CronDue,
    During,
    GpuFreeBelow,
    IdleFor,
    Rate,
    RequestsBelow,
    Rule,
    Threshold,
)
from sleepd.core.units import GIB

# Simulated time begins at 22:13:20 UTC.
_SHIFT = During(EVERY_DAY, 22 * 60 + 16, 22 * 60 + 21, "UTC")
_NIGHT = During(EVERY_DAY, 22 * 60 + 22, 22 * 60 + 25, "UTC")
_OFTEN = CronDue("*/4 * * * *", "UTC", 90.0)
_TIGHT = GpuFreeBelow(Threshold(bytes_=8 * GIB), Threshold(bytes_=20 * GIB))
_RARE = RequestsBelow(Rate(1.0, 60.0), Rate(2.0, 60.0), 120.0)

_ALL = frozenset[str]()
RULEBOOK = {
    rule.name: rule
    for rule in (
        Rule("shift", _ALL, (_SHIFT,), KEEP_AWAKE),
        Rule("night", _ALL, (_NIGHT,), SLEEP_1, cooldown_s=30.0),
        Rule("often", _ALL, (_OFTEN,), WAKE),
        Rule("siesta", _ALL, (AsleepFor(120.0),), WAKE, cooldown_s=60.0),
        Rule("tight", _ALL, (_TIGHT,), SLEEP_1, cooldown_s=120.0),
        Rule("retire", _ALL, (AsleepFor(90.0),), STOP, cooldown_s=60.0),
        Rule("rare", _ALL, (_RARE, IdleFor(10.0)), SLEEP_2, for_s=5.0),
    )
}


def draw_rules(random: Random) -> tuple[str, ...]:
    return tuple(sorted(random.sample(sorted(RULEBOOK.keys() - {"retire"}), random.choice((0, 0, 1, 2, 3)))))
