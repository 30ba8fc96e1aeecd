"""What is begun in this turn: wakes that somebody waits for, sleeps that rules want, checks, tasks that go on."""

from dataclasses import replace

from sleepd.core.budget import cooling_s
from sleepd.core.dialect import capabilities
from sleepd.core.draft import Draft
from sleepd.core.events import AnswerKind, LookNow
from sleepd.core.host_room import backup_refusal
from sleepd.core.life import Fact, State
from sleepd.core.model import Cause, CauseKind, Known, Missing, Mode
from sleepd.core.orders import uuids_of
from sleepd.core.plan import Verb
from sleepd.core.policy import (
    NO_ANSWER_YET,
    NOT_CHECKED,
    idle_s,
    is_busy,
    level2_refusal,
    protections,
    remember_rules,
    want_of,
)
from sleepd.core.repair import put_back, retry
from sleepd.core.room import Go, MakeRoom, Refuse, WaitFor, claimed, room_for, wakes_waiting, wished_s
from sleepd.core.sightings import LOOK_FAILURES, START_HINT, let_go
from sleepd.core.tasks import (
    begin_proof,
    begin_sleep,
    begin_verification,
    begin_wake,
    carry_on,
    owe_wakes,
    refuse_all,
    restore_victims,
)
from sleepd.core.units import format_duration
from sleepd.core.world import HOST_LOCK, AskKind, ModelRecord, Phase, Task, TaskKind

VERIFY_AFTER_S = 0.05
"""How long after its gate opened a model is asked for the known answer: who waited for it comes first."""
BARRED_AFTER_S = 5.0
"""A wish refused its GPUs for this long bars younger ones from them, so that wide models never starve."""
LOOK_AGAIN_S = 0.25
GOES_ON_S = 60.0
"""A task whose caller ran out of time goes on making room for at least this long; then its wish is over too."""


def go_on(draft: Draft) -> None:
    """Let tasks that pause or make room continue, where their time has come."""
    for name in sorted(draft.tasks):
        task = draft.tasks.get(name)
        if task is None or task.running or (task.resume_s is not None and task.resume_s > draft.mono_s):
            continue
        record = draft.models[name]
        if not isinstance(record.seen, Known):
            continue
        if record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2) and task.kind is TaskKind.WAKE:
            _make_room(draft, task)
        elif record.life.state is State.BROKEN and task.phase is not Phase.FENCE:
            _retry(draft, task)
        else:
            carry_on(draft, task)


def _retry(draft: Draft, task: Task) -> None:
    """Send a refused wake call again, if there is room for it now; else put back what it mapped."""
    if task.plan.steps[task.cursor].verb in (Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.WAKE_KV):
        room = room_for(draft, task.model, task_id=task.id, barred=frozenset(), force=False)
        if isinstance(room, WaitFor) and room.look:
            draft.command(LookNow(gpus=True))
            draft.put_task(replace(task, resume_s=draft.mono_s + LOOK_AGAIN_S))
            return
        if not isinstance(room, Go):
            put_back(draft, task, untouched=False)
            return
    retry(draft, task)


def _make_room(draft: Draft, task: Task) -> None:
    """Carry a wake forward that holds its claims but has not begun: next victim, go, or refuse."""
    name = task.model
    record = draft.models[name]
    if task.victim is not None:
        if task.victim in draft.tasks:
            return
        victim = draft.models.get(task.victim)
        slept = victim is not None and victim.life.state in (State.ASLEEP_L1, State.ASLEEP_L2)
        task = draft.put_task(replace(task, victim=None, slept=(*task.slept, task.victim) if slept else task.slept))
    if not record.owed_wake and not any(w.ask is AskKind.WAKE for w in record.waiters):
        draft.end_task(task, "nobody waits for it any more")
        owe_wakes(draft, task.slept, name)
        draft.change(name, reason="asleep: whoever wanted it left")
        return
    force = any(w.force for w in record.waiters)
    room = room_for(draft, name, task_id=task.id, barred=frozenset(), force=force)
    if isinstance(room, Go):
        carry_on(draft, task)
    elif isinstance(room, MakeRoom):
        _sleep_victim(draft, task, room)
    elif isinstance(room, WaitFor) and room.look:
        draft.command(LookNow(gpus=True))
        draft.put_task(replace(task, resume_s=draft.mono_s + LOOK_AGAIN_S))
    elif isinstance(room, WaitFor):
        # Whoever must make room is in use: its GPUs are not kept from others meanwhile, the wish stays queued.
        draft.change(name, made_room=task.slept)
        draft.end_task(task, f"waits for {room.reason}")
        _wait(draft, name, room)
    else:
        draft.end_task(task, f"refused: {room.detail}")
        _refuse(draft, name, room)
        restore_victims(draft, task)


