"""Which model a name means: a configured name beats `served_names`, and those beat what servers list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sleepd.core.model import ModelSpec
from sleepd.core.record import ModelRecord
from sleepd.core.world import World
from sleepd.gateway.errors import Refusal
from sleepd.gateway.lane import Access, Lane
from sleepd.gateway.routes import show

if TYPE_CHECKING:
    from sleepd.gateway.front import Front


class Directory:
    """The lanes of all models, and the names that lead to them. Follows the world; nobody needs to tell it."""

    def __init__(self, front: Front, access_of: Callable[[ModelSpec], Access]) -> None:
        self._front, self._access_of = front, access_of
        self.lanes: dict[str, Lane] = {}
        self._names: dict[str, Lane] = {}
        self._world: World | None = None
        self._known: tuple[object, ...] = ()

    def find(self, name: str) -> Lane:
        """Return the lane of the model that a request names. Raises Refusal."""
        if self._front.daemon.world is not self._world:
            self.follow()
        lane = self._names.get(name)
        if lane is None:
            shown = show(name.encode(errors="backslashreplace"))
            message = f"the model {shown} does not exist here; GET /v1/models lists those that do"
            raise Refusal(404, "model_not_found", message, param="model")
        return lane

    def follow(self, *, anew: bool = False) -> None:
        """Take the models and names of the current world. `anew`: keys are read again too."""
        world = self._front.daemon.world
        self._world = world
        known = (world.settings, *(record.facts for record in world.models.values()))
        if not anew and len(known) == len(self._known) and all(map(_is, known, self._known)):
            return
        self._known = known
        lanes: dict[str, Lane] = {}
        left: list[Lane] = []
        for name, record in world.models.items():
            lane = self.lanes.pop(name, None)
            access = self._access_of(record.spec) if lane is None or anew else lane.access
            if lane is not None and (lane.spec.url != record.spec.url or lane.access != access):
                left.append(lane)
                lane = None
            if lane is None:
                lane = Lane(self._front, record.spec, access)
            lane.spec = record.spec
            lanes[name] = lane
        gone, self.lanes = tuple(self.lanes.values()), lanes
        for lane in (*left, *gone):
            lane.close()
            if lane.name in lanes:
                lanes[lane.name].queue.take_over(lane.queue)
        self._names = {written: lanes[name] for written, name in names_of(world).items()}


def _is(one: object, other: object) -> bool:
    return one is other


def names_of(world: World) -> dict[str, str]:
    """Return every name a request may use, and the model it means. Of two models that list the same, the first."""
    names: dict[str, str] = {}
    for rank in (_configured, _extra, _listed):
        for model, record in world.models.items():
            for name in rank(record):
                names.setdefault(name, model)
    return names


def _configured(record: ModelRecord) -> tuple[str, ...]:
    return (record.spec.name,)


def _extra(record: ModelRecord) -> tuple[str, ...]:
    return record.spec.served_names


def _listed(record: ModelRecord) -> tuple[str, ...]:
    return (*record.facts.served_names, *record.facts.lora_names) if record.facts is not None else ()
