"""Plans as data: steps with the fact each establishes and the proof it needs. Built by recipe, resumable anywhere."""

from dataclasses import dataclass
from enum import StrEnum

from sleepd.core.dialect import Capabilities
from sleepd.core.life import Fact
from sleepd.core.units import Seconds

START_S: Seconds = 1800.0
"""What a server may take to come up, where nothing was learned: large models on slow disks take most of it."""


class Verb(StrEnum):
    """What a step does. The adapter maps each to exactly one call; nothing else is ever sent to an engine."""

    FINGERPRINT = "take the known answer"
    CONFIRM_IDLE = "confirm idle"
    SLEEP_L1 = "sleep level 1"
    SLEEP_L2 = "sleep level 2"
    RESLEEP_L1 = "repeat sleep level 1, keeping requests"
    RESLEEP_L2 = "repeat sleep level 2, keeping requests"
    WORKER_SLEEP_L1 = "put half-woken memory back"
    CUT_L1 = "cut sleep level 1 short"
    CUT_L2 = "cut sleep level 2 short"
    WAKE = "wake"
    WAKE_WEIGHTS = "wake weights"
    RELOAD = "reload weights"
    RESET_PREFIX = "reset prefix cache"
    WAKE_KV = "wake kv cache"
    PROBE = "compare the known answer"
    TAKE_CHECKSUMS = "take the weights' checksums"
    COMPARE_CHECKSUMS = "compare the weights' checksums"
    FENCE = "find out what happened"
    END_UNIT = "end the unit's processes"
    START_UNIT = "start the unit"
    AWAIT_HEALTH = "wait until it answers"


SLEEPS = frozenset({Verb.SLEEP_L1, Verb.SLEEP_L2, Verb.RESLEEP_L1, Verb.RESLEEP_L2, Verb.WORKER_SLEEP_L1})
REPAIRS = frozenset({Verb.RESLEEP_L1, Verb.RESLEEP_L2, Verb.WORKER_SLEEP_L1})
CUTS = {1: Verb.CUT_L1, 2: Verb.CUT_L2}
"""Let a sleep that waits for running requests happen now, by ending them: no step of a plan, it hurries one on."""
WAKES = frozenset({Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.WAKE_KV})
COUNTED_AS: dict[Verb, str] = {
    **dict.fromkeys(SLEEPS, "sleep"),
    **dict.fromkeys(CUTS.values(), "sleep"),
    **dict.fromkeys(WAKES, "wake"),
    Verb.RELOAD: "rpc",
    Verb.WORKER_SLEEP_L1: "rpc",
    **dict.fromkeys((Verb.TAKE_CHECKSUMS, Verb.COMPARE_CHECKSUMS), "check"),
}
"""Which of the ControlCounts an answered call moves; calls that are not here move none."""
CHECKSUMS = frozenset({Verb.TAKE_CHECKSUMS, Verb.COMPARE_CHECKSUMS})
OBSERVES = frozenset({Verb.FINGERPRINT, Verb.CONFIRM_IDLE, Verb.PROBE, Verb.FENCE}) | CHECKSUMS
"""Steps that change nothing on the engine and may be repeated at will."""


UNIT_VERBS = frozenset({Verb.END_UNIT, Verb.START_UNIT, Verb.AWAIT_HEALTH})
"""Steps on a server's unit. Each may be carried out again: what is over is not ended, what runs is not started."""


class Proof(StrEnum):
    """What must be observed, asked after the call ended, for a step to count."""

    NONE = "none"
    ASLEEP_AND_FREED = "asleep and bytes down"
    AWAKE_AND_TAKEN = "awake and bytes up"
    STILL_ASLEEP_AND_TAKEN = "weights back, engine still held"
    AWAKE = "awake"


@dataclass(frozen=True, slots=True)
class PlanStep:
    """`issued` is stated when the call leaves, `done` when its proof was seen."""

    verb: Verb
    done: Fact | None = None
    issued: Fact | None = None
    proof: Proof = Proof.NONE


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[PlanStep, ...]