def _sleep_victim(draft: Draft, task: Task, room: MakeRoom) -> None:
    task = draft.put_task(replace(task, victim=room.victim, claims=task.claims | room.claims))
    data = {"task": task.id, "victim": room.victim}
    draft.note("victim", task.model, f"{room.victim} makes room for {task.model}", data)
    begin_sleep(draft, room.victim, room.level, Cause(CauseKind.VICTIM, task.model), parent=task)


def begin_wakes(draft: Draft) -> None:
    """Begin the wakes that are wanted and possible, oldest wish first."""
    barred: frozenset[str] = frozenset()
    for record in wakes_waiting(draft):
        name = record.spec.name
        if draft.stopping:
            break
        if _unwakeable(draft, record) or _cooling(draft, record):
            continue
        room = room_for(draft, name, task_id=None, barred=barred, force=any(w.force for w in record.waiters))
        if isinstance(room, MakeRoom) and not record.waiters:
            # What we merely owe (a check, a restored victim) is not worth somebody else's sleep.
            _wait(draft, name, WaitFor(f"room: {room.victim} is awake"))
        elif isinstance(room, Go | MakeRoom):
            task = begin_wake(draft, name, _wake_cause(record), room.claims)
            if isinstance(room, MakeRoom):
                _sleep_victim(draft, task, room)
            else:
                carry_on(draft, task)
        elif isinstance(room, WaitFor):
            _wait(draft, name, room)
            if wished_s(record) + BARRED_AFTER_S <= draft.mono_s:
                barred |= room.gpus
        else:
            _refuse(draft, name, room)


def _unwakeable(draft: Draft, record: ModelRecord) -> bool:
    """A stranger's level 2 sleep of an engine whose weights no recipe brings back: give it up, told."""
    assert record.facts is not None
    unsafe = capabilities(record.facts, fenced=record.spec.fenced).level2_unsafe
    if record.life.state is not State.ASLEEP_L2 or not unsafe:
        return False
    name = record.spec.name
    draft.state(name, Fact.GAVE_UP)
    detail = f"it is asleep at level 2 and cannot be brought back ({unsafe}): restart the server"
    draft.fail(name, "level_unsafe", detail)
    refuse_all(draft, name, "failed", detail)
    return True


def _cooling(draft: Draft, record: ModelRecord) -> bool:
    """Whether it is left alone after a failure. Requests are refused meanwhile, what we owe waits; a person may try."""
    rest_s = cooling_s(record, draft.mono_s)
    if rest_s <= 0 or any(w.ask is AskKind.WAKE and w.cause.kind is CauseKind.OPERATOR for w in record.waiters):
        return False
    name = record.spec.name
    why = record.failure.detail if record.failure else "its last wake failed"
    detail = f"{name} is left alone after a failure ({why}); next attempt in {format_duration(rest_s)}"
    hint = f"sleepctl wake {name} tries at once"
    for waiter in [w for w in record.waiters if w.ask is AskKind.WAKE]:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=hint)
    return True


def _wait(draft: Draft, name: str, room: WaitFor) -> None:
    reason = draft.models[name].reason
    if room.look:
        draft.command(LookNow(gpus=True))
        # A reading that merely grew old says nothing new about what it waits for, nor about what we merely owe.
        if reason.startswith("waits for") or not draft.models[name].waiters:
            return
    if reason != f"waits for {room.reason}":
        draft.change(name, reason=f"waits for {room.reason}")


