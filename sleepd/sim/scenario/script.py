"""A scenario as data: who is there and what happens when. A seed draws one; a file pins one down.

Every random number is drawn here and in the `draw` functions of the cast and the acts, before anything is played:
playing draws nothing. So a script that once showed a bug goes on showing it when the drawing changes.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sleepd.core.units import Seconds
from sleepd.sim.scenario.cast import Cast, draw_cast, with_adapters, with_forecasts, with_units
from sleepd.sim.scenario.crowds import draw_crowd, draw_crowded
from sleepd.sim.scenario.table import CROWDS, DEEDS, FAULTS, HARDSHIPS, PEOPLE, UNIT_FAULTS, Arguments, Deed

CROWD = CROWDS[0].name
FAULTY_S = 420.0
CROWDED_S = 600.0
CALM_S = 200.0


@dataclass(frozen=True, slots=True)
class Act:
    """At `at_s` the deed `do` befalls `model`, or whatever of the host the deed is about."""

    at_s: Seconds
    do: str
    model: str
    arguments: Arguments
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Script:
    """`acts` happen until `faulty_s`, faults and people; then all faults end, and people alone go on for `calm_s`."""

    about: str
    cast: Cast
    acts: tuple[Act, ...]
    faulty_s: Seconds = FAULTY_S
    calm_s: Seconds = CALM_S
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


_FORM = TypeAdapter(Script)


def draw_script(seed: int) -> Script:
    """The script of a seed: the same one each time, on every machine."""
    cast = with_units(Random(f"{seed} units"), draw_cast(Random(f"{seed} cast")))
    cast = with_adapters(Random(f"{seed} adapters"), cast)
    cast = with_forecasts(Random(f"{seed} forecasts"), cast)
    acts = [act for deed in PEOPLE for act in _repeat(Random(f"{seed} {deed.name}"), cast, deed)]
    acts += _draw_faults(Random(f"{seed} faults"), cast, FAULTS, 120.0)
    if any(model.controlled for model in cast.models):
        acts += _draw_faults(Random(f"{seed} unit faults"), cast, UNIT_FAULTS, 90.0)
    return Script(f"seed {seed}", cast, tuple(sorted(acts, key=lambda act: act.at_s)))


def draw_crowded_script(seed: int) -> Script:
    """The script of a seed in which more models are wanted than fit: every second one with faults, and with each thing
    that makes turns harder (clients that hang up, long streams, reloads, holds, pins, jobs, operators) in three of ten.
    """
    cast = draw_crowded(Random(f"{seed} crowded cast"))
    acts = [
        Act(round(at_s, 3), CROWD, model.name, drawn)
        for model in cast.models
        for at_s, drawn in draw_crowd(Random(f"{seed} crowd {model.name}"), CROWDED_S)
    ]
    if seed % 2:
        acts += _draw_faults(Random(f"{seed} faults"), cast, FAULTS, 120.0)
    chosen = Random(f"{seed} crowded deeds")
    for deed in (*HARDSHIPS, *PEOPLE):
        if chosen.random() < 0.3:
            acts += _repeat(Random(f"{seed} {deed.name}"), cast, deed, CROWDED_S)
    return Script(f"crowded {seed}", cast, tuple(sorted(acts, key=lambda act: act.at_s)), CROWDED_S)


def _repeat(random: Random, cast: Cast, deed: Deed, until_s: Seconds = FAULTY_S + CALM_S) -> list[Act]:
    least_s, most_s = deed.every_s
    acts, at_s = [], random.uniform(0.0, most_s)
    while at_s < until_s:
        acts.append(_draw_act(random, cast, deed, at_s))
        at_s += random.uniform(least_s, most_s)
    return acts


def _draw_faults(random: Random, cast: Cast, faults: tuple[Deed, ...], most_s: Seconds) -> list[Act]:
    weights = [fault.weight for fault in faults]
    acts, at_s = [], random.uniform(0.0, most_s)
    while at_s < FAULTY_S:
        (fault,) = random.choices(faults, weights)
        acts.append(_draw_act(random, cast, fault, at_s, controlled=faults is UNIT_FAULTS))
        at_s += random.uniform(20.0, most_s)
    return acts


def _draw_act(random: Random, cast: Cast, deed: Deed, at_s: Seconds, *, controlled: bool = False) -> Act:
    model = random.choice([model.name for model in cast.models if model.controlled or not controlled])
    return Act(round(at_s, 3), deed.name, model, deed.draw(random, cast))


def read_script(path: Path) -> Script:
    """The script in a file. Raises ValueError saying what is wrong where."""
    try:
        script = _FORM.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise ValueError(f"{path.name}: {where}: {first['msg']}; {error.error_count()} in all") from None
    unknown = sorted({act.do for act in script.acts} - DEEDS.keys())
    if unknown:
        raise ValueError(f"{path.name}: nobody knows how to do {unknown[0]!r}: known are {', '.join(sorted(DEEDS))}")
    return script


def write_script(script: Script, path: Path) -> None:
    """The file holds the script, one act a line."""
    whole = _FORM.dump_python(script, mode="json")
    acts = ",\n".join(json.dumps(act) for act in whole.pop("acts"))
    path.write_text(f'{json.dumps(whole)[:-1]}, "acts": [\n{acts}\n]}}\n')