_STEP = {
    Verb.FINGERPRINT: PlanStep(Verb.FINGERPRINT),
    Verb.CONFIRM_IDLE: PlanStep(Verb.CONFIRM_IDLE, Fact.DRAINED),
    Verb.SLEEP_L1: PlanStep(Verb.SLEEP_L1, Fact.L1_CONFIRMED, Fact.L1_ISSUED, Proof.ASLEEP_AND_FREED),
    Verb.SLEEP_L2: PlanStep(Verb.SLEEP_L2, Fact.L2_CONFIRMED, Fact.L2_ISSUED, Proof.ASLEEP_AND_FREED),
    Verb.RESLEEP_L1: PlanStep(Verb.RESLEEP_L1, Fact.L1_CONFIRMED, Fact.L1_ISSUED, Proof.ASLEEP_AND_FREED),
    Verb.RESLEEP_L2: PlanStep(Verb.RESLEEP_L2, Fact.L2_CONFIRMED, Fact.L2_ISSUED, Proof.ASLEEP_AND_FREED),
    Verb.WORKER_SLEEP_L1: PlanStep(Verb.WORKER_SLEEP_L1, Fact.L1_CONFIRMED, Fact.L1_ISSUED, Proof.ASLEEP_AND_FREED),
    Verb.WAKE: PlanStep(Verb.WAKE, Fact.MEMORY_BACK, None, Proof.AWAKE_AND_TAKEN),
    Verb.WAKE_WEIGHTS: PlanStep(Verb.WAKE_WEIGHTS, Fact.WEIGHTS_BLANK, None, Proof.STILL_ASLEEP_AND_TAKEN),
    Verb.RELOAD: PlanStep(Verb.RELOAD, Fact.WEIGHTS_RELOADED),
    Verb.RESET_PREFIX: PlanStep(Verb.RESET_PREFIX),
    Verb.WAKE_KV: PlanStep(Verb.WAKE_KV, Fact.MEMORY_BACK, None, Proof.AWAKE_AND_TAKEN),
    Verb.PROBE: PlanStep(Verb.PROBE),
    Verb.TAKE_CHECKSUMS: PlanStep(Verb.TAKE_CHECKSUMS),
    Verb.COMPARE_CHECKSUMS: PlanStep(Verb.COMPARE_CHECKSUMS),
    Verb.CUT_L1: PlanStep(Verb.CUT_L1),
    Verb.CUT_L2: PlanStep(Verb.CUT_L2),
    Verb.FENCE: PlanStep(Verb.FENCE),
    Verb.END_UNIT: PlanStep(Verb.END_UNIT),
    Verb.START_UNIT: PlanStep(Verb.START_UNIT),
    Verb.AWAIT_HEALTH: PlanStep(Verb.AWAIT_HEALTH),
}


def step_of(verb: Verb) -> PlanStep:
    return _STEP[verb]


def _plan(*verbs: Verb) -> Plan:
    return Plan(tuple(_STEP[v] for v in verbs))


def plan_sleep(level: int, *, fingerprint_wanted: bool, checksums: bool = False) -> Plan:
    """Take the known answer, and for a check the checksums, while they are still certain, confirm idleness after the
    gate shut (and after the seconds that checksums take), sleep."""
    first = ((Verb.FINGERPRINT,) if fingerprint_wanted else ()) + ((Verb.TAKE_CHECKSUMS,) if checksums else ())
    return _plan(*first, Verb.CONFIRM_IDLE, Verb.SLEEP_L2 if level == 2 else Verb.SLEEP_L1)