def _refuse(draft: Draft, name: str, room: Refuse) -> None:
    record = draft.models[name]
    wished = [w for w in record.waiters if w.ask is AskKind.WAKE]
    draft.change(name, reason=room.detail)
    if wished:
        draft.note("wake_refused", name, room.detail, {"problem": room.problem})
    for waiter in wished:
        draft.answer(
            name,
            waiter,
            AnswerKind.REFUSED,
            problem=room.problem,
            detail=room.detail,
            wanted=room.wanted,
            found=room.found,
            hint=room.hint,
        )


def _wake_cause(record: ModelRecord) -> Cause:
    first = next((w for w in record.waiters if w.ask is AskKind.WAKE), None)
    if first is not None:
        return first.cause
    assert record.owed_wake is not None
    return record.owed_wake


def serve_callers(draft: Draft) -> None:
    """Answer callers whose wish is true already or can never come true, and those whose time is up."""
    for name, record in list(draft.models.items()):
        for waiter in record.waiters:
            if waiter.ask is AskKind.WAKE:
                _serve_wake(draft, name, waiter.id)
            served = all(w.id != waiter.id for w in draft.models[name].waiters)
            if not served and waiter.deadline_s <= draft.mono_s:
                _time_out(draft, name, waiter.id)
        if draft.models[name].life.state is State.FAILED and draft.models[name].waiters:
            failure = draft.models[name].failure
            detail = failure.detail if failure else "it failed"
            refuse_all(draft, name, "failed", detail, f"when the cause is gone: sleepctl reset {name}")
        record = draft.models[name]
        if record.made_room and name not in draft.tasks and not any(w.ask is AskKind.WAKE for w in record.waiters):
            # Nobody waits any more for what others made room for.
            owe_wakes(draft, record.made_room, name)
            draft.change(name, made_room=())


def _time_out(draft: Draft, name: str, waiter_id: int) -> None:
    record = draft.models[name]
    waiter = next(w for w in record.waiters if w.id == waiter_id)
    task = draft.tasks.get(name)
    if task is not None:
        detail = f"{name} is not ready yet; the task goes on"
        draft.answer(name, waiter, AnswerKind.TIMED_OUT, task_id=task.id, problem="timeout", detail=detail)
        if task.kind is TaskKind.WAKE and not waiter.silent:
            # A wake that still makes room lasts as long as somebody wishes it: the promise just made is a wish.
            promised_s = max(GOES_ON_S, waiter.deadline_s - waiter.asked_s)
            wish = replace(waiter, silent=True, deadline_s=draft.mono_s + promised_s)
            draft.change(name, waiters=(*draft.models[name].waiters, wish))
        return
    problem = "engine_failed"
    if waiter.ask is AskKind.WAKE and record.life.state in (State.ASLEEP_L1, State.ASLEEP_L2):
        room = room_for(draft, name, task_id=None, barred=frozenset(), force=waiter.force)
        problem = room.problem if isinstance(room, WaitFor | Refuse) else "no_room"
    elif waiter.ask is AskKind.SLEEP:
        problem = "busy"
    draft.answer(name, waiter, AnswerKind.REFUSED, problem=problem, detail=f"{name}: {record.reason}")


def _serve_wake(draft: Draft, name: str, waiter_id: int) -> None:
    record = draft.models[name]
    waiter = next(w for w in record.waiters if w.id == waiter_id)
    state = record.life.state
    if state is State.AWAKE and isinstance(record.seen, Missing) and record.failure is not None:
        # Last seen awake, but it does not answer any more: nobody is sent there.
        detail = record.failure.detail
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail)
    elif state is State.AWAKE:
        last = record.last_wake
        task_id = last.task_id if last is not None and record.awake_since_s >= waiter.asked_s else None
        draft.answer(name, waiter, AnswerKind.DONE, task_id=task_id, level=0)
    elif state is State.UNKNOWN and record.failure is not None and record.failure.code in LOOK_FAILURES:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=record.failure.detail)
    elif state is State.LOST:
        detail = record.failure.detail if record.failure else "nothing answers"
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=START_HINT)
    elif state is State.FOREIGN:
        detail = f"{name} is held by somebody else: {record.reason}"
        hint = f"to take it back at once: sleepctl reset {name}"
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=hint)


