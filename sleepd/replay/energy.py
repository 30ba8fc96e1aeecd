"""What GPUs draw in a replay, by declared watts, and whose it is: the models' shares and nobody's make up the whole."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sleepd.core.units import Bytes, Seconds
from sleepd.replay.hosts import Watts


@dataclass(slots=True)
class _Load:
    """Who is on one GPU, since the last change."""

    awake: dict[str, Bytes] = field(default_factory=dict)
    busy: dict[str, None] = field(default_factory=dict)
    since_s: Seconds = 0.0


class Energy:
    """Joules from `from_s` on.

    While a model is awake on a GPU, what that GPU draws without serving is shared by the memory that awake models hold
    on it; what it draws beyond that while it serves, evenly by those that serve. While none is awake or serves, it is
    nobody's.
    """

    def __init__(self, watts: Watts, uuids: Iterable[str], from_s: Seconds) -> None:
        self.of_model_j: dict[str, float] = {}
        self.of_nobody_j = 0.0
        self._watts, self._from_s = watts, from_s
        self._loads = {uuid: _Load() for uuid in uuids}

    @property
    def total_j(self) -> float:
        return self.of_nobody_j + sum(self.of_model_j.values())

    def hold(self, model: str, uuids: Iterable[str], held_bytes: Bytes, now_s: Seconds) -> None:
        """The model holds so much of each of these GPUs from now on."""
        for load in self._until(uuids, now_s):
            load.awake[model] = max(1, held_bytes)  # a description may say 0

    def release(self, model: str, uuids: Iterable[str], now_s: Seconds) -> None:
        for load in self._until(uuids, now_s):
            del load.awake[model]

    def serve(self, model: str, uuids: Iterable[str], now_s: Seconds) -> None:
        for load in self._until(uuids, now_s):
            load.busy[model] = None

    def rest(self, model: str, uuids: Iterable[str], now_s: Seconds) -> None:
        for load in self._until(uuids, now_s):
            del load.busy[model]

    def close(self, now_s: Seconds) -> None:
        """The replay is over: everything is counted until now."""
        for _ in self._until(self._loads, now_s):
            pass

    def _until(self, uuids: Iterable[str], now_s: Seconds) -> Iterable[_Load]:
        """The loads of these GPUs, each counted until now."""
        for uuid in uuids:
            load = self._loads[uuid]
            lasted_s = now_s - max(load.since_s, self._from_s)
            if lasted_s > 0:
                self._share(load, lasted_s)
            load.since_s = now_s
            yield load

    def _share(self, load: _Load, lasted_s: Seconds) -> None:
        # Requests that a sleep did not wait for may still run.
        holders = load.awake or dict.fromkeys(load.busy, 1)
        if not holders:
            self.of_nobody_j += lasted_s * self._watts.asleep
            return
        a_byte = lasted_s * self._watts.awake / sum(holders.values())
        for model, held_bytes in holders.items():
            self._add(model, a_byte * held_bytes)
        for model in load.busy:
            self._add(model, lasted_s * (self._watts.busy - self._watts.awake) / len(load.busy))

    def _add(self, model: str, joules: float) -> None:
        self.of_model_j[model] = self.of_model_j.get(model, 0.0) + joules
