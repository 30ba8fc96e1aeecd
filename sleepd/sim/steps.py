"""Steps of plans in virtual time: drives the core's procedures with the simulated servers, units and host."""

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
    LookUnit,
    OrderUnit,
    Pause,
    Procedure,
    ReadGpus,
)
from sleepd.core.commands import LeaveStep, StepOrder
from sleepd.core.events import Event, Evidence, StepEnd, StepEnded
from sleepd.core.memory import widen
from sleepd.core.procedure import perform
from sleepd.core.seen import Span
from sleepd.engine.gate import Gates
from sleepd.sim.surroundings import NVML_S, Surroundings
from sleepd.sim.virtual_server import VirtualServer

WATCH_EVERY_S = 0.5


class Steps:
    """The steps of one life of the virtual daemon. Each that ends is submitted once; after `end` none is."""

    def __init__(self, around: Surroundings, gates: Gates, submit: Callable[[Event], None]) -> None:
        self._around, self._gates, self._submit = around, gates, submit
        self._procedures: dict[str, tuple[int, int, Procedure]] = {}
        self._ended = False

    def end(self) -> None:
        """As by SIGKILL: calls that are out go on at the servers, their answers reach nobody."""
        self._ended = True

    def run(self, order: StepOrder) -> None:
        """The step is under way; how it ended is submitted."""
        procedure = perform(order, self._around.mono_s())
        self._procedures[order.model] = (order.task_id, order.cursor, procedure)
        self._drive(order, procedure, next(procedure))

    def leave(self, left: LeaveStep) -> None:
        """The step has ended without an answer, if it was still under way; one that comes is not heard."""
        found = self._procedures.get(left.model)
        if found is None or found[:2] != (left.task_id, left.cursor):
            return
        del self._procedures[left.model]
        evidence = Evidence(None, "not waited for any longer", self._around.mono_s(), self._around.mono_s())
        in_flight = self._gates.of(left.model).in_flight
        self._submit(StepEnded(left.model, left.task_id, left.cursor, StepEnd.UNANSWERED, evidence, in_flight))

    def _drive(self, order: StepOrder, procedure: Procedure, ask: Ask) -> None:
        def then(value: Any) -> None:
            if self._ended or self._procedures.get(order.model, (0, 0, None))[2] is not procedure:
                return
            try:
                following = procedure.send(Got(value, self._around.mono_s()))
            except StopIteration as stop:
                end, evidence = stop.value
                del self._procedures[order.model]
                in_flight = self._gates.of(order.model).in_flight
                self._submit(StepEnded(order.model, order.task_id, order.cursor, end, evidence, in_flight))
                return
            self._drive(order, procedure, following)

        server = self._around.servers[order.model]
        if isinstance(ask, Call):
            server.call(ask.verb, ask.timeout_s, ask.mode_parameter, then)
        elif isinstance(ask, CallAndWatch):
            self._call_and_watch(ask, server, then)
        elif isinstance(ask, Look):
            dated = self._around.dated
            server.look(
                ask.ask_sleeping,
                ask.timeout_s,
                lambda reading: then(dated(reading)),
                fence=ask.fence,
                adapters=ask.adapters,
            )
        elif isinstance(ask, Complete):
            server.complete(ask.prompt, ask.timeout_s, then, api_name=ask.api_name, asks_at=ask.asks_at)
        elif isinstance(ask, Checksums):
            server.checksums(ask.timeout_s, then)
        elif isinstance(ask, LookAndReadGpus):
            both_s = self._around.mono_s()

            def read_gpus(seen: Any) -> None:
                gpus = self._around.see_gpus(both_s, processes=True)
                self._around.time.call_later(NVML_S, lambda: then((self._around.dated(seen), gpus)))

            server.look(True, ask.timeout_s, read_gpus, counters=ask.counters)
        elif isinstance(ask, ReadGpus):
            asked_s = self._around.mono_s()
            self._around.time.call_later(NVML_S, lambda: then(self._around.see_gpus(asked_s, processes=True)))
        elif isinstance(ask, LookUnit):
            self._around.look_at_unit(ask.unit, then)
        elif isinstance(ask, OrderUnit):
            assert self._around.manager is not None
            self._around.manager.order(ask.unit, ask.order, ask.timeout_s, then)
        elif isinstance(ask, Pause):
            self._around.time.call_later(ask.seconds, lambda: then(None))
        else:
            then(self._around.see_ram())

    def _call_and_watch(self, ask: CallAndWatch, server: VirtualServer, then: Callable[[Any], None]) -> None:
        """Free memory is looked at while the call is out, more rarely than the daemon does: it costs events."""
        span: dict[str, Span] = {}
        out = True

        def watch() -> None:
            if out:
                if not self._around.upsets.nvml_missing:
                    widen(span, self._around.host.see_gpus(processes=False))
                self._around.time.call_later(WATCH_EVERY_S, watch)

        def ended(result: Any) -> None:
            nonlocal out
            out = False
            then((result, span))

        self._around.time.call_later(WATCH_EVERY_S, watch)
        server.call(ask.verb, ask.timeout_s, ask.mode_parameter, ended)
