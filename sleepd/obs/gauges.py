"""What /metrics tells of one moment: samples made of the world as it is. A reading that is missing makes none."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain

from sleepd import __version__
from sleepd.core.ledger import promised_bytes
from sleepd.core.life import LEVEL, PUBLIC
from sleepd.core.model import Known, Now
from sleepd.core.record import ModelRecord, is_pinned
from sleepd.core.seen import GpuSeen
from sleepd.core.task import TaskKind
from sleepd.core.units import WallS
from sleepd.core.world import World, public_state
from sleepd.obs.tally import is_up

STATES = tuple(dict.fromkeys(PUBLIC.values()))
"""Every state of the contract."""
VERSION_LIMIT = 64
"""A server says itself which version it is: the one label that comes from outside."""


@dataclass(frozen=True, slots=True)
class Sample:
    family: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that gauges are made of. `in_flight` and `queued` are the gateway's, by model."""

    world: World
    now: Now
    started_wall_s: WallS
    reload_failed: bool
    ready: bool
    in_flight: Callable[[str], int]
    queued: Callable[[str], int]


def samples(moment: Moment) -> Iterator[Sample]:
    """Return every gauge there is a value for."""
    world = moment.world
    models = (_model(moment, name, record) for name, record in world.models.items())
    memory = (_memory(world, record, name) for name, record in world.models.items())
    return chain(_daemon(moment), _readings(world), *models, *memory, _gpus(world), _host(world), _tasks(world))


def _daemon(moment: Moment) -> Iterator[Sample]:
    yield Sample("sleepd_build_info", (__version__, platform.python_version()), 1)
    yield Sample("sleepd_start_timestamp_seconds", (), moment.started_wall_s)
    yield Sample("sleepd_ready", (), moment.ready)
    yield Sample("sleepd_config_last_reload_successful", (), not moment.reload_failed)


def _readings(world: World) -> Iterator[Sample]:
    yield Sample("sleepd_reading_up", ("gpus",), isinstance(world.gpus, Known))
    yield Sample("sleepd_reading_up", ("host",), isinstance(world.host, Known))


def _model(moment: Moment, name: str, record: ModelRecord) -> Iterator[Sample]:
    world, now = moment.world, moment.now
    state = public_state(world, name)
    for each in STATES:
        yield Sample("sleepd_model_state", (name, each), each == state)
    yield from _known(name, "level", LEVEL[record.life.state])
    yield from _known(name, "state_changed_timestamp_seconds", record.since_wall_s or None)
    up, seen = is_up(record), record.seen.value if isinstance(record.seen, Known) else None
    yield from _known(name, "up", up)
    version = record.facts.version[:VERSION_LIMIT] if record.facts else ""
    yield Sample("sleepd_model_info", (name, version, record.spec.unit, record.spec.mode.value), 1)
    in_flight, queued = moment.in_flight(name), moment.queued(name)
    if up is not None:
        used = in_flight or record.holds or (seen and (seen.running or seen.waiting))
        yield Sample("sleepd_model_idle_seconds", (name,), 0 if used else max(0.0, now.mono_s - record.last_active_s))
    yield from _known(name, "running_requests", seen.running if seen else None)
    yield from _known(name, "waiting_requests", seen.waiting if seen else None)
    yield Sample("sleepd_model_callers", (name,), len(record.waiters))
    yield Sample("sleepd_model_holds", (name,), len(record.holds))
    yield Sample("sleepd_model_pinned", (name,), is_pinned(record))
    yield Sample("sleepd_model_failures_in_a_row", (name,), record.attempts)
    yield Sample("sleepd_model_restart_wanted", (name,), bool(record.restart_wanted))
    yield Sample("sleepd_gateway_in_flight_requests", (name,), in_flight)
    yield Sample("sleepd_gateway_queued_requests", (name,), queued)


def _known(model: str, what: str, value: float | None) -> Iterator[Sample]:
    if value is not None:
        yield Sample(f"sleepd_model_{what}", (model,), value)


def _memory(world: World, record: ModelRecord, name: str) -> Iterator[Sample]:
    learned = record.learned
    level = LEVEL[record.life.state] or 1
    for gpu in world.gpus.value if isinstance(world.gpus, Known) else ():
        uuid, of = gpu.uuid, (name, str(gpu.index))
        need, asleep = learned.need(uuid, level), learned.asleep.get(uuid)
        awake = learned.awake.get(uuid)
        if awake is None and need is not None and asleep is not None:
            awake = asleep + need
        if need is None and is_on(record, gpu):
            need = record.spec.vram_bytes
        for what, value in (("awake", awake), ("asleep", asleep), ("need", need)):
            if value is not None:
                yield Sample(f"sleepd_model_vram_{what}_bytes", of, value)
        for slept, residuals in learned.residual.items():
            if residuals.get(uuid):
                yield Sample("sleepd_model_vram_residual_bytes", (*of, slept), residuals[uuid][-1])
    if record.footprint.pinned_bytes:
        yield Sample("sleepd_model_host_backup_bytes", (name,), record.footprint.pinned_bytes)


def is_on(record: ModelRecord, gpu: GpuSeen) -> bool:
    """Whether the model was seen on this GPU, or is configured for it."""
    return gpu.uuid in record.placed_on or gpu.uuid in record.spec.gpus or str(gpu.index) in record.spec.gpus


def _gpus(world: World) -> Iterator[Sample]:
    if not isinstance(world.gpus, Known):
        return
    promised = promised_bytes(world.models, world.tasks, world.reservations, world.gpus.value, but="")
    for gpu in world.gpus.value:
        of = (str(gpu.index),)
        yield Sample("sleepd_gpu_info", (*of, gpu.uuid), 1)
        yield Sample("sleepd_gpu_total_bytes", of, gpu.total_bytes)
        yield Sample("sleepd_gpu_free_bytes", of, gpu.free_bytes)
        yield Sample("sleepd_gpu_margin_bytes", of, world.settings.gpu_margin_bytes)
        yield Sample("sleepd_gpu_reserved_bytes", of, promised.get(gpu.uuid, 0))


def _host(world: World) -> Iterator[Sample]:
    yield Sample("sleepd_host_reserve_bytes", (), world.settings.host_reserve_bytes)
    yield Sample("sleepd_host_backups_bytes", (), sum(r.footprint.pinned_bytes for r in world.models.values()))
    if isinstance(world.host, Known):
        host = world.host.value
        yield Sample("sleepd_host_total_bytes", (), host.total_bytes)
        yield Sample("sleepd_host_available_bytes", (), host.available_bytes)
        if host.pressure_some_avg10 is not None:
            yield Sample("sleepd_host_pressure_ratio", (), host.pressure_some_avg10)


def _tasks(world: World) -> Iterator[Sample]:
    kinds = [task.kind for task in world.tasks.values()]
    for kind in TaskKind:
        yield Sample("sleepd_transitions_running", (kind.value,), kinds.count(kind))
