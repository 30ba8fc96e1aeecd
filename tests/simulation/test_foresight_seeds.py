"""Foresight in the simulator: forecasts that change by the minute, in scenarios full of faults, break no invariant."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from sleepd.core import change_of_mind, foresight
from sleepd.core.daybook import LocalS
from sleepd.core.habits import Habits
from sleepd.core.model import Settings
from sleepd.core.rules import SLEEP_1, WAKE, PredictedIdle, Rule
from sleepd.core.turn import Note
from sleepd.core.units import Seconds
from sleepd.sim.scenario import stage
from sleepd.sim.scenario.cast import Cast, settings_of
from sleepd.sim.scenario.play import play
from sleepd.sim.scenario.script import draw_script

CHANGES_S = 20.0


def by_forecast(cast: Cast) -> Settings:
    """The settings of the cast, its timeout replaced by foresight."""
    settings = settings_of(cast)
    everyone = frozenset(settings.models)
    soon = (PredictedIdle(cast.nap_idle_s),)
    rules = tuple(rule for rule in settings.rules if rule.name != "nap")
    return replace(settings, rules=(*rules, Rule("nap", everyone, soon, SLEEP_1), Rule("ahead", everyone, soon, WAKE)))


def flickering(habits: Habits, local_s: LocalS) -> Seconds:
    """A request at once, then none for days, and so on: what makes rules act most."""
    return 1.0 if round(local_s / CHANGES_S, 3) // 1 % 3 == 0 else 1e6


def next_flicker(habits: Habits, local_s: LocalS) -> LocalS:
    return (round(local_s / CHANGES_S, 3) // 1 + 1) * CHANGES_S


@pytest.mark.parametrize("seed", [710_003])
def test_forecasts_that_flicker_break_nothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foresight, "expected_idle", flickering)
    monkeypatch.setattr(change_of_mind, "next_change", next_flicker)
    monkeypatch.setattr(change_of_mind, "look_out", lambda habits, _: SimpleNamespace(at=partial(flickering, habits)))
    monkeypatch.setattr(stage, "settings_of", by_forecast)
    told: list[Note] = []
    play(draw_script(seed), lambda at, note: told.append(note))
    assert "wake_ahead" in {note.kind for note in told}, "nobody was woken ahead"
