"""What people do all the time: callers who wake a model and ask it something, and an operator."""

from collections.abc import Callable
from random import Random
from typing import Any

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.wishes import WakeAsked
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_types import HttpRequest, SimReply


def _draw_question(random: Random, cast: Cast) -> Arguments:
    leaves = random.random() < 0.1
    return {
        "timeout_s": random.choice((5.0, 60.0, 120.0)),
        "tokens": random.choice((8, 100, 400)),
        "leaves_after_s": random.uniform(0.0, 3.0) if leaves else None,
    }


def _ask(stage: Stage, name: str, drawn: Arguments) -> None:
    """A caller over the socket: wakes a model, enters its gate, asks one question, leaves."""
    daemon = stage.daemon
    if not daemon.alive:
        return
    epoch = daemon.tally.deaths
    timeout_s, tokens, leaves_after_s = float(drawn["timeout_s"] or 0.0), drawn["tokens"], drawn["leaves_after_s"]

    def answered(answer: Answer) -> None:
        gate = daemon.gates.of(name)
        if answer.kind is AnswerKind.DONE and gate.enter():
            ask_engine(stage, name, tokens, gate.leave)

    waiter = stage.ask(lambda w: WakeAsked(w, name, "user", timeout_s), timeout_s, answered)

    def leave() -> None:
        if daemon.alive and daemon.tally.deaths == epoch:
            stage.leave(waiter, name)

    if leaves_after_s is not None:
        stage.later(float(leaves_after_s), leave)


def ask_engine(stage: Stage, name: str, tokens: Any, answered: Callable[[], None]) -> None:
    """Send a request that the gate has let in; what comes back must be whole and right. `answered`: it is over."""
    body = {"model": name, "prompt": "hello", "max_tokens": tokens, "temperature": 0}
    account = stage.account
    deaths, began_s = len(account.deaths), stage.daemon.decided_s

    def take(answer: Any) -> None:
        answered()
        account.checked["a request that its gate let in is answered in full, and right"] += 1
        if isinstance(answer, SimReply) and answer.status == 200:
            account.served += 1
            choice = answer.body["choices"][0]
            cut, wrong = choice.get("finish_reason") == "abort", "!!!!" in str(choice)
            assert not cut or name in account.blamed, stage.say(f"{name} aborted a request: {choice}")
            assert not wrong or stage.is_doubted(name, began_s), stage.say(f"{name} served garbage: {choice}")
        elif name not in account.blamed and len(account.deaths) == deaths:
            raise AssertionError(stage.say(f"{name} refused a request that its gate let in: {answer}"))

    if stage.servers[name].engine is None:
        answered()
        return
    stage.servers[name].request(HttpRequest("POST", "/v1/completions", (), body), 600.0, take)


def _draw_level(random: Random, cast: Cast) -> Arguments:
    return {"level": random.choice((1, 1, 2))}


def _operate(stage: Stage, name: str, drawn: Arguments) -> None:
    """An operator: sleeps a model by hand, or resets a failed one."""
    if not stage.daemon.alive:
        return
    if stage.daemon.world.models[name].life.state is State.FAILED:
        stage.ask_reset(name)
    else:
        stage.ask_sleep(name, int(drawn["level"] or 1))


DEEDS = (
    Deed("ask", _ask, _draw_question, every_s=(4.0, 25.0)),
    Deed("operate", _operate, _draw_level, every_s=(30.0, 200.0)),
)
