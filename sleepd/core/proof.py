"""The known answer: taken while the weights are certain, compared after a wake, believed wrong only when repeated."""

from collections.abc import Mapping

from sleepd.core.budget import close_account
from sleepd.core.commands import LookNow
from sleepd.core.dialect import level2_unsafe
from sleepd.core.draft import Draft
from sleepd.core.ends import give_up
from sleepd.core.events import Evidence, StepEnd, StepEnded
from sleepd.core.frozen import replace
from sleepd.core.known_answer import BASE, differing, is_noise, roots_of
from sleepd.core.life import Fact, State
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.orders import PROBE_PROMPT
from sleepd.core.plan import Verb, redirect, steps_reload
from sleepd.core.seen import Fingerprint, KnownAnswer
from sleepd.core.task import Task
from sleepd.core.tasks import carry_on, step_on

PROVE_AGAIN_S = 2.0
PROBE_RUNS = 3
"""A wrong answer is believed only when it came this often in a row with the gate shut."""
GONE_RUNS = 9
"""Where connections break, looks tell first whether the server is gone: a wake that it died of was no success."""
HUNG_S = 300.0
"""So long a core may be at one step and answer nobody: vLLM itself ends one whose workers take longer (vllm/envs.py,
VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS)."""


def has_reloaded(task: Task) -> bool:
    return any(step.verb is Verb.RELOAD for step in task.plan.steps[: task.cursor])


def take_answer(draft: Draft, task: Task, evidence: Evidence) -> None:
    """Remember what it says as the known answer, and go on."""
    record = draft.models[task.model]
    assert record.facts is not None
    adapters = {name: said for name, said in evidence.answers.items() if name != BASE}
    roots = {name: root for name, root in roots_of(record.facts).items() if name in adapters}
    if record.fingerprint is not None:
        draft.change(task.model, fingerprint=replace(record.fingerprint, adapters=adapters, roots=roots))
        step_on(draft, task)
        return
    base = evidence.answers[BASE]
    if draft.models[task.model].life.state is State.PROVING and is_noise(base):
        # Weights were read anew, and yet it says one token over and over: something else is lost that no reload brings
        # back (buffers: before 0.17 a stranger's /sleep?level=0 discards them too).
        draft.note("answer_wrong", task.model, f"{task.model} says one token over and over: quarantined")
        draft.state(task.model, Fact.ANSWER_WRONG)
        give_up(draft, task, "answer_wrong", "it says one token over and over after a reload; restart the server")
        return
    # Every question of one server is as long, but for what its adapters' templates add: the base model's counts.
    asked = evidence.spent.requests_done
    told = evidence.spent.prompt_tokens
    length = told // asked if asked and told % asked == 0 else None
    known = Fingerprint(PROBE_PROMPT, base.tokens, base.vector, adapters, length, roots)
    draft.change(task.model, fingerprint=known, not_provable="")
    if draft.models[task.model].life.state is State.PROVING:
        # Reloaded from its checkpoint by a recipe that is safe for this engine: what it says now is the known answer.
        draft.state(task.model, Fact.ANSWER_RIGHT)
    step_on(draft, task)


def compare_answer(draft: Draft, task: Task, answers: Mapping[str, KnownAnswer]) -> None:
    """Compare with the known answer; a mismatch is believed only after repeated runs with the gate shut."""
    name = task.model
    record = draft.models[name]
    assert record.fingerprint is not None
    serves = record.life.state is State.AWAKE
    wrong = differing(answers, record.fingerprint)
    if not wrong and serves:
        draft.change(name, unverified=False, untried=False)
        close_account(draft, name)
        draft.end_task(task, "its answer is right", done=True)
    elif not wrong:
        draft.state(name, Fact.ANSWER_RIGHT)
        step_on(draft, task)
    elif serves:
        draft.end_task(task, "another answer than the known one")
        draft.state(name, Fact.RECHECK_CHOSEN)
        reason = f"{_whose(wrong)} is another than the known one: asked again with the gate shut"
        draft.change(name, unverified=False, reason=reason)
        draft.note("answer_doubted", name, f"{name}: {reason}", {"names": list(wrong)})
    elif task.attempt + 1 < PROBE_RUNS:
        carry_on(draft, replace(task, attempt=task.attempt + 1))
    else:
        found = {whose or "base": list(answers.get(whose, KnownAnswer()).tokens) for whose in wrong}
        _believe_wrong(draft, task, _whose(wrong), found)


