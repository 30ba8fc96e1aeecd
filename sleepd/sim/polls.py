"""Polls in virtual time: models, units, GPUs and host RAM are looked at at the daemon's cadence, and when asked to."""

from collections.abc import Callable
from typing import Any

from sleepd.core.commands import LookNow
from sleepd.core.direct import looks_at_connections
from sleepd.core.events import Event, GpusLooked, HostLooked, ModelLooked, UnitLooked
from sleepd.core.machine import asks_sleeping, is_looked_at, poll_after_s, wants_processes
from sleepd.core.model import Settings
from sleepd.core.unit_sightings import unit_after_s
from sleepd.core.units import Seconds
from sleepd.core.world import World
from sleepd.engine.gate import Gates
from sleepd.sim.surroundings import NVML_S, Surroundings


class Polls:
    """The polls of one life of the virtual daemon. What they see is submitted; after `end` nothing is."""

    def __init__(
        self,
        around: Surroundings,
        settings: Settings,
        gates: Gates,
        world: Callable[[], World],
        submit: Callable[[Event], None],
    ) -> None:
        self._around, self._settings, self._gates = around, settings, gates
        self._world, self._submit = world, submit
        self._nvml_busy = False
        self._ended = False

    def begin(self) -> None:
        """Everything is looked at, and from then on at its cadence."""
        for name in self._around.servers:
            self._poll_model(name)
            models = self._world().models
            if name in models and models[name].spec.unit:
                self._poll_unit(name)
        self._poll_gpus()

    def end(self) -> None:
        """Looks that are out go on at the servers, their readings reach nobody."""
        self._ended = True

    def look_now(self, command: LookNow) -> None:
        """What the command names is looked at in a moment, out of turn."""
        name = command.model
        if command.gpus and not self._nvml_busy:
            self._around.time.call_later(0.05, self._read_gpus)
        if command.unit:
            self._around.time.call_later(0.05, lambda: self._look_at_unit(command.unit))
        if name:
            self._around.time.call_later(0.05, lambda: self._look_out_of_turn(name))

    def _look_out_of_turn(self, name: str) -> None:
        """As the daemon's observer: a server under a step of ours is spared this look as well."""
        if not self._ended and is_looked_at(self._world(), name):
            ask = asks_sleeping(self._world().models[name])
            self._around.servers[name].look(ask, 5.0, lambda reading: self._looked(name, reading))

    def _poll_model(self, name: str) -> None:
        if self._ended or name not in self._world().models:
            return
        record, server, asked_s = self._world().models[name], self._around.servers[name], self._around.time.now()

        def then(reading: Any) -> None:
            if not self._ended:
                self._looked(name, reading)
                self._await_poll(name, asked_s)

        if not is_looked_at(self._world(), name):
            self._await_poll(name, asked_s)
        else:
            server.look(asks_sleeping(record), 5.0, then, ask_connections=looks_at_connections(record))

    def _await_poll(self, name: str, asked_s: Seconds) -> None:
        """As the daemon's observer: what woke meanwhile is not waited for as long as the sleeper it was."""
        if self._ended or name not in self._world().models:
            return
        left_s = asked_s + poll_after_s(self._world().models[name], self._settings) - self._around.time.now()
        if left_s <= 0:
            self._poll_model(name)
        else:
            within_s = min(left_s, self._settings.poll_every_s)
            self._around.time.call_later(within_s, lambda: self._await_poll(name, asked_s))

    def _looked(self, name: str, reading: Any) -> None:
        if not self._ended:
            gate = self._gates.of(name)
            self._submit(ModelLooked(name, self._around.dated(reading), gate.in_flight, gate.entered))

    def _poll_unit(self, name: str) -> None:
        if not self._ended and name in self._world().models:
            self._look_at_unit(name)
            self._await_unit(name, self._around.mono_s())

    def _await_unit(self, name: str, asked_s: Seconds) -> None:
        """As the daemon's observer: how soon follows from what the unit is by then."""
        if self._ended or name not in self._world().models:
            return
        left_s = asked_s + unit_after_s(self._world().models[name], self._settings) - self._around.mono_s()
        if left_s <= 1e-6:
            self._poll_unit(name)
        else:
            within_s = min(left_s, self._settings.poll_every_s)
            self._around.time.call_later(within_s, lambda: self._await_unit(name, asked_s))

    def _look_at_unit(self, name: str) -> None:
        def then(reading: Any) -> None:
            if not self._ended:
                self._submit(UnitLooked(name, reading))

        if not self._ended and name in self._world().models:
            self._around.look_at_unit(self._world().models[name].spec.unit, then)

    def _poll_gpus(self) -> None:
        if not self._ended:
            self._read_gpus()
            self._around.time.call_later(self._settings.poll_every_s, self._poll_gpus)

    def _read_gpus(self) -> None:
        if self._ended or self._nvml_busy:
            return
        self._nvml_busy = True
        asked_s, processes = self._around.mono_s(), wants_processes(self._world())

        def done() -> None:
            if not self._ended:
                self._nvml_busy = False
                # Host RAM is read beside: one turn for both keeps the simulation cheap.
                self._submit(HostLooked(self._around.see_ram()))
                self._submit(GpusLooked(self._around.see_gpus(asked_s, processes=processes), processes))

        self._around.time.call_later(NVML_S, done)
