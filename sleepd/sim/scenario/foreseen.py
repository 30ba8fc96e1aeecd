"""Casts whose rules go by forecasts: what their daemon remembers of requests, and the rules that make use of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from pydantic import ConfigDict

from sleepd.core.daybook import DAY_S, SLOT_S, SLOTS
from sleepd.core.footprint import Footprint
from sleepd.core.habits import Habits
from sleepd.core.life import Life, State, Weights
from sleepd.core.records import AccountSaved, ModelSaved
from sleepd.core.rules import KEEP_AWAKE, WAKE, Action, ActionKind, PredictedIdle, Rule
from sleepd.core.silences import SILENCES_S
from sleepd.core.units import Seconds, WallS

FIRST_SLOT = int((22 * 60 + 13) * 60 // SLOT_S)
"""Simulated time begins at 22:13:20 UTC, and ends two or three slots later."""
LEARNED = ((10.0, 10.0),) * len(SILENCES_S)
"""What came after silences of every length was as expected."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is remembered of one model's requests as simulated time begins."""

    model: str
    days: tuple[str, ...]
    """Of each whole day, the last one last: the slots in which requests came, as the hex digits of their bits."""
    silent_s: Seconds
    credit_prices: float
    """What may be risked."""
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The rules that go by forecasts: `nap` in place of the timeout, a wake ahead, and what keeps awake meanwhile."""

    nap_level: int
    ahead_s: Seconds
    budget_s: Seconds | None
    kept: bool
    observed: tuple[Observed, ...]
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


def draw_foreseen(random: Random, models: Iterable[str]) -> Foreseen:
    """Forecasts that change with the clock's five minutes and with every length of silence."""
    return Foreseen(
        nap_level=random.choice((1, 1, 2)),
        ahead_s=random.choice((60.0, 200.0, 400.0)),
        budget_s=random.choice((None, 60.0, 120.0)),
        kept=random.random() < 0.3,
        observed=tuple(_draw_observed(random, model) for model in models),
    )


def _draw_observed(random: Random, model: str) -> Observed:
    """A job of the day, requests at random, or none; sometimes of too few days."""
    job, chance = FIRST_SLOT + random.randrange(4), random.choice((0.0, 0.0, 0.3, 0.9))
    habit = random.choice((0.0, 0.9, 1.0, 1.0))
    days = []
    for _ in range(random.choice((1, 5, 27, 27))):
        slots = {slot for slot in range(FIRST_SLOT - 12, FIRST_SLOT + 8) if random.random() < chance}
        slots |= {job} if random.random() < habit else set()
        days.append(f"{sum(1 << slot for slot in slots):x}")
    silent_s = random.choice((30.0, 4000.0, 40_000.0))
    return Observed(model, tuple(days), silent_s, random.choice((1.0, 4.0, 8.0, 8.0)))


def rules_by_forecast(foreseen: Foreseen, nap_idle_s: Seconds, models: frozenset[str]) -> tuple[Rule, ...]:
    """The rules of this cast that go by forecasts; the first stands for the timeout of every other cast."""
    soon = (PredictedIdle(foreseen.ahead_s),)
    rules = (
        Rule("nap", models, (PredictedIdle(nap_idle_s),), Action(ActionKind.SLEEP, foreseen.nap_level)),
        Rule("ahead", models, soon, WAKE, budget_s=foreseen.budget_s),
    )
    return (*rules, Rule("kept", models, soon, KEEP_AWAKE)) if foreseen.kept else rules


def remember(foreseen: Foreseen, price_s: Seconds, wall_s: WallS) -> Mapping[str, ModelSaved]:
    """What the database holds of these models as simulated time begins: habits, and nothing else."""
    return {observed.model: _remember(observed, price_s, wall_s) for observed in foreseen.observed}


def _remember(observed: Observed, price_s: Seconds, wall_s: WallS) -> ModelSaved:
    today = int(wall_s // DAY_S)
    before = ((today - ago, int(bits, 16)) for ago, bits in enumerate(reversed(observed.days), 1))
    days = tuple((day, bits % (1 << SLOTS)) for day, bits in sorted(before))
    return ModelSaved(
        name=observed.model,
        life=Life(State.UNKNOWN, Weights.DOUBTFUL),
        incarnation=None,
        control=None,
        since_wall_s=wall_s,
        last_active_wall_s=wall_s,
        fingerprint=None,
        footprint=Footprint(),
        failure=None,
        check_failed="",
        checking=False,
        frees_nothing=False,
        habits=Habits((*days, (today, 0)), LEARNED, (), wall_s - observed.silent_s),
        account=AccountSaved(observed.credit_prices * price_s, observed.silent_s, wall_s, awake=True),
    )