def plan_wake(
    level: int,
    caps: Capabilities,
    *,
    doubtful: bool,
    known: bool,
    before: bool = False,
    trusted: bool = False,
    checksums: bool = False,
) -> Plan:
    """The wake recipe of the release; a level 2 wake is one transaction with the reload in it.

    `known`: there is a known answer to compare with; after a reload without one, what it says is taken as known.
    `before`: it is compared before the gate opens at level 1 too. `trusted`: the reload of an engine whose level 2
    cycle was checked is taken at its word. `checksums`: those of before the sleep are compared too.

    Order by release: vLLM 0.24+ keeps the scheduler held through a partial wake, so the prefix cache is reset before
    the kv stage; earlier releases resume at once and get it last (vllm/v1/engine/core.py).
    """
    if level == 2:
        reload = PlanStep(Verb.RELOAD, Fact.PROVEN_RELOADED) if trusted else step_of(Verb.RELOAD)
        last = (Verb.RESET_PREFIX, Verb.WAKE_KV) if caps.held_when_partial else (Verb.WAKE_KV, Verb.RESET_PREFIX)
        check = () if trusted else (Verb.PROBE if known else Verb.FINGERPRINT,)
        sums = (Verb.COMPARE_CHECKSUMS,) if checksums else ()
        return Plan((step_of(Verb.WAKE_WEIGHTS), reload, *_plan(*last, *sums, *check).steps))
    reset = (Verb.RESET_PREFIX,) if caps.reset_prefix_after_wake else ()
    return _plan(Verb.WAKE, *reset, *((Verb.PROBE,) if known and (doubtful or before) else ()))


def plan_stop(*, confirm: bool) -> Plan:
    """Confirm idleness after the gate shut where the model serves, then end everything in the unit's cgroup."""
    return Plan((*((PlanStep(Verb.CONFIRM_IDLE),) if confirm else ()), step_of(Verb.END_UNIT)))


def plan_start() -> Plan:
    """End what is left of the unit, show that its GPU memory is free, start it, wait until it answers."""
    return _plan(Verb.END_UNIT, Verb.START_UNIT, Verb.AWAIT_HEALTH)


def plan_await() -> Plan:
    """Somebody else started it: wait until it answers."""
    return _plan(Verb.AWAIT_HEALTH)


def in_stages(plan: Plan, done: int) -> Plan:
    """The plan with the bare wake at `done` followed by the same wake in two stages: should the second fail as well, a
    `/sleep` puts everything back (0.31+, vllm/v1/executor/abstract.py looks at the weights tag only)."""
    weights = PlanStep(Verb.WAKE_WEIGHTS, Fact.WEIGHTS_RESTORED, None, Proof.STILL_ASLEEP_AND_TAKEN)
    steps = (*plan.steps[: done + 1], weights, _STEP[Verb.WAKE_KV], *plan.steps[done + 1 :])
    return Plan(steps)


def plan_prove(*, reload: bool) -> Plan:
    """Settle doubt about an awake engine: compare its answer, or reload first and take the answer anew."""
    return Plan(steps_reload(known=False)) if reload else _plan(Verb.PROBE)


def steps_reload(*, known: bool) -> tuple[PlanStep, ...]:
    """Read the weights of an awake engine anew, and compare its answer (or take it as the known one)."""
    return (
        PlanStep(Verb.CONFIRM_IDLE),
        step_of(Verb.RELOAD),
        PlanStep(Verb.RESET_PREFIX, Fact.MEMORY_BACK, None, Proof.AWAKE),
        step_of(Verb.PROBE if known else Verb.FINGERPRINT),
    )


def plan_resume(*, probe: bool) -> tuple[PlanStep, ...]:
    """After a sleep that released nothing: lift the pause. No bytes move, so being awake is all there is to see."""
    wake = PlanStep(Verb.WAKE, Fact.MEMORY_BACK, None, Proof.AWAKE)
    return (wake, step_of(Verb.PROBE)) if probe else (wake,)


def redirect(plan: Plan, done: int, *steps: PlanStep) -> Plan:
    """The plan with everything after its first `done` steps replaced: cursors never point at two steps."""
    return Plan((*plan.steps[:done], *steps))


def default_timeout(verb: Verb) -> Seconds:
    """Seconds a step may take before its call counts as unanswered, where nothing was learned."""
    if verb in (Verb.START_UNIT, Verb.AWAIT_HEALTH):
        return START_S
    return 60.0 if verb in OBSERVES or verb is Verb.RESET_PREFIX else 300.0
