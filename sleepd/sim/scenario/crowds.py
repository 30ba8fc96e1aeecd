"""Crowds: clients of the gateway, more of them than fit, whose models want the same room all the time."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from sleepd.core.units import Seconds
from sleepd.sim.callers import Fate, Request
from sleepd.sim.scenario.cast import Cast, CastModel
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.people import ask_engine
from sleepd.sim.scenario.stage import Stage

UP_S = 90.0
"""By then every server has been started, one after another where only one fits."""
STREAM_TOKENS = 4000
"""Eighty seconds of an answer, and as much as a simulated model can say."""
SORTS = ("steady", "steady", "bursts", "strays")


def draw_crowded(random: Random) -> Cast:
    """Two to eight models on one to four GPUs, some of them wide; the more of them, the fewer have room at once."""
    gpus = random.choice((1, 1, 2, 3, 4))
    return Cast(
        gpus,
        ram_gib=1024,
        models=tuple(_draw_model(random, f"m{i}", gpus) for i in range(random.randint(2, 8))),
        nap_idle_s=3600.0,
        drain_s=random.choice((10.0, 30.0, 300.0)),
    )


def _draw_model(random: Random, name: str, gpus: int) -> CastModel:
    wide = random.choice([n for n in (1, 1, 2, 4) if n <= gpus])
    model = CastModel(
        name,
        random.choice(("0.28.0", "0.32.0")),
        gpus=tuple(sorted(random.sample(range(gpus), wide))),
        weights_gib=random.choice((8, 16)),
        kv_gib=random.choice((10, 20, 50)),
        min_awake_s=random.choice((0.0, 10.0, 30.0)),
        priority=random.choice((0, 0, 0, 5)),
        fenced=True,
    )
    return replace(model, max_wait_s=random.choice((20.0, 60.0, 120.0)))


def draw_crowd(random: Random, until_s: Seconds) -> list[tuple[Seconds, Arguments]]:
    """When one model is asked for, and how: all the time, in bursts, or once in a while."""
    sort, at_s = random.choice(SORTS), UP_S + random.uniform(0.0, 20.0)
    asked: list[tuple[Seconds, Arguments]] = []
    while at_s < until_s:
        drawn: Arguments
        if sort == "steady":
            drawn = {"requests": random.randint(2, 6), "every_s": random.choice((0.3, 1.0)), "tokens": 100}
            pause_s = random.uniform(1.0, 6.0)
        elif sort == "bursts":
            drawn = {"requests": random.randint(5, 20), "every_s": 0.05, "tokens": random.choice((20, 200))}
            pause_s = random.uniform(20.0, 60.0)
        else:
            drawn = {"requests": 1, "every_s": 0.0, "tokens": random.choice((20, 200, 3000))}
            pause_s = random.uniform(10.0, 120.0)
        asked.append((at_s, drawn))
        at_s += pause_s
    return asked


def _draw_hang_up(random: Random, cast: Cast) -> Arguments:
    return {"requests": random.randint(1, 3), "leaves_after_s": random.choice((0.01, 0.3, 2.0, 8.0, 15.0))}


def _hang_up(stage: Stage, name: str, drawn: Arguments) -> None:
    """So many clients ask at once, and those that are still held after a moment leave."""
    requests = [_request(stage, name, 20) for _ in range(int(drawn["requests"] or 0))]
    for request in requests:
        stage.callers.send(request)

    def leave() -> None:
        for request in requests:
            stage.callers.leave(request)

    stage.later(float(drawn["leaves_after_s"] or 0.0), leave)


def _draw_stream(random: Random, cast: Cast) -> Arguments:
    return {"parts": random.choice((1, 3, 6))}


def _stream(stage: Stage, name: str, drawn: Arguments) -> None:
    """One answer of 80 s to eight minutes: longer than any turn that is drawn here, and mostly than a drain."""

    def begin(answered: Callable[[], None], part: int = int(drawn["parts"] or 0)) -> None:
        goes_on = part > 1 and stage.daemon.alive
        ask_engine(stage, name, STREAM_TOKENS, (lambda: begin(answered, part - 1)) if goes_on else answered)

    stage.callers.send(Request(name, begin, lambda fate, _: _end(stage, fate)))


def _come(stage: Stage, name: str, drawn: Arguments) -> None:
    """So many clients send a request each, one after another; what becomes of it is theirs to live with."""
    every_s, tokens = float(drawn["every_s"] or 0.0), drawn["tokens"]

    def send() -> None:
        stage.callers.send(_request(stage, name, tokens))

    for number in range(int(drawn["requests"] or 0)):
        stage.later(number * every_s, send)


def _request(stage: Stage, name: str, tokens: Any) -> Request:
    return Request(name, lambda answered: ask_engine(stage, name, tokens, answered), lambda fate, _: _end(stage, fate))


def _end(stage: Stage, fate: Fate) -> None:
    stage.account.fates[fate] += 1


DEEDS = (Deed("crowd", _come),)
RUDE = (
    Deed("hang up", _hang_up, _draw_hang_up, every_s=(3.0, 40.0)),
    Deed("stream", _stream, _draw_stream, every_s=(60.0, 300.0)),
)
