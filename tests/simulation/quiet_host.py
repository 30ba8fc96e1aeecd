"""A host on which nothing goes wrong but what a test does to it, in virtual time.

Everything but the servers, the GPUs and the clock is the daemon's own: the same step, recipes and proofs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sleepd.core.commands import Answer
from sleepd.core.life import State
from sleepd.core.record import ModelRecord
from sleepd.core.units import GIB
from sleepd.core.wishes import SleepAsked, WakeAsked
from sleepd.sim.scenario.cast import Cast, CastModel
from sleepd.sim.scenario.invariants import EVERY_TURN, check
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_types import HttpRequest

STRANGER = 9
AWAKE_GIB = 47
WAIT_S = 60.0


class Host:
    """A stage without acts: models of 47 GiB awake and 1 asleep, looked at every 2 s, that nobody naps."""

    def __init__(self, *versions: str, gpus: int = 1, wide: bool = False, apart: bool = False, **of_all: Any) -> None:
        """`wide`: each model on all GPUs; `apart`: each on one of its own."""
        of_each = {"weights_gib": 16, "kv_gib": 30, "fenced": True, **of_all}
        places = [tuple(range(gpus)) if wide else (i if apart else 0,) for i in range(len(versions))]
        models = tuple(CastModel(f"m{i}", v, places[i], **of_each) for i, v in enumerate(versions))
        cast = Cast(gpus, 512, models, nap_idle_s=10_000.0)
        self.told: list[str] = []
        self.stage = Stage(
            cast,
            "failure mode",
            lambda stage: check(stage, EVERY_TURN),
            lambda stage, note: self.told.append(note.text),
        )
        self.stage.blame(*self.stage.models)
        self.stage.start()
        self.run(8.0)

    @classmethod
    def of_units(cls, *versions: str, **of_all: Any) -> Host:
        """Every server is a unit that sleepd controls, and that ends as failed where its process does."""
        return cls(*versions, controlled=True, **{"kills_all": False, **of_all})

    def run(self, seconds: float) -> None:
        self.stage.time.run_until(self.stage.time.now() + seconds)

    def run_until(self, true: Callable[[], bool], every_s: float = 0.01) -> None:
        """Let time pass until something is true, looking so often. Fails where it never becomes so."""
        end_s = self.stage.time.now() + WAIT_S
        while not true():
            assert self.stage.time.now() < end_s, f"it did not come about: {self.told[-5:]}"
            self.run(every_s)

    def engine(self, name: str = "m0") -> Any:
        engine = self.stage.servers[name].engine
        assert engine is not None
        return engine

    def record(self, name: str = "m0") -> ModelRecord:
        return self.stage.daemon.world.models[name]

    def state(self, name: str = "m0") -> State:
        return self.record(name).life.state

    def failure(self, name: str = "m0") -> str:
        failure = self.record(name).failure
        return failure.code if failure else ""

    def begin(self, what: str, name: str = "m0", timeout_s: float = 600.0, level: int = 1) -> list[Answer]:
        """Ask, and return where the answer will be."""
        answers: list[Answer] = []
        ask = SleepAsked if what == "sleep" else WakeAsked
        last = (level, timeout_s) if what == "sleep" else (timeout_s,)
        self.stage.daemon.ask(lambda w: ask(w, name, "operator", *last), answers.append)
        return answers

    def sleep(self, name: str = "m0", level: int = 1) -> Answer:
        return self._settled(self.begin("sleep", name, level=level))

    def wake(self, name: str = "m0") -> Answer:
        return self._settled(self.begin("wake", name))

    def _settled(self, answers: list[Answer]) -> Answer:
        self.run(60.0)
        assert answers, "no answer"
        return answers[0]

    def complete(self, name: str = "m0", tokens: int = 8) -> list[Any]:
        """A direct request, past every gate; return where its answer will be."""
        answers: list[Any] = []
        body = {"model": name, "prompt": "hello", "max_tokens": tokens, "temperature": 0}
        self.stage.servers[name].request(HttpRequest("POST", "/v1/completions", (), body), 600.0, answers.append)
        return answers

    def calls(self, path: str, name: str = "m0") -> dict[str, int]:
        """How often this process was called so, by the class of the answer."""
        counted = self.engine(name).snapshot().http_requests
        return {status: count for (handler, _, status), count in counted.items() if handler == path}

    def take(self, gib: float) -> None:
        """A stranger holds this much of the first GPU from now on."""
        self.stage.host.gpus[0].held[STRANGER] = round(gib * GIB)

    def free_gib(self) -> float:
        return self.stage.host.gpus[0].free_bytes / GIB

    def held_gib(self, name: str = "m0") -> float:
        return self.stage.host.gpus[0].held.get(self.stage.servers[name].pid, 0) / GIB

    def serves_right(self, name: str = "m0") -> bool:
        snap = self.engine(name).snapshot()
        return self.stage.daemon.gates.of(name).open and snap.answers_right and not snap.is_paused
