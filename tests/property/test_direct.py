"""Requests past the gate, in virtual time: a sleeper that one waits on is woken, and nothing else wakes it."""

from typing import Any

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.seen import DirectSeen
from sleepd.sim.vllm_types import HttpRequest, SimReply

BODY = {"model": "a", "prompt": "hello", "max_tokens": 8, "temperature": 0}


def asleep(**more: Any) -> Rig:
    rig = Rig("0.32.0", ("a",), **more)
    rig.boot("a")
    rig.start()
    rig.run(20)
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE
    rig.run(60)
    return rig


def ask(rig: Rig, *, patience_s: float = 600.0) -> list[Any]:
    answers: list[Any] = []
    rig.servers["a"].ask_directly(HttpRequest("POST", "/v1/completions", (), BODY), patience_s, answers.append)
    return answers


def test_a_request_that_a_sleeper_holds_wakes_it_and_is_answered() -> None:
    rig = asleep()
    answers = ask(rig)
    rig.run(5)
    assert rig.state("a") is State.ASLEEP_L1, "it may still be an idle connection"
    assert rig.until(lambda: bool(answers), 12.0)
    assert isinstance(answers[0], SimReply)
    assert answers[0].status == 200
    assert rig.state("a") is State.AWAKE
    assert rig.record("a").reason == "awake: a request waits (a direct connection)"
    assert "direct" in [note.kind for note in rig.notes]


def test_a_client_that_gives_up_takes_its_wish_along() -> None:
    rig = asleep()
    ask(rig, patience_s=4.0)
    rig.run(60)
    assert rig.state("a") is State.ASLEEP_L1


def test_connections_on_which_something_moves_wake_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scrapers and health checks that come more often than the server closes idle connections."""
    rig = asleep()
    monkeypatch.setattr(type(rig.servers["a"]), "_see_connections", lambda server: DirectSeen(3, 2.0))
    rig.run(120)
    assert rig.state("a") is State.ASLEEP_L1


def test_where_it_is_not_wanted_nobody_is_woken() -> None:
    rig = asleep(spec_more={"wake_direct": False})
    ask(rig)
    rig.run(120)
    assert rig.state("a") is State.ASLEEP_L1


def test_where_there_is_no_room_it_is_told_and_not_hammered() -> None:
    rig = asleep()
    rig.host.gpus[0].held[9] = rig.host.gpus[0].free_bytes
    answers = ask(rig)
    rig.run(120)
    refused = [note for note in rig.notes if note.kind == "wake_refused"]
    assert 1 <= len(refused) <= 5
    rig.host.gpus[0].held.pop(9)
    assert rig.until(lambda: bool(answers), 60.0)
    assert rig.state("a") is State.AWAKE


def test_what_cannot_be_seen_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = asleep()
    monkeypatch.setattr(type(rig.servers["a"]), "_see_connections", lambda server: DirectSeen(missing="not permitted"))
    rig.run(60)
    told = [note.text for note in rig.notes if note.kind == "direct_missing"]
    assert told == ["a is not woken by direct connections: not permitted"]
