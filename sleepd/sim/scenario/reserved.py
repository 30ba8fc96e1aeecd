"""What must hold of reservations whatever happens, after every turn (invariants.py)."""

from collections.abc import Mapping

from sleepd.core.ledger import promised_bytes
from sleepd.core.life import State
from sleepd.core.model import Known
from sleepd.core.reservation import Reservation
from sleepd.core.task import TaskKind
from sleepd.core.units import Bytes
from sleepd.sim.scenario.stage import ANSWERED_LATE_S, Stage


def no_wake_takes_what_is_reserved(stage: Stage) -> None:
    """no wake begins with bytes that are reserved for a job"""
    world = stage.daemon.world
    for name, task in world.tasks.items():
        record = world.models[name]
        if task.kind is not TaskKind.WAKE or record.life.state not in (State.WAKING, State.WAKING_WEIGHTS):
            continue
        if (task.id, task.attempt) in stage.account.begun or name in stage.account.blamed:
            continue
        stage.account.begun.add((task.id, task.attempt))
        if task.attempt or not isinstance(world.gpus, Known) or task.called_s != stage.daemon.now().mono_s:
            continue
        # In the turn in which its call leaves: everything that was promised still fits into what is free.
        promised = promised_bytes(world.models, world.tasks, world.reservations, world.gpus.value, but="")
        for gpu in world.gpus.value:
            if gpu.uuid in task.claims:
                over = promised.get(gpu.uuid, 0) > gpu.free_bytes and _is_reserved(stage, gpu.uuid)
                assert not over, stage.say(f"{name} wakes with bytes that are reserved on {gpu.uuid}")


def _is_reserved(stage: Stage, uuid: str) -> bool:
    return any(uuid in r.uuids for r in stage.daemon.world.reservations.values())


def reservations_end(stage: Stage) -> None:
    """no reservation outlives its time or its stream, and none waits longer than its caller"""
    now_s = stage.daemon.now().mono_s
    for kept in stage.daemon.world.reservations.values():
        end_s = kept.until_s if kept.granted else kept.deadline_s
        late = end_s is not None and now_s > end_s + ANSWERED_LATE_S
        assert not late, stage.say(f"reservation {kept.id} should have ended at {end_s}")
        endless = kept.granted and end_s is None and kept.stream is None
        assert not endless, stage.say(f"reservation {kept.id} has neither an end nor a stream")


def models_leave_what_is_reserved(stage: Stage) -> None:
    """what models hold on a GPU and what is granted to jobs there fit into it together, from each grant to its end"""
    granted = [r for r in stage.daemon.world.reservations.values() if r.granted]
    _forget_who_sleeps(stage)
    for gpu in stage.host.gpus:
        reserved = sum(r.bytes_per_gpu for r in granted if gpu.uuid in r.uuids)
        if not reserved:
            continue
        # A model that somebody else moved or started, or whose server died under its call, may hold what it likes.
        pids = {s.pid for name, s in stage.servers.items() if name not in stage.account.blamed}
        held = sum(bytes_ for pid, bytes_ in gpu.held.items() if pid in pids - stage.account.uninvited)
        fits = held + reserved <= gpu.total_bytes
        assert fits, stage.say(f"models hold {held} bytes of {gpu.uuid}, where {reserved} are granted to jobs")


def _forget_who_sleeps(stage: Stage) -> None:
    """Whoever sleeps has given back what it took unasked; it wakes by the daemon's leave alone."""
    engines = {server.pid: server.engine for server in stage.servers.values()}
    for pid in list(stage.account.uninvited):
        engine = engines.get(pid)
        if engine is None or engine.snapshot().sleeping_tags:
            stage.account.uninvited.discard(pid)


def grants_are_backed(stage: Stage) -> None:
    """bytes that are granted are really free in that moment, where nobody else took them since they were read"""
    world, account = stage.daemon.world, stage.account
    granted = {(r.id, r.since_wall_s): r for r in world.reservations.values() if r.granted}
    if account.lives_judged != stage.daemon.tally.deaths:
        account.lives_judged = stage.daemon.tally.deaths
        account.granted.update(granted)
    for key in granted.keys() - account.granted:
        if isinstance(world.gpus, Known):
            account.granted.add(key)
            for seen in world.gpus.value:
                if seen.uuid in granted[key].uuids:
                    _assert_free(stage, granted[key], seen.uuid, seen.used_by_pid)


def _assert_free(stage: Stage, kept: Reservation, uuid: str, used: Mapping[int, Bytes] | None) -> None:
    """Servers that were started since, behind a slow disk say, are not ours to keep out."""
    gpu = next(gpu for gpu in stage.host.gpus if gpu.uuid == uuid)
    ours = {server.pid for server in stage.servers.values()}
    ours &= ours if used is None else used.keys()
    since = sum(max(0, held - (used or {}).get(pid, 0)) for pid, held in gpu.held.items() if pid not in ours)
    free = gpu.free_bytes + since
    assert free >= kept.bytes_per_gpu, stage.say(
        f"{kept.id} was granted {kept.bytes_per_gpu} of {free} bytes of {uuid}"
    )
