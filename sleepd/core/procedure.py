"""How one step is carried out, without I/O: generators that ask for calls and readings and judge what comes back.

The asyncio runner and the simulator drive the same generators, so what is simulated is what runs. A driver sends
`Got(value, mono_s)` for each `Ask`; the generator returns how the step ended and the evidence.
"""

from collections.abc import Generator, Mapping

from sleepd.core.activity import share_out
from sleepd.core.asking import (
    Call,
    CallAndWatch,
    Checksums,
    Complete,
    Look,
    LookAndReadGpus,
    Pause,
    Procedure,
    ReadGpus,
    ReadHost,
)
from sleepd.core.calls import Answered, NoAnswer, NoAnswerKind, ProbeAnswer
from sleepd.core.commands import StepOrder
from sleepd.core.events import Evidence, StepEnd
from sleepd.core.frozen import replace
from sleepd.core.known_answer import BASE, TAKEN_RUNS, agreed, is_same
from sleepd.core.memory import freed_bytes, held_bytes
from sleepd.core.model import Known, Reading
from sleepd.core.plan import CHECKSUMS, SLEEPS, UNIT_VERBS, WAKES, Proof, Verb
from sleepd.core.seen import Activity, GpusSeen, KnownAnswer, ModelSeen
from sleepd.core.unit_procedure import await_health, end_unit, start_unit
from sleepd.core.units import Bytes, MonotonicS, Seconds

SETTLE_S = 15.0
"""How long a proof may take to show after a call ended: NVML lags behind a release by seconds (vLLM F22 reports)."""
PROOF_CALL_S = 60.0
LATE_S = 1.0
"""A wake whose reading of GPU memory is older than this when its call is to leave reads again."""
_PAUSES_S = (0.02, 0.05, 0.1, 0.2)