def compare_checksums(draft: Draft, task: Task, found: str) -> None:
    """Compare all weights with those of before the check's sleep. They are exact: one mismatch is believed."""
    known = draft.models[task.model].checksums
    if found and known and found != known:
        _believe_wrong(draft, task, "the checksum of its weights", {"checksums": found, "known": known})
        return
    draft.change(task.model, checksums=found)
    step_on(draft, task)


def _believe_wrong(draft: Draft, task: Task, what: str, found: Mapping[str, object]) -> None:
    """Read the weights anew where that is safe and was not done yet; else nobody gets these answers."""
    name = task.model
    record = draft.models[name]
    assert record.facts is not None
    if not has_reloaded(task) and not level2_unsafe(record.facts, fenced=record.spec.fenced):
        draft.note("answer_wrong", name, f"{name} answers wrongly after waking: its weights are read anew")
        plan = redirect(task.plan, task.cursor + 1, *steps_reload(known=True))
        carry_on(draft, replace(task, plan=plan, cursor=task.cursor + 1, attempt=0))
        return
    text = f"{name} is not right after waking, {what} changed: quarantined"
    draft.note("answer_wrong", name, text, {"found": found})
    draft.state(name, Fact.ANSWER_WRONG)
    detail = f"{what} changed: the weights are not what they were; restart the server"
    give_up(draft, task, "answer_wrong", detail)


def _whose(wrong: tuple[str, ...]) -> str:
    return "its answer" if BASE in wrong else f"the answer of its adapter {', '.join(wrong)}"


def ask_again(draft: Draft, task: Task, event: StepEnded, runs: int) -> Task | None:
    """Ask a question that got no answer once more; the task as it is where that was done `runs` times. An engine that
    answers nothing else either is asked on until it counts as one that hangs."""
    task = _note_signs(draft, task, event)
    unsure = _is_silent(event) and 0.0 < draft.mono_s - task.drained_s < HUNG_S
    if event.end is StepEnd.NOT_PROVABLE or (task.attempt + 1 >= runs and not unsure):
        return task
    draft.put_task(replace(task, attempt=task.attempt + 1, resume_s=draft.mono_s + PROVE_AGAIN_S))
    return None


def _note_signs(draft: Draft, task: Task, event: StepEnded) -> Task:
    """The task with when its engine was last seen to get on: it answered a look that waits for its core, or computed
    something for anybody, which polls show meanwhile."""
    seen = draft.models[task.model].seen
    counted = seen.value.activity if isinstance(seen, Known) else task.drained
    if isinstance(event.evidence.seen, Known) or task.drained_s == 0.0 or counted != task.drained:
        return replace(task, drained=counted, drained_s=draft.mono_s)
    return task


def is_in_use(event: StepEnded, *, others_used: bool) -> bool:
    """Whether a question waited in vain behind those of others: something of theirs was computed since the look before,
    or more is in the engine than the question, which is counted until its end is known there."""
    seen = event.evidence.seen
    if event.end is not StepEnd.UNANSWERED or not isinstance(seen, Known):
        return False
    return others_used or (seen.value.running or 0) + (seen.value.waiting or 0) > 1


def _is_silent(event: StepEnded) -> bool:
    """Whether neither the question was answered nor /is_sleeping, which waits for the same core."""
    seen = event.evidence.seen
    timed_out = isinstance(seen, Missing) and seen.reason is MissingReason.TIMED_OUT
    return event.end is StepEnd.UNANSWERED and timed_out


def not_verified(draft: Draft, task: Task, event: StepEnded) -> None:
    """A question to an engine that serves already got no answer: ask again a few times. Then one whose page answers,
    and whose core has not shown any sign of getting on for `HUNG_S`, hangs, whatever its /health says, and is given up;
    any other is let be, and that is said."""
    name = task.model
    nobody = event.end is StepEnd.BROKEN_OFF
    left = ask_again(draft, task, event, GONE_RUNS if nobody else PROBE_RUNS)
    if left is None:
        if nobody:
            draft.command(LookNow(model=name))
        return
    task = draft.put_task(left)
    detail = event.evidence.detail or event.end.value
    hangs = _is_silent(event) and draft.mono_s - task.drained_s >= HUNG_S
    if hangs and isinstance(draft.models[name].seen, Known):
        draft.state(name, Fact.GAVE_UP)
        told = f"it is awake, and answers neither a question nor /is_sleeping ({detail}): restart the server"
        give_up(draft, task, "wedged", told)
        return
    draft.end_task(task, f"not verified: {detail}")
    draft.change(name, unverified=False, reason=f"awake; its answer could not be compared ({detail})")
    close_account(draft, name)
    draft.note("not_provable", name, f"{name} serves, but its answer could not be compared: {detail}")
