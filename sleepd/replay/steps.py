"""Steps of plans on simulated servers: the core's own procedures, with nothing between two calls but small delays."""

from collections.abc import Callable
from typing import Any

from sleepd.core.asking import (
    Ask,
    Call,
    CallAndWatch,
    Checksums,
    Complete,
    Got,
    Look,
    LookAndReadGpus,
    Pause,
    Procedure,
    ReadGpus,
    ReadHost,
)
from sleepd.core.calls import Answered, ProbeAnswer
from sleepd.core.commands import StepOrder
from sleepd.core.events import Evidence, StepEnd, StepEnded
from sleepd.core.model import Known
from sleepd.core.procedure import perform
from sleepd.core.seen import GpusSeen, HostSeen
from sleepd.core.units import MonotonicS, Seconds
from sleepd.replay.servers import KNOWN_ANSWER, QUESTION, Server

LOOK_S: Seconds = 0.002
NVML_S: Seconds = 0.005
RAM_S: Seconds = 0.0005


class Steps:
    """Drives the procedures. `at(moment_s, then)` calls back then; `moved(server)` is told when bytes did.

    Between two calls of a step lie milliseconds of looking: they pass, but what is seen in them is how it was when the
    call ended. So a step costs one callback a call, and another for its end.
    """

    def __init__(
        self,
        servers: dict[str, Server],
        *,
        gpus: Callable[[], GpusSeen],
        ram: Callable[[], HostSeen],
        at: Callable[[MonotonicS, Callable[[], None]], None],
        moved: Callable[[Server], None],
        submit: Callable[[StepEnded], None],
    ) -> None:
        self._servers, self._gpus, self._ram = servers, gpus, ram
        self._at, self._moved, self._submit = at, moved, submit
        self._out: dict[str, Procedure] = {}

    def run(self, order: StepOrder, now_s: MonotonicS) -> None:
        """The step is under way; how it ended is submitted."""
        procedure = perform(order, now_s)
        self._out[order.model] = procedure
        self._drive(order, procedure, next(procedure), now_s)

    def leave(self, model: str, task_id: int, cursor: int, now_s: MonotonicS) -> None:
        """The step has ended without an answer, if it was still under way; one that comes is not heard."""
        if self._out.pop(model, None) is not None:
            evidence = Evidence(None, "not waited for any longer", now_s, now_s)
            in_flight = self._servers[model].in_flight
            self._submit(StepEnded(model, task_id, cursor, StepEnd.UNANSWERED, evidence, in_flight))

    def _drive(self, order: StepOrder, procedure: Procedure, ask: Ask, at_s: MonotonicS) -> None:
        """Answer what is asked until a call is out; its end goes on from there."""
        server = self._servers[order.model]
        try:
            while not isinstance(ask, Call | CallAndWatch | Complete):
                value, at_s = self._look(server, ask, at_s)
                ask = procedure.send(Got(value, at_s))
        except StopIteration as stop:
            self._end(order, procedure, at_s, *stop.value)
            return
        called = ask
        verb = order.step.verb if isinstance(ask, Complete) else ask.verb
        server.begin_call(verb)
        self._moved(server)
        end_s = at_s + server.call_s(verb)

        def ended() -> None:
            server.end_call(verb)
            self._moved(server)
            if self._out.get(order.model) is not procedure:
                return
            try:
                following = procedure.send(Got(_result(called, server), end_s))
            except StopIteration as stop:
                self._end(order, procedure, end_s, *stop.value)
                return
            self._drive(order, procedure, following, end_s)

        self._at(end_s, ended)

    def _look(self, server: Server, ask: Ask, at_s: MonotonicS) -> tuple[Any, MonotonicS]:
        """What a look shows, and when it was over."""
        if isinstance(ask, Pause):
            return None, at_s + ask.seconds
        if isinstance(ask, ReadHost):
            return Known(self._ram(), at_s, at_s + RAM_S), at_s + RAM_S
        if isinstance(ask, ReadGpus):
            return Known(self._gpus(), at_s, at_s + NVML_S), at_s + NVML_S
        if isinstance(ask, LookAndReadGpus):
            seen = Known(server.see(ask_sleeping=True), at_s, at_s + LOOK_S)
            return (seen, Known(self._gpus(), at_s, at_s + NVML_S)), at_s + NVML_S
        if isinstance(ask, Look):
            return Known(server.see(ask_sleeping=ask.ask_sleeping), at_s, at_s + LOOK_S), at_s + LOOK_S
        assert isinstance(ask, Checksums), f"a simulated server is not asked for {type(ask).__name__}"
        return "", at_s + LOOK_S

    def _end(self, order: StepOrder, procedure: Procedure, at_s: MonotonicS, end: StepEnd, evidence: Evidence) -> None:
        def submit() -> None:
            if self._out.get(order.model) is procedure:
                del self._out[order.model]
                in_flight = self._servers[order.model].in_flight
                self._submit(StepEnded(order.model, order.task_id, order.cursor, end, evidence, in_flight))

        self._at(at_s, submit)


def _result(asked: Call | CallAndWatch | Complete, server: Server) -> Any:
    if isinstance(asked, Complete):
        server.count(QUESTION.prompt_tokens, QUESTION.generation_tokens)
        return ProbeAnswer(KNOWN_ANSWER, KNOWN_ANSWER, spent=QUESTION)
    answered = Answered(200)
    return (answered, {}) if isinstance(asked, CallAndWatch) else answered
