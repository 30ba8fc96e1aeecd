"""The daemon and its host, as the daemon sees them."""

from collections.abc import Iterator
from dataclasses import dataclass

from sleepd.core.host_room import backup_need, backup_size
from sleepd.core.life import LEVEL, State
from sleepd.core.model import Known, Missing, MissingReason, Mode, Reading
from sleepd.core.record import ModelRecord
from sleepd.core.seen import GpusSeen, HostSeen
from sleepd.core.units import GIB, MIB, Bytes, Seconds, format_size
from sleepd.core.world import World
from sleepd.doctor.findings import Finding, Verdict, fail, ok, warn

LOW_DISK_BYTES: Bytes = GIB
NO_DISK_BYTES: Bytes = 64 * MIB
JUMPED_S: Seconds = 5.0
HIGH_PRESSURE = 0.10
_NO_PROCESS = frozenset({State.STOPPED, State.STARTING, State.LOST})


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """The folder of the state database; `wrong`: why it cannot be looked at, or written; `unrecorded`: why the last
    records could not be."""

    folder: str
    free_bytes: Bytes = 0
    wrong: str = ""
    unrecorded: str = ""


def judge_daemon(world: World, disk: DiskSeen, jumped_s: Seconds) -> Iterator[Finding]:
    """`jumped_s`: by how much the wall clock went ahead of the monotonic one since the daemon began."""
    observes = world.settings.mode is Mode.OBSERVE
    yield ok("daemon.mode", "observe: rules only tell what they would do" if observes else "enforce: rules act")
    yield _judge_disk(disk)
    if abs(jumped_s) > JUMPED_S:
        yield warn("daemon.clock", f"it jumped by {jumped_s:+.0f} s, or the host was suspended")
    else:
        yield ok("daemon.clock", "it did not jump")


def _judge_disk(disk: DiskSeen) -> Finding:
    if disk.unrecorded:
        return fail("daemon.state", f"the last records were not taken: {disk.unrecorded}")
    if disk.wrong:
        return fail("daemon.state", f"{disk.folder}: {disk.wrong}")
    found = f"{format_size(disk.free_bytes)} free below {disk.folder}"
    judged = fail if disk.free_bytes < NO_DISK_BYTES else warn if disk.free_bytes < LOW_DISK_BYTES else ok
    return judged("daemon.state", found)


def judge_gpus(gpus: Reading[GpusSeen], *, declared: bool) -> Iterator[Finding]:
    """`gpus` was read with processes; `declared`: bytes are counted, not read, and there are none."""
    if isinstance(gpus, Missing):
        yield _missing("gpu.daemon", gpus)
        return
    free = tell_free(gpus.value)
    if not gpus.value:
        yield warn("gpu.daemon", "no GPU is listed: room on none is known")
    else:
        yield ok("gpu.daemon", f"declared; {free}" if declared else free)
    if declared or not gpus.value:
        return
    blind = [str(gpu.index) for gpu in gpus.value if gpu.used_by_pid is None]
    if blind:
        yield warn("gpu.processes", f"not on GPU {', '.join(blind)}")
    else:
        yield ok("gpu.processes", "on every GPU")


def tell_free(gpus: GpusSeen) -> str:
    return ", ".join(f"GPU {gpu.index}: {format_size(gpu.free_bytes)} free" for gpu in gpus)


def judge_host(world: World) -> Iterator[Finding]:
    """RAM, what all backups would take of it, and pressure."""
    host = world.host
    if isinstance(host, Missing):
        yield _missing("host.ram", host)
        return
    found = f"{format_size(host.value.available_bytes)} of {format_size(host.value.total_bytes)} available"
    yield ok("host.ram", found)
    limits = host.value.no_limits
    yield warn("host.limits", limits) if limits else ok("host.limits", "they are seen")
    yield from _judge_backups(world, host.value)
    pressure = host.value.pressure_some_avg10
    if pressure is None:
        yield warn("host.pressure", "the kernel does not tell it: rules on host_pressure_above never hold")
    else:
        judged = warn if pressure > HIGH_PRESSURE else ok
        yield judged("host.pressure", f"{pressure:.0%} of the last ten seconds")


def _judge_backups(world: World, host: HostSeen) -> Iterator[Finding]:
    """What is left of RAM, against what everybody else's backup takes: level 1 sleepers have theirs."""
    due = [r for r in world.models.values() if r.spec.max_level > 0 and LEVEL[r.life.state] != 1]
    if not due:
        yield ok("host.backups", "none is still to be made")
        return
    needs = [need for need in (_need(record, world) for record in due) if need is not None]
    left = host.available_bytes - world.settings.host_reserve_bytes
    unknown = len(due) - len(needs)
    aside = f"; of {unknown} more it is not known" if unknown else ""
    found = f"{format_size(sum(needs))} more for who is not asleep at level 1, {format_size(max(0, left))} left{aside}"
    yield (warn if sum(needs) > left or unknown else ok)("host.backups", found)


def _need(record: ModelRecord, world: World) -> Bytes | None:
    """What its process pinned is gone with it; the next one begins with nothing."""
    gpus = world.gpus.value if isinstance(world.gpus, Known) else None
    return (backup_size if record.life.state in _NO_PROCESS else backup_need)(record, gpus)


def _missing(check: str, reading: Missing) -> Finding:
    verdict = Verdict.WARN if reading.reason is MissingReason.NOT_YET else Verdict.FAIL
    return Finding(check, verdict, f"{reading.reason.value}: {reading.detail}" if reading.detail else reading.reason)
