"""Carries out one step of one plan: drives the core's procedure with real calls and readings."""

import asyncio
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
    ReadGpus,
)
from sleepd.core.commands import StepOrder
from sleepd.core.events import StepEnded
from sleepd.core.memory import widen
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.procedure import perform
from sleepd.core.seen import Span
from sleepd.core.unit import JobEnd, Ordered, UnitSeen
from sleepd.core.units import Seconds
from sleepd.ports import Clock, Gpus, HostMemory, Units, Vllm

NO_UNITS = "units are not controlled here"
WATCH_EVERY_S = 0.1
"""How often free GPU memory is read while a call moves it; no process lists, which would stall the GPU."""


class Runner:
    """Runs steps. Reports are events like any other; it decides nothing."""

    def __init__(self, clock: Clock, gpus: Gpus, host: HostMemory, units: Units | None = None) -> None:
        self._clock, self._gpus, self._host, self._units = clock, gpus, host, units

    async def run(self, order: StepOrder, server: Vllm) -> StepEnded:
        """Return how the step ended. Awaits the procedure's calls, each with a time limit of its own."""
        procedure = perform(order, self._clock.now().mono_s)
        try:
            ask = next(procedure)
            while True:
                value = await self._answer(ask, server)
                ask = procedure.send(Got(value, self._clock.now().mono_s))
        except StopIteration as stop:
            end, evidence = stop.value
            return StepEnded(order.model, order.task_id, order.cursor, end, evidence)

    async def _answer(self, ask: Ask, server: Vllm) -> Any:
        if isinstance(ask, Call):
            return await server.call(ask.verb, timeout_s=ask.timeout_s, mode_parameter=ask.mode_parameter)
        if isinstance(ask, CallAndWatch):
            return await self._call_and_watch(ask, server)
        if isinstance(ask, Look):
            return await server.look(
                ask_sleeping=ask.ask_sleeping, timeout_s=ask.timeout_s, fence=ask.fence, adapters=ask.adapters
            )
        if isinstance(ask, Complete):
            return await server.complete(
                ask.prompt, api_name=ask.api_name, asks_at=ask.asks_at, timeout_s=ask.timeout_s
            )
        if isinstance(ask, Checksums):
            return await server.checksums(timeout_s=ask.timeout_s)
        if isinstance(ask, LookAndReadGpus):
            looking = server.look(ask_sleeping=True, timeout_s=ask.timeout_s, counters=ask.counters)
            return await asyncio.gather(looking, self._gpus.read(processes=True))
        if isinstance(ask, LookUnit):
            return await look_at_unit(self._units, ask.unit, ask.timeout_s)
        if isinstance(ask, OrderUnit):
            if self._units is None:
                return Ordered(JobEnd.UNREACHABLE, NO_UNITS)
            return await self._units.order(ask.unit, ask.order, timeout_s=ask.timeout_s)
        if isinstance(ask, ReadGpus):
            return await self._gpus.read(processes=True)
        if isinstance(ask, Pause):
            await self._clock.sleep(ask.seconds)
            return None
        return await self._host.read()

    async def _call_and_watch(self, ask: CallAndWatch, server: Vllm) -> Any:
        """The call's result, and by GPU the least and most free bytes meanwhile. The watch delays nothing: it is left
        the moment the call ends, however long NVML takes."""
        span: dict[str, Span] = {}
        watching = asyncio.create_task(self._watch(span))
        try:
            result = await server.call(ask.verb, timeout_s=ask.timeout_s, mode_parameter=ask.mode_parameter)
        finally:
            await cancelled(watching)
        return result, span

    async def _watch(self, span: dict[str, Span]) -> None:
        while True:
            await self._clock.sleep(WATCH_EVERY_S)
            reading = await self._gpus.read(processes=False)
            if isinstance(reading, Known):
                widen(span, reading.value)


async def look_at_unit(units: Units | None, unit: str, timeout_s: Seconds) -> Reading[UnitSeen]:
    """Return how the unit is; Missing too where there is nothing that controls units."""
    if units is None:
        return Missing(MissingReason.NO_MANAGER, NO_UNITS)
    return await units.look(unit, timeout_s=timeout_s)


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it ended, whatever it ended with."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