def perform(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """Return the procedure of one step. It always ends: every ask has a time limit and every loop a deadline."""
    verb = order.step.verb
    if verb in SLEEPS:
        return _sleep(order, started_s)
    if verb in WAKES:
        return _wake(order, started_s)
    if verb in (Verb.FINGERPRINT, Verb.PROBE):
        return _answer(order, started_s)
    if verb in CHECKSUMS:
        return _checksums(order, started_s)
    if verb is Verb.RELOAD:
        return _reload(order, started_s)
    if verb in UNIT_VERBS:
        return _UNIT_STEPS[verb](order, started_s)
    if verb in (Verb.CONFIRM_IDLE, Verb.FENCE):
        return _observe(order, started_s)
    return _plain_call(order, started_s)


def _called(result: Answered | NoAnswer) -> StepEnd | None:
    """How the step ended if the call itself failed; None where it succeeded and the proof decides."""
    if isinstance(result, NoAnswer):
        return StepEnd.UNANSWERED if result.kind is NoAnswerKind.TIMED_OUT else StepEnd.BROKEN_OFF
    return None if 200 <= result.status < 300 else StepEnd.REFUSED


def _evidence(result: Answered | NoAnswer, started_s: MonotonicS, at_s: MonotonicS) -> Evidence:
    if isinstance(result, NoAnswer):
        return Evidence(None, f"{result.kind}: {result.detail}".rstrip(": "), started_s, at_s)
    return Evidence(result.status, result.text, started_s, at_s)


def _sleep(order: StepOrder, started_s: MonotonicS) -> Procedure:
    before: Reading[GpusSeen] = (yield ReadGpus()).value
    host_before = (yield ReadHost()).value
    got = yield CallAndWatch(order.step.verb, order.timeout_s, order.mode_parameter)
    result, span = got.value
    evidence = replace(
        _evidence(result, started_s, got.mono_s),
        gpus_earlier=order.gpus_before,
        gpus_before=before,
        span=span,
        host_before=host_before,
    )
    end = _called(result)
    if end in (StepEnd.UNANSWERED, StepEnd.BROKEN_OFF):
        return end, evidence
    deadline_s = got.mono_s + (SETTLE_S if end is None else 0.0)
    last: dict[str, int] | None = None
    for pause_s in _pauses():
        seen: Reading[ModelSeen] = (yield Look(PROOF_CALL_S, fence=True)).value
        got = yield ReadGpus()
        evidence = replace(evidence, seen=seen, gpus_after=got.value)
        freed = freed_bytes(before, got.value, order.uuids, order.pids)
        asleep = isinstance(seen, Known) and seen.value.is_sleeping is True
        if end is None and asleep and freed is not None and sum(freed.values()) >= order.least_freed_bytes:
            if freed == last:
                evidence = replace(evidence, host_after=(yield ReadHost()).value)
                return StepEnd.DONE, evidence
            last = freed
        if got.mono_s >= deadline_s:
            break
        yield Pause(pause_s)
    return end or StepEnd.UNPROVEN, evidence


def _wake(order: StepOrder, started_s: MonotonicS) -> Procedure:
    if order.takes and isinstance(order.gpus_before, Known) and started_s - order.gpus_before.asked_at_s > LATE_S:
        # The record of it took its time, on a slow disk say: what was free then may be somebody else's.
        got = yield ReadGpus()
        if not _has_room(got.value, order.takes):
            detail = "the memory it was to take is gone"
            return StepEnd.NOT_SENT, Evidence(None, detail, started_s, got.mono_s, gpus_after=got.value)
    got = yield CallAndWatch(order.step.verb, order.timeout_s, order.mode_parameter)
    result, span = got.value
    evidence = replace(_evidence(result, started_s, got.mono_s), gpus_before=order.gpus_before, span=span)
    end = _called(result)
    if end in (StepEnd.UNANSWERED, StepEnd.BROKEN_OFF):
        return end, evidence
    wanted = order.step.proof is Proof.STILL_ASLEEP_AND_TAKEN
    deadline_s = got.mono_s + (SETTLE_S if end is None else 0.0)
    for pause_s in _pauses():
        # Somebody waits for this: the wake ends with the slower of the two proofs, not with their sum.
        # The page of counters is left for the look right after: at the first try of the wake that opens the gate.
        counters = end is not None or order.step.verb is not Verb.WAKE or evidence.seen is not None
        got = yield LookAndReadGpus(PROOF_CALL_S, counters=counters)
        seen: Reading[ModelSeen] = got.value[0]
        gpus_after: Reading[GpusSeen] = got.value[1]
        evidence = replace(evidence, seen=seen, gpus_after=gpus_after)
        # A stage of releases before 0.24 already reports awake; bytes decide there.
        told = isinstance(seen, Known) and (wanted or seen.value.is_sleeping is False)
        if end is None and told and (order.step.proof is Proof.AWAKE or _taken(order, gpus_after)):
            return StepEnd.DONE, evidence
        if got.mono_s >= deadline_s:
            # Awake by its own word while NVML cannot be read: a missing reading contradicts nothing.
            if end is None and told and not isinstance(gpus_after, Known):
                return StepEnd.DONE, evidence
            break
        yield Pause(pause_s)
    return end or StepEnd.UNPROVEN, evidence


def _has_room(gpus: Reading[GpusSeen], takes: Mapping[str, Bytes]) -> bool:
    """Whether it may fit; where memory cannot be read, nothing says that it does not."""
    if not isinstance(gpus, Known):
        return True
    return all(gpu.free_bytes >= takes.get(gpu.uuid, 0) for gpu in gpus.value)


def _taken(order: StepOrder, after: Reading[GpusSeen]) -> bool:
    """Whether bytes went up: the processes' own against what they held asleep, else the device's."""
    if not isinstance(after, Known):
        return False
    if order.pids and order.asleep_bytes:
        held = [held_bytes(gpu, order.pids) for gpu in after.value if gpu.uuid in order.asleep_bytes]
        if held and all(h is not None for h in held):
            return sum(h for h in held if h is not None) > sum(order.asleep_bytes.values())
    if order.step.proof is not Proof.STILL_ASLEEP_AND_TAKEN:
        # Device totals belong to everybody: a neighbour that leaves must not disprove a wake the engine confirms.
        return True
    freed = freed_bytes(order.gpus_before, after, order.uuids, order.pids)
    return freed is None or sum(freed.values()) < 0


def _reload(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """Weights are read anew beside what they replace: how much that takes at its highest is watched."""
    got = yield CallAndWatch(order.step.verb, order.timeout_s, order.mode_parameter)
    result, span = got.value
    evidence = replace(_evidence(result, started_s, got.mono_s), gpus_before=order.gpus_before, span=span)
    end = _called(result)
    if end in (StepEnd.UNANSWERED, StepEnd.BROKEN_OFF):
        return end, evidence
    got = yield LookAndReadGpus(PROOF_CALL_S)
    return end or StepEnd.DONE, replace(evidence, seen=got.value[0], gpus_after=got.value[1])


def _plain_call(order: StepOrder, started_s: MonotonicS) -> Procedure:
    got = yield Call(order.step.verb, order.timeout_s, order.mode_parameter)
    evidence = _evidence(got.value, started_s, got.mono_s)
    end = _called(got.value)
    if end in (StepEnd.UNANSWERED, StepEnd.BROKEN_OFF):
        return end, evidence
    seen: Reading[ModelSeen] = (yield Look(PROOF_CALL_S)).value
    evidence = replace(evidence, seen=seen)
    if end is None and order.step.proof is Proof.AWAKE:
        awake = isinstance(seen, Known) and seen.value.is_sleeping is False
        return (StepEnd.DONE if awake else StepEnd.UNPROVEN), evidence
    return end or StepEnd.DONE, evidence


def _answer(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """Ask the known question of the base model and of each adapter; twice where the answer is to be remembered."""
    runs = TAKEN_RUNS if order.step.verb is Verb.FINGERPRINT else 1
    adapters = order.adapters
    if order.lists_adapters and runs > 1:
        listed: Reading[ModelSeen] = (yield Look(PROOF_CALL_S, ask_sleeping=False, adapters=True)).value
        adapters = listed.value.facts.lora_names if isinstance(listed, Known) else adapters
    answers: dict[str, KnownAnswer] = {}
    spent, at_s = Activity(), started_s
    names = (BASE, *adapters) if order.asks_base else adapters
    for name, run in ((name, run) for name in names for run in range(runs)):
        if run and (name not in answers or answers[name] is order.known.get(name)):
            continue
        got = yield Complete(order.prompt, name or order.api_name, order.asks_at, order.timeout_s)
        result, at_s = got.value, got.mono_s
        if isinstance(result, ProbeAnswer):
            spent += result.spent
            answers[name] = _said(order, name, result, answers.get(name))
            continue
        if isinstance(result, Answered) and result.status < 500 and name:
            answers.pop(name, None)  # an adapter that is not loaded any more, or never answered
            continue
        evidence = replace(_evidence(result, started_s, at_s), spent=spent, lost=_may_have_run(result))
        end = _refused_answer(order, result)
        if end is StepEnd.DONE:
            # So does an API server whose engine died: that is no wrong answer.
            evidence = replace(evidence, seen=(yield Look(PROOF_CALL_S)).value)
            end = end if isinstance(evidence.seen, Known) else StepEnd.UNANSWERED
        elif end is StepEnd.UNANSWERED:
            # One that is only busy answers /is_sleeping between two steps; one that hangs does not.
            evidence = replace(evidence, seen=(yield Look(PROOF_CALL_S)).value)
        return end, evidence
    seen: Reading[ModelSeen] = (yield Look(PROOF_CALL_S, adapters=order.lists_adapters)).value
    answers = {name: said for name, said in answers.items() if said.any() or runs == 1}
    certain = runs == 1 or BASE in answers or not order.asks_base
    detail = "" if certain else "its likeliest first tokens are too close to tell apart, or change from run to run"
    evidence = Evidence(200, detail, started_s, at_s, seen=seen, answers=answers, spent=spent)
    return (StepEnd.DONE if certain else StepEnd.NOT_PROVABLE), evidence


def _said(order: StepOrder, name: str, result: ProbeAnswer, before: KnownAnswer | None) -> KnownAnswer:
    """What it is known by so far: what this run has in common with the one before, or what was known already."""
    compared = KnownAnswer(result.compared, result.vector)
    if order.step.verb is Verb.PROBE:
        return compared
    known = order.known.get(name)
    if before is None and known is not None and is_same(compared, known):
        return known
    said = KnownAnswer(result.tokens, result.vector)
    return said if before is None else agreed(before, said)


def _checksums(order: StepOrder, started_s: MonotonicS) -> Procedure:
    """Without an answer the step is done all the same: an engine whose checker errs counts as one without it. No look
    follows, so that whatever happened meanwhile is met by the next step's."""
    got = yield Checksums(order.timeout_s)
    return StepEnd.DONE, Evidence(None, "", started_s, got.mono_s, checksums=got.value)


_CANNOT_ASK = frozenset({401, 403, 404, 405, 501})
_WILL_NOT_SAY = frozenset({400, 422, 500})
"""Answers of an engine whose numbers are no numbers, to a question that it answered once (JSON has no NaN)."""


def _refused_answer(order: StepOrder, result: Answered | NoAnswer) -> StepEnd:
    if isinstance(result, NoAnswer):
        return _called(result) or StepEnd.UNANSWERED
    if order.step.verb is Verb.PROBE and result.status in _WILL_NOT_SAY:
        return StepEnd.DONE  # with no answer at all, which is not the known one
    return StepEnd.NOT_PROVABLE if result.status < 500 or result.status in _CANNOT_ASK else StepEnd.REFUSED


def _may_have_run(result: Answered | NoAnswer) -> bool:
    """Whether a question without an answer may have moved the server's counters."""
    return result.status >= 500 if isinstance(result, Answered) else result.kind is not NoAnswerKind.REFUSED


def _observe(order: StepOrder, started_s: MonotonicS) -> Procedure:
    fence = order.step.verb is Verb.FENCE
    got = yield Look(order.timeout_s, ask_sleeping=fence, fence=fence)
    seen: Reading[ModelSeen] = got.value
    evidence = Evidence(None, "", started_s, got.mono_s, seen=seen)
    if not isinstance(seen, Known):
        return StepEnd.UNANSWERED, replace(evidence, detail=f"{seen.reason} {seen.detail}".strip())
    if fence:
        evidence = replace(evidence, gpus_after=(yield ReadGpus()).value)
        return (StepEnd.DONE if seen.value.is_sleeping is not None else StepEnd.UNANSWERED), evidence
    look = seen.value
    if look.running != 0 or look.waiting != 0:
        found = f"{look.running} running, {look.waiting} waiting"
        if look.running is None or look.waiting is None:
            found = "the server does not tell its running requests (--disable-log-stats)"
        return StepEnd.BUSY, replace(evidence, detail=found)
    if order.activity is not None and look.activity is not None:
        others, _ = share_out(look.activity - order.activity, order.owed)
    if order.activity is not None and (look.activity is None or others.any()):
        return StepEnd.BUSY, replace(evidence, detail="a request reached it since the last look")
    return StepEnd.DONE, evidence


def _pauses() -> Generator[Seconds, None, None]:
    """Short first, so that a proof already there costs nothing; then steady."""
    yield from _PAUSES_S
    while True:
        yield _PAUSES_S[-1]


_UNIT_STEPS = {Verb.END_UNIT: end_unit, Verb.START_UNIT: start_unit, Verb.AWAIT_HEALTH: await_health}
