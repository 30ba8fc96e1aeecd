"""What a wake would do, as the API tells it: the answer to `dry_run`."""

from typing import Literal, cast

from sleepd.core.rehearse import WakePlan as Plan
from sleepd.wire.shapes import Shape
from sleepd.wire.values import rounded


class FreedBytes(Shape):
    """What a sleep would give back on one GPU."""

    uuid: str
    """which GPU"""
    bytes: int
    """how much"""


class Victim(Shape):
    """A model that would make room, and what its sleep costs: docs/room.md has the terms."""

    model: str
    """which model"""
    level: int
    """how deeply it would be put to sleep"""
    frees: list[FreedBytes]
    """what that would give back, by GPU"""
    host_ram_bytes: int
    """what its backup would take of host RAM"""
    priority: int
    """as configured: what higher ones feel counts before everything else"""
    idle_s: float
    """how long nobody has used it"""
    sleep_s: float
    """how long its sleep should take"""
    wake_s: float
    """how long its wake should take when somebody wants it back"""
    again: float
    """how much that wake counts: 1 for a model that was just used, 0.25 for one unused for long"""
    felt_s: float
    """sleep_s + again × wake_s"""


class Stay(Shape):
    """A model that holds something of what is missing and would stay awake."""

    model: str
    """which model"""
    why: str
    """what keeps it awake, or what its sleep would have cost"""
    in_s: float | None
    """when what keeps it awake is over, where that is known"""


class PlannedGpu(Shape):
    """One GPU of the model that would be woken."""

    uuid: str
    """as NVML names it"""
    index: int
    """as nvidia-smi numbers it"""
    free_bytes: int
    """free now"""
    kept_bytes: int
    """of that never given out: margin, wakes under way, reservations"""
    freed_bytes: int
    """what those that make room would give back"""
    need_bytes: int
    """what the wake takes"""
    left_bytes: int
    """what would be free then, what is kept included"""


class PlannedStep(Shape):
    """One call of the wake itself."""

    call: str
    """what is done"""
    seconds: float | None
    """how long it should take; null where nobody knows"""


class WakePlan(Shape):
    """What a wake asked now would do; nothing was done."""

    would: Literal["nothing", "join", "wake", "wait", "refuse"]
    """`nothing`: it is awake; `join`: it is on its way; `wait`: for something that passes"""
    level: int | None
    """the level it would be woken from"""
    victims: list[Victim]
    """who would make room first, in order"""
    stay: list[Stay]
    """who else holds what is missing, and why they stay awake, or what is waited for"""
    gpus: list[PlannedGpu]
    """its GPUs, before and after"""
    steps: list[PlannedStep]
    """the calls of the wake itself"""
    chosen: str
    """how the victims were chosen, as a sentence"""
    exact: bool
    """false: there were too many to try every set, a cheaper one may exist"""
    sleep_s: float
    """how long it would take until there is room"""
    eta_s: float | None
    """how long all of it would take"""
    measured: bool
    """whether all those seconds were measured on these models; else some come from the size of their weights"""
    problem: str
    """the kind of the refusal, or why it would wait; else empty"""
    detail: str
    """the same in words"""
    wanted: str
    """as in Problem"""
    found: str
    """as in Problem"""
    hint: str
    """as in Problem"""


def plan_body(plan: Plan) -> WakePlan:
    return {
        "would": cast(Literal["nothing", "join", "wake", "wait", "refuse"], plan.would),
        "level": plan.level,
        "victims": [
            {
                "model": v.offer.model,
                "level": v.offer.level,
                "frees": [{"uuid": uuid, "bytes": freed} for uuid, freed in sorted(v.frees.items())],
                "host_ram_bytes": v.offer.host_bytes,
                "priority": v.offer.priority,
                "idle_s": round(v.offer.idle_s, 3),
                "sleep_s": round(v.offer.sleep_s, 3),
                "wake_s": round(v.offer.wake_s, 3),
                "again": round(v.offer.again, 3),
                "felt_s": round(v.offer.felt_s, 3),
            }
            for v in plan.victims
        ],
        "stay": [{"model": s.model, "why": s.why, "in_s": rounded(s.in_s)} for s in plan.stay],
        "gpus": [
            {
                "uuid": g.uuid,
                "index": g.index,
                "free_bytes": g.free_bytes,
                "kept_bytes": g.kept_bytes,
                "freed_bytes": g.freed_bytes,
                "need_bytes": g.need_bytes,
                "left_bytes": g.left_bytes,
            }
            for g in plan.gpus
        ],
        "steps": [{"call": s.call, "seconds": rounded(s.seconds)} for s in plan.steps],
        "chosen": plan.chosen,
        "exact": plan.exact,
        "sleep_s": plan.sleep_s,
        "eta_s": rounded(plan.eta_s),
        "measured": plan.measured,
        "problem": plan.problem,
        "detail": plan.detail,
        "wanted": plan.wanted,
        "found": plan.found,
        "hint": plan.hint,
    }
