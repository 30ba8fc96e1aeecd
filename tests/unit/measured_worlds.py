"""Ends of steps on one GPU beside a stranger, and what they teach."""

from dataclasses import replace

from core_worlds import ASLEEP, AWAKE, FACTS, NOW, record, world

from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.events import Evidence
from sleepd.core.footprint import Footprint, sized_by
from sleepd.core.measured import learn_reload, learn_sleep, learn_wake
from sleepd.core.model import Cause, CauseKind, Known
from sleepd.core.plan import Verb, plan_sleep, plan_wake
from sleepd.core.seen import GpuSeen, HostSeen, Span, UnitMemory
from sleepd.core.task import Intent, Task, TaskKind
from sleepd.core.units import GIB

FRESH = Footprint(under=sized_by(FACTS))
TOTAL = 80 * GIB
OTHERS = 5 * GIB
RULE = Cause(CauseKind.RULE, "nap")


def reading(held: int | None, *, others: int = OTHERS, own: int = 0) -> Known[tuple[GpuSeen, ...]]:
    """One GPU on which pid 1 holds `held` by NVML, or `own` where NVML does not tell, and a stranger `others`."""
    used = None if held is None else {1: held, 99: others}
    free = TOTAL - (held if held is not None else own) - others
    return Known((GpuSeen("GPU-0", 0, TOTAL, free, used),), NOW.mono_s, NOW.mono_s)


def span(least: int, most: int) -> dict[str, Span]:
    return {"GPU-0": Span(least, most)}


def ram(available: int) -> Known[HostSeen]:
    return Known(HostSeen(256 * GIB, available), NOW.mono_s, NOW.mono_s)


def unit(kept: int, *, own: bool = True) -> UnitMemory:
    return UnitMemory(kept, kept, own)


def sleeping(level: int = 1, kept: int | None = None) -> Task:
    plan = plan_sleep(level, fingerprint_wanted=False)
    intent = Intent("pst:1", None, {"GPU-0": 30 * GIB}, kept_bytes=kept)
    return Task(1, "a", TaskKind.SLEEP, level, RULE, plan, 0.0, cursor=len(plan.steps) - 1, intent=intent)


def waking(level: int = 1) -> Task:
    plan = plan_wake(level, capabilities(FACTS, fenced=False), doubtful=False, known=True)
    return Task(1, "a", TaskKind.WAKE, level, RULE, plan, 0.0)


def slept(
    evidence: Evidence, *, level: int = 1, kept: int | None = None, footprint: Footprint = FRESH, **more
) -> Footprint:
    draft = Draft(world(record("a", AWAKE, footprint=footprint, **more)), NOW)
    verb = Verb.SLEEP_L1 if level == 1 else Verb.SLEEP_L2
    learn_sleep(draft, sleeping(level, kept), verb, replace(evidence, started_s=10.0, answered_s=17.5))
    return draft.models["a"].footprint


def woke(evidence: Evidence, footprint: Footprint, verb: Verb = Verb.WAKE) -> Footprint:
    draft = Draft(world(record("a", ASLEEP, footprint=footprint)), NOW)
    (learn_reload if verb is Verb.RELOAD else learn_wake)(draft, waking(), evidence)
    return draft.models["a"].footprint