def begin_sleeps(draft: Draft) -> None:
    """Begin what rules want of models with news, and the level 2 checks that are due."""
    if draft.stopping:
        return
    for name in sorted(draft.touched):
        record = draft.models.get(name)
        if record is None or name in draft.tasks:
            continue
        let_go(draft, name)
        record = draft.models[name]
        if record.life.state is State.PROVING:
            _prove(draft, name)
        if record.life.state is not State.AWAKE:
            continue
        if _verification_due(draft, record):
            begin_verification(draft, name)
            continue
        draft.memory = remember_rules(draft.world(), record, draft.mono_s)
        if not _free_to_sleep(draft, record):
            continue
        if _check_due(draft, record):
            begin_sleep(draft, name, 2, Cause(CauseKind.CHECK, "level 2"))
            continue
        if _prime_due(draft, record):
            begin_sleep(draft, name, 1, Cause(CauseKind.PRIME, "prime"))
            continue
        want, refusal = want_of(draft.world(), record, draft.mono_s)
        if want is not None:
            evidence = {c.name: c.found for r in want.evidence if r.holds for c in r.conditions}
            draft.note("rule", name, f"rule {want.rule} puts {name} to sleep at level {want.level}", evidence)
            begin_sleep(draft, name, want.level, Cause(CauseKind.RULE, want.rule))
        elif refusal:
            _tell_once(draft, name, f"stays awake: {refusal}")


def _tell_once(draft: Draft, name: str, reason: str) -> None:
    if draft.models[name].reason != reason:
        draft.change(name, reason=reason)
        draft.note("kept_awake", name, f"{name} {reason}")


def _prove(draft: Draft, name: str) -> None:
    record = draft.models[name]
    if not isinstance(record.seen, Known) or record.not_before_s > draft.mono_s:
        return
    in_use = bool(record.seen.value.running) or bool(record.seen.value.waiting)
    if uuids_of(draft, record) and not in_use and not _claimed(draft, record):
        begin_proof(draft, name)


def _verification_due(draft: Draft, record: ModelRecord) -> bool:
    """Whether to ask a model that serves since a wake: not in the wake's own turn, which owes its caller an answer."""
    if not record.unverified or record.fingerprint is None or not isinstance(record.seen, Known):
        return False
    return draft.mono_s >= record.awake_since_s + VERIFY_AFTER_S


def _claimed(draft: Draft, record: ModelRecord) -> bool:
    return bool((set(uuids_of(draft, record)) | {HOST_LOCK}) & claimed(draft))


def _free_to_sleep(draft: Draft, record: ModelRecord) -> bool:
    """Whether rules may put this awake model to sleep in this turn: known, unprotected, its GPUs unclaimed."""
    if not isinstance(record.seen, Known) or not isinstance(draft.gpus, Known) or not isinstance(draft.host, Known):
        return False
    if not uuids_of(draft, record) or protections(record, draft.mono_s) or _claimed(draft, record):
        return False
    wished = {
        u for r in wakes_waiting(draft) for u in uuids_of(draft, r) if wished_s(r) + BARRED_AFTER_S <= draft.mono_s
    }
    return not wished & set(uuids_of(draft, record))


def _prime_due(draft: Draft, record: ModelRecord) -> bool:
    """A model with `prime` sleeps once in its first idle moment, and is woken again: its backup is pinned then, which
    is what makes a first sleep slow. Not where the backup would not fit; that may change."""
    if not record.spec.prime or record.prime_failed or record.footprint.host_pinned or record.spec.max_level == 0:
        return False
    if record.spec.mode is Mode.OBSERVE:
        return False
    if idle_s(record, draft.mono_s) < record.spec.min_awake_s or is_busy(record):
        return False
    return not backup_refusal(draft.world(), record)


def _check_due(draft: Draft, record: ModelRecord) -> bool:
    """A model allowed at level 2 is checked in its first idle moment, once per release and arguments."""
    if record.spec.max_level < 2 or record.checking or record.check_failed or record.facts is None:
        return False
    if idle_s(record, draft.mono_s) < record.spec.min_awake_s or is_busy(record):
        return False
    refusal = level2_refusal(draft.world(), record)
    return refusal in (NO_ANSWER_YET, NOT_CHECKED)
