"""Models and the GPUs they are on: whether the configuration is right, and who disturbs whose start."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sleepd.core.memory import placement, unplaced
from sleepd.core.model import Known
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpusSeen
from sleepd.core.world import World
from sleepd.doctor.findings import Finding, fail, ok, warn
from sleepd.doctor.units import UnitSettings


def judge_placement(world: World, gpus: GpusSeen) -> Iterator[Finding]:
    """Every model whose GPUs are known. `gpus` was read with processes."""
    index = {gpu.uuid: str(gpu.index) for gpu in gpus}
    on: dict[str, set[str]] = defaultdict(set)
    for name, record in world.models.items():
        for uuid in placement(record.spec, record.placed_on, gpus):
            on[uuid].add(name)
    for name in sorted(world.models):
        record = world.models[name]
        yield from _judge_gpus(record, gpus, index)
        beside = set[str]().union(*(names for names in on.values() if name in names)) - {name}
        if beside and record.facts is not None:
            yield _judge_start(record, beside)


def _judge_gpus(record: ModelRecord, gpus: GpusSeen, index: Mapping[str, str]) -> Iterator[Finding]:
    """What `gpus` says against the GPUs there are, and against those on which its processes hold memory; nothing where
    it says nothing, or nobody tells."""
    name = record.spec.name
    said = set(placement(record.spec, (), gpus))
    if gpus and record.spec.gpus and not said:
        yield fail("model.gpus", unplaced(record, gpus), name)
    pids = set(record.seen.value.pids) if isinstance(record.seen, Known) else set()
    held = {gpu.uuid for gpu in gpus if gpu.used_by_pid and pids & gpu.used_by_pid.keys()}
    if not held or not said:
        return
    is_on = _list(index[uuid] for uuid in held)
    if held == said:
        yield ok("model.gpus", f"it holds memory on GPU {is_on}", name)
    else:
        wrong = fail if held - said else warn
        yield wrong("model.gpus", f"gpus = {_list(record.spec.gpus)}, but it holds memory on GPU {is_on}", name)


def _judge_start(record: ModelRecord, neighbours: Iterable[str]) -> Finding:
    assert record.facts is not None
    name, beside = record.spec.name, _list(neighbours)
    if record.spec.unit:
        return ok("model.start", f"beside {beside}: sleepd keeps its GPUs from others while its unit starts", name)
    if record.facts.kv_cache_memory_bytes is not None:
        return ok("model.start", f"beside {beside}: the size of its KV cache is set, not measured", name)
    return warn("model.start", f"it measures free memory while {beside} may sleep or wake on its GPU", name)


def judge_boot(units: Sequence[UnitSettings], gpus_of: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """Units that systemd starts all at once at boot. `gpus_of`: by unit, the GPUs of its model, as far as known."""
    enabled = [one.unit for one in units if one.enabled]
    unread = [one.unit for one in units if one.missing]
    if not units:
        return
    on: dict[str, list[str]] = defaultdict(list)
    for unit in enabled:
        for gpu in gpus_of.get(unit, ()):
            on[gpu].append(unit)
    wrong = [
        f"{_list(names)} start together at boot, on one GPU"
        for names in dict.fromkeys(tuple(names) for names in on.values() if len(names) > 1)
    ]
    # One alone meets nobody, wherever it is.
    if (unplaced := [unit for unit in enabled if not gpus_of.get(unit)]) and len(enabled) > 1:
        wrong.append(f"on which GPU {_list(unplaced)} starts at boot is not known")
    if unread and len(enabled) + len(unread) > 1:
        wrong.append(f"whether {_list(unread)} starts at boot is not known")
    for found in wrong:
        yield warn("unit.boot", found)
    if not wrong and not unread:
        yield ok("unit.boot", "no two of one GPU do" if enabled else "none does")


def _list(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))
