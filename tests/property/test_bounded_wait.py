"""Models over one to four GPUs, all wanted again and again: everybody is served within a bounded time, and no engine
ever meets an out-of-memory."""

from random import Random

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.wishes import WakeAsked
from sleepd.sim.scenario.cast import Cast, CastModel
from sleepd.sim.scenario.invariants import AT_THE_END, EVERY_COMMIT, EVERY_TURN, check
from sleepd.sim.scenario.stage import Stage

MIN_AWAKE_S = 5.0
PLAYED_S = 240.0
TURN_S = MIN_AWAKE_S + 5.0
"""What one model before it in the queue may cost: its min_awake, the sleeps of victims, its wake. Of 120 seeds the
worst had 4.8 s."""


def draw_models(random: Random, gpus: int) -> tuple[CastModel, ...]:
    """Two to six models over random sets of GPUs; few of them fit together."""
    return tuple(
        CastModel(
            f"m{i}",
            "0.32.0",
            gpus=tuple(sorted(random.sample(range(gpus), random.randint(1, gpus)))),
            weights_gib=random.choice((8, 16)),
            kv_gib=random.choice((10, 20, 40)),
            min_awake_s=random.choice((0.0, MIN_AWAKE_S)),
            fenced=True,
        )
        for i in range(random.randint(2, 6))
    )


class Crowd:
    """Asks for every model, again as soon as it was served, and remembers how long each had to wait."""

    def __init__(self, stage: Stage, random: Random) -> None:
        self.stage, self._random = stage, random
        self.served: dict[str, int] = dict.fromkeys(stage.models, 0)
        self.asked_s: dict[str, float] = {}
        self.longest_s = 0.0

    def want(self, name: str) -> None:
        self.asked_s[name] = self.stage.time.now()
        self.stage.ask(lambda w: WakeAsked(w, name, "crowd", 3600.0), 3600.0, lambda answer: self._served(name, answer))

    def _served(self, name: str, answer: Answer) -> None:
        assert answer.kind is AnswerKind.DONE, self.stage.say(f"{name}: {answer}")
        self.longest_s = max(self.longest_s, self.stage.time.now() - self.asked_s.pop(name))
        self.served[name] += 1
        self.stage.later(self._random.choice((0.1, 1.0, 8.0)), lambda: self.want(name))


def stage_of(cast: Cast, about: str) -> Stage:
    """A stage on which every invariant is looked at after every turn."""

    def look(stage: Stage) -> None:
        check(stage, EVERY_TURN)
        check(stage, EVERY_COMMIT)

    return Stage(cast, about, look, lambda stage, note: None)


def wait_until_up(stage: Stage) -> None:
    """Every server has come up, awake or put aside for another."""
    stage.start()

    def up() -> bool:
        states = [r.life.state for r in stage.daemon.world.models.values()]
        return all(s in (State.AWAKE, State.ASLEEP_L1) for s in states)

    while not up():
        assert stage.time.now() < 600.0, stage.say("a server did not come up")
        stage.time.run_until(stage.time.now() + 5.0)


@pytest.mark.parametrize("seed", range(8))
def test_everybody_is_served_within_a_bounded_time_and_nobody_runs_out_of_memory(seed: int) -> None:
    random = Random(seed)
    gpus = random.choice((1, 2, 2, 3, 4))
    cast = Cast(gpus, ram_gib=1024, models=draw_models(random, gpus), nap_idle_s=3600.0)
    stage = stage_of(cast, f"seed {seed}")
    wait_until_up(stage)
    crowd = Crowd(stage, random)
    for name in stage.models:
        crowd.want(name)
    stage.time.run_until(stage.time.now() + PLAYED_S)

    bound_s = TURN_S * len(stage.models)
    waiting_s = [stage.time.now() - asked_s for asked_s in crowd.asked_s.values()]
    assert max([crowd.longest_s, *waiting_s]) <= bound_s, stage.say(f"{crowd.longest_s} {crowd.asked_s}")
    assert min(crowd.served.values()) >= 1, stage.say(f"{crowd.served}")
    assert stage.host.refused == 0
    check(stage, AT_THE_END[1:])
