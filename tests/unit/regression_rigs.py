"""Engines in unlucky hands, in virtual time, and what is done to them."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.model import ModelSpec, Settings
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked
from sleepd.sim import virtual_server
from sleepd.sim.vllm_types import HttpRequest, SimAnswer
from tests.property.virtual_rig import Rig

LARGE_KV_BYTES = 30 * GIB
"""With this much beside the weights, only one of two models fits awake."""
LONG_S = 600.0


class Meddled(Rig):
    """A rig on which strangers lay hands on engines that serve: its gates may be open until the next look."""

    def _check_gates(self) -> None:
        pass


def one(version: str = "0.32.0", *, rig: type[Rig] = Rig, max_level: int = 1) -> Rig:
    """One model, awake and long looked at."""
    made = rig(version, ("a",), max_level=max_level)
    made.boot("a")
    made.start()
    made.run(30)
    return made


def crowded() -> Rig:
    """a sleeps, b is awake and idle, and b has to sleep before a can wake."""
    made = Rig("0.32.0", ("a", "b"), kv_bytes=LARGE_KV_BYTES)
    made.boot("a")
    made.start()
    made.run(10)
    fall_asleep(made, "a")
    made.boot("b")
    made.run(30)
    return made


def fall_asleep(rig: Rig, name: str) -> None:
    answers = rig.sleep(name, 1)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE


def wake_up(rig: Rig, name: str) -> None:
    answers = rig.wake(name)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE


def until_victim_sleeps(rig: Rig) -> list[Answer]:
    """a is wanted, and b falls asleep to make room for it."""
    answers = rig.wake("a")
    assert rig.until(lambda: "b" in rig.daemon.world.tasks and rig.state("b") is State.FALLING_ASLEEP, 10.0)
    return answers


def wake_within(rig: Rig, name: str, timeout_s: float, *, wait: bool = True) -> list[Answer]:
    answers: list[Answer] = []
    rig.daemon.ask(lambda waiter: WakeAsked(waiter, name, "test", timeout_s, wait), answers.append)
    return answers


def by_hand(rig: Rig, name: str, path: str, query: tuple[tuple[str, str], ...] = ()) -> None:
    """Somebody else's call, carried out and answered."""
    answers: list[SimAnswer | None] = []
    rig.servers[name].request(HttpRequest("POST", path, query), LONG_S, answers.append)
    assert rig.until(lambda: bool(answers))


def configure(rig: Rig, models: Mapping[str, ModelSpec]) -> Settings:
    """These are the models from now on; a running daemon is to be told."""
    rig.daemon.settings = replace(rig.daemon.settings, models=dict(models))
    rig.names = tuple(models)
    return rig.daemon.settings


def hide_pids(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on nobody can tell which processes belong to a server."""
    real = virtual_server.seen_of
    monkeypatch.setattr(virtual_server, "seen_of", lambda *of: replace(real(*of), pids=()))


def calls(rig: Rig, name: str, path: str) -> int:
    requests = rig.engine(name).snapshot().http_requests
    return sum(count for (handler, _, _), count in requests.items() if handler == path)


def told(answers: list[Answer]) -> list[tuple[AnswerKind, str]]:
    return [(a.kind, a.problem) for a in answers]
