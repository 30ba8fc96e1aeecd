"""How a step on a server's unit is carried out and judged, without I/O; driven as those of procedure.py.

Every step may be carried out again after a crash at any point: a unit that is over is not stopped, one that runs is not
started anew, and another start of the unit than the one to be ended is left alone.
"""

from sleepd.core.asking import Look, LookUnit, OrderUnit, Pause, Procedure, ReadGpus
from sleepd.core.commands import StepOrder
from sleepd.core.events import Evidence, StepEnd
from sleepd.core.frozen import replace
from sleepd.core.model import Known, Reading
from sleepd.core.seen import GpusSeen, ModelSeen
from sleepd.core.unit import JobEnd, Ordered, UnitOrder, UnitSeen
from sleepd.core.units import MonotonicS, Seconds

LOOK_S: Seconds = 10.0
STOPS = 3
"""How often a unit that goes on, or comes back by itself, is told anew before it counts as not to be stopped."""
KILLED_S: Seconds = 10.0
"""How long what was killed may still be seen in its cgroup."""
AGAIN_S: Seconds = 0.5
ASK_HEALTH_S: Seconds = 1.0


def end_unit(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """DONE: the unit is over, its cgroup is empty, and NVML shows that its processes hold nothing any more."""
    evidence = Evidence(None, "", started_s, started_s)
    pids = set(order.pids)
    deadline_s, stops = started_s + order.timeout_s, 0
    while stops <= STOPS:
        got = yield LookUnit(order.unit, LOOK_S)
        seen: Reading[UnitSeen] = got.value
        evidence = replace(evidence, answered_s=got.mono_s, unit=seen)
        if not isinstance(seen, Known):
            why = f"{seen.reason}: {seen.detail}".rstrip(": ")
            if not stops:
                nothing_done = Ordered(JobEnd.UNREACHABLE, why)
                return StepEnd.UNANSWERED, replace(evidence, detail=why, ordered=nothing_done)
            if got.mono_s >= deadline_s:
                return StepEnd.UNANSWERED, replace(evidence, detail=why)
            yield Pause(AGAIN_S)
            continue
        unit = seen.value
        if not stops:
            evidence = replace(evidence, stopped_before=unit.is_stopped_on_purpose)
        if _ran_since(order, unit) and not unit.is_over:
            return StepEnd.DONE, replace(evidence, detail="another process runs in its place already")
        pids |= {*unit.pids, *((unit.main_pid,) if unit.main_pid else ())}
        if unit.is_over:
            return (yield from _clear(order, evidence, unit, pids, deadline_s))
        got = yield OrderUnit(order.unit, UnitOrder.STOP, order.timeout_s)
        ordered: Ordered = got.value
        stops += 1
        if ordered.end is JobEnd.UNREACHABLE and stops > 1:
            # An earlier order got through: the unit is not what it was.
            ordered = replace(ordered, end=JobEnd.UNANSWERED)
        if ordered.end is JobEnd.UNANSWERED and got.mono_s < deadline_s and stops <= STOPS:
            # Its answer was lost: what became of it is seen at the unit.
            yield Pause(AGAIN_S)
        elif ordered.end is not JobEnd.DONE:
            return _not_done(ordered), replace(evidence, detail=ordered.detail, ordered=ordered)
    return StepEnd.UNPROVEN, replace(evidence, detail=f"{order.unit} was told to stop {stops} times and still runs")


def _clear(order: StepOrder, evidence: Evidence, unit: UnitSeen, pids: set[int], deadline_s: MonotonicS) -> Procedure:
    """End what is left in the cgroup of a unit that is over, and wait until its GPU memory is given back."""
    if unit.pids:
        ordered: Ordered = (yield OrderUnit(order.unit, UnitOrder.KILL, LOOK_S)).value
        if ordered.end is not JobEnd.DONE:
            return _not_done(ordered), replace(evidence, detail=ordered.detail, ordered=ordered)
        limit_s: MonotonicS | None = None
        while True:
            got = yield LookUnit(order.unit, LOOK_S)
            seen: Reading[UnitSeen] = got.value
            evidence = replace(evidence, answered_s=got.mono_s, unit=seen)
            if isinstance(seen, Known) and not seen.value.pids:
                break
            limit_s = got.mono_s + KILLED_S if limit_s is None else limit_s
            if got.mono_s >= limit_s:
                left = f"processes {', '.join(map(str, unit.pids[:5]))} of {order.unit} outlived SIGKILL"
                return StepEnd.UNPROVEN, replace(evidence, detail=f"{left}: the driver or a disk holds them")
            yield Pause(AGAIN_S)
    last: dict[str, int] | None = None
    while True:
        got = yield ReadGpus()
        gpus: Reading[GpusSeen] = got.value
        evidence = replace(evidence, answered_s=got.mono_s, gpus_after=gpus)
        if isinstance(gpus, Known):
            free = {g.uuid: g.free_bytes for g in gpus.value}
            if free.keys() >= set(order.uuids) and _is_free(gpus.value, pids, settled=free == last):
                return StepEnd.DONE, evidence
            last = free
        if got.mono_s >= deadline_s:
            found = _not_free(order, gpus)
            detail = f"the GPU memory of {order.unit} cannot be shown free ({found}); see nvidia-smi"
            return StepEnd.UNPROVEN, replace(evidence, detail=detail)
        yield Pause(AGAIN_S)


def _not_free(order: StepOrder, gpus: Reading[GpusSeen]) -> str:
    """What the last reading lacks to show its memory free."""
    if not isinstance(gpus, Known):
        return gpus.detail or gpus.reason
    # A GPU that fails is left out of a reading.
    untold = sorted(set(order.uuids) - {gpu.uuid for gpu in gpus.value})
    return f"NVML tells nothing of {', '.join(untold)}" if untold else "it is still held"


def _is_free(gpus: GpusSeen, pids: set[int], *, settled: bool) -> bool:
    """Whether none of these processes holds GPU memory; where NVML does not tell who holds what, whether the GPUs have
    settled after they were gone."""
    lists = [gpu.used_by_pid for gpu in gpus]
    if pids and all(held is not None for held in lists):
        return not any(held and held.get(pid) for held in lists for pid in pids)
    return settled


def _ran_since(order: StepOrder, unit: UnitSeen) -> bool:
    """Whether the unit was started since the start of it that was to be ended."""
    return bool(order.invocation) and unit.invocation not in ("", order.invocation)


def start_unit(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """DONE: the start job ended well; whether the server answers is the next step's business. BROKEN_OFF: it was
    started already, by a daemon that died right then or by somebody else, and stopped again."""
    before: Reading[UnitSeen] = (yield LookUnit(order.unit, LOOK_S)).value
    if isinstance(before, Known) and _ran_since(order, before.value) and before.value.is_stopped_on_purpose:
        found = f"{order.unit} was started and stopped again"
        return StepEnd.BROKEN_OFF, Evidence(None, found, started_s, before.at_s, unit=before)
    got = yield OrderUnit(order.unit, UnitOrder.START, order.timeout_s)
    ordered: Ordered = got.value
    seen: Reading[UnitSeen] = (yield LookUnit(order.unit, LOOK_S)).value
    evidence = Evidence(None, ordered.detail, started_s, got.mono_s, unit=seen)
    if ordered.end is JobEnd.DONE:
        return StepEnd.DONE, evidence
    return _not_done(ordered), replace(evidence, ordered=ordered)


def await_health(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """DONE: the server answers. REFUSED: its unit failed; UNANSWERED: out of time; BROKEN_OFF: somebody stopped it, or
    it ended and systemd will start it again: its GPUs are others' until then."""
    deadline_s = started_s + order.timeout_s
    while True:
        got = yield Look(LOOK_S, ask_sleeping=False)
        seen: Reading[ModelSeen] = got.value
        evidence = Evidence(None, "", started_s, got.mono_s, seen=seen)
        if isinstance(seen, Known):
            return StepEnd.DONE, evidence
        unit: Reading[UnitSeen] = (yield LookUnit(order.unit, LOOK_S)).value
        evidence = replace(evidence, unit=unit)
        if isinstance(unit, Known) and (unit.value.is_stopped_on_purpose or unit.value.rests):
            return StepEnd.BROKEN_OFF, replace(evidence, detail=f"{order.unit} ended ({unit.value.result})")
        if isinstance(unit, Known) and unit.value.has_failed:
            found = f"{order.unit} failed while it started ({unit.value.result}): see journalctl -u {order.unit}"
            return StepEnd.REFUSED, replace(evidence, detail=found)
        if got.mono_s >= deadline_s:
            return StepEnd.UNANSWERED, replace(evidence, detail=f"{seen.reason} {seen.detail}".strip())
        yield Pause(ASK_HEALTH_S)


def _not_done(ordered: Ordered) -> StepEnd:
    unanswered = ordered.end in (JobEnd.UNANSWERED, JobEnd.UNREACHABLE)
    return StepEnd.UNANSWERED if unanswered else StepEnd.REFUSED
