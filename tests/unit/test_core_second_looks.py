"""Where one look is not enough to refuse, to give up or to serve: a request that is over, a reading from before the
wish, memory that a half-done wake holds already, an answer that cannot be had, a server that went silent, a proof that
waited for its turn behind a slow disk."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, AWAKE, FACTS, KNOWN_ANSWER, NOW, gpus, later, record, seen, world

from sleepd.core.commands import Answer, AnswerKind, LookNow, OpenGate, RunStep
from sleepd.core.dialect import capabilities
from sleepd.core.events import Evidence, GpusLooked, ModelLooked, StepEnd, StepEnded
from sleepd.core.known_answer import BASE
from sleepd.core.late_looks import LOOKS_AGAIN
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step, wants_processes
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason
from sleepd.core.plan import COUNTED_AS, WAKES, Plan, Verb, plan_prove, plan_sleep, plan_wake, step_of
from sleepd.core.record import AskKind, ModelRecord, Waiter
from sleepd.core.seen import Activity, CallCount, ControlCounts
from sleepd.core.task import Intent, Phase, Task, TaskKind
from sleepd.core.turn import Turn
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked
from sleepd.core.world import World

OPERATOR = Cause(CauseKind.OPERATOR, "test")


def sleeping(cause: Cause) -> World:
    """Its gate is shut, and its idleness is about to be confirmed."""
    waiter = Waiter(7, AskKind.SLEEP, cause, NOW.mono_s, NOW.mono_s + 60.0, level=1)
    waiters = (waiter,) if cause.kind is CauseKind.OPERATOR else ()
    a = record("a", Life(State.DRAINING, Weights.LOADED), waiters=waiters, activity=Activity(), fingerprint=None)
    plan = plan_sleep(1, fingerprint_wanted=False)
    return replace(world(a), tasks={"a": Task(1, "a", TaskKind.SLEEP, 1, cause, plan, NOW.mono_s, running=True)})


def moved(requests_done: int, *, running: int = 0, cursor: int = 0) -> StepEnded:
    """The look finds that requests were done since the one before."""
    look = seen(running=running, activity=Activity(10 * requests_done, requests_done, requests_done))
    return StepEnded("a", 1, cursor, StepEnd.BUSY, Evidence(detail="a request reached it", seen=look))


def test_a_request_that_has_ended_is_looked_at_twice_before_a_person_is_refused() -> None:
    turn = step(sleeping(OPERATOR), [moved(1)], NOW)
    assert answers(turn) == []
    assert turn.world.models["a"].life.state is State.DRAINING
    again = step(turn.world, [], later(0.2))
    assert again.world.tasks["a"].running
    quiet = StepEnded("a", 1, 0, StepEnd.DONE, moved(1).evidence)
    done = step(again.world, [quiet], later(0.3))
    assert done.world.models["a"].life.state is State.FALLING_ASLEEP
    busy = step(again.world, [moved(2)], later(0.3))
    assert answers(busy) == [(AnswerKind.REFUSED, "busy")]
    assert busy.world.models["a"].life == AWAKE


@pytest.mark.parametrize(
    ("cause", "running"), [(Cause(CauseKind.RULE, "nap"), 0), (OPERATOR, 1), (Cause(CauseKind.CHECK, "level 2"), 0)]
)
def test_rules_and_requests_that_run_end_it_at_once(cause: Cause, running: int) -> None:
    turn = step(sleeping(cause), [moved(1, running=running)], NOW)
    assert turn.world.models["a"].life == AWAKE
    assert turn.world.tasks == {}


def proving(a: ModelRecord, plan: Plan, cursor: int) -> World:
    task = Task(1, "a", TaskKind.PROVE, 0, Cause(CauseKind.RECOVERY, "doubt"), plan, NOW.mono_s, cursor, Phase.DO)
    return replace(world(a), tasks={"a": replace(task, running=True)})


def not_provable(cursor: int) -> StepEnded:
    return StepEnded("a", 1, cursor, StepEnd.NOT_PROVABLE, Evidence(200, "too close to tell apart", seen=seen()))


def test_without_an_answer_to_be_known_by_a_reloaded_model_serves() -> None:
    """An embedding model, or one whose first token is a tie: before, it was given up for good."""
    plan = plan_prove(reload=True)
    cursor = next(i for i, s in enumerate(plan.steps) if s.verb is Verb.FINGERPRINT)
    doubtful = record("a", Life(State.PROVING, Weights.DOUBTFUL), fingerprint=None)
    turn = step(proving(doubtful, plan, cursor), [not_provable(cursor)], NOW)
    found = turn.world.models["a"]
    assert (found.life, found.failure, found.fingerprint) == (AWAKE, None, None)
    assert any("has no answer to be known by" in note.text for note in turn.notes)


def test_without_a_reload_nothing_unproven_serves() -> None:
    plan = Plan((step_of(Verb.FINGERPRINT),))
    doubtful = record("a", Life(State.PROVING, Weights.DOUBTFUL), fingerprint=None)
    turn = step(proving(doubtful, plan, 0), [not_provable(0)], NOW)
    assert turn.world.models["a"].life.state is State.FAILED


def wake_asked() -> WakeAsked:
    return WakeAsked(3, "a", "test", 60.0)


def answers(turn: Turn) -> list[tuple[AnswerKind, str]]:
    return [(c.kind, c.problem) for c in turn.commands if isinstance(c, Answer)]


def test_nobody_is_refused_room_by_a_reading_from_before_the_wish() -> None:
    """Who ends the process that held the GPU, and then asks, must not be told what was true before."""
    full = replace(world(record("a", ASLEEP), free=2 * GIB), gpus=gpus(2 * GIB, age_s=0.2))
    asked = step(full, [wake_asked()], NOW)
    assert answers(asked) == []
    assert LookNow(gpus=True) in asked.commands
    still_full = step(asked.world, [GpusLooked(gpus(2 * GIB, age_s=-0.1))], later(0.2))
    assert answers(still_full) == [(AnswerKind.REFUSED, "no_room")]
    freed = step(asked.world, [GpusLooked(gpus(60 * GIB, age_s=-0.1))], later(0.2))
    assert freed.world.models["a"].life.state is State.WAKING


def test_what_a_half_done_wake_holds_is_asked_for_before_it_is_repeated() -> None:
    """Without process lists its own blocks would count as somebody else's, and there would be no room to go on."""
    caps = capabilities(FACTS, fenced=False)
    plan = plan_wake(1, caps, doubtful=False, known=True)
    task = Task(1, "a", TaskKind.WAKE, 1, OPERATOR, plan, NOW.mono_s, resume_s=NOW.mono_s + 1.0)
    placed = record("a", Life(State.BROKEN, Weights.OFFLOADED), placed_on=("GPU-0",))
    assert wants_processes(replace(world(placed), tasks={"a": task}))
    asleep = record("a", ASLEEP, placed_on=("GPU-0",), listed_s=NOW.mono_s)
    assert not wants_processes(world(asleep))
    assert wants_processes(world(replace(asleep, since_s=NOW.mono_s + 1.0))), "what it holds in this state is not known"


def test_who_asks_for_an_awake_model_that_went_silent_is_told_so() -> None:
    silent = Missing(MissingReason.TIMED_OUT, "no answer within 5 s")
    gone = record("a", AWAKE, seen=silent, failed_polls=3)
    assert answers(step(world(gone), [wake_asked()], NOW)) == [(AnswerKind.REFUSED, "engine_failed")]


def test_requests_that_hold_the_prefix_cache_of_an_engine_to_be_proven_are_waited_for() -> None:
    """Direct traffic after a reload: the cache is emptied in the first gap, and nothing has failed until then."""
    plan = plan_prove(reload=True)
    cursor = next(i for i, s in enumerate(plan.steps) if s.verb is Verb.RESET_PREFIX)
    doubtful = record("a", Life(State.PARTIALLY_AWAKE, Weights.DOUBTFUL), fingerprint=None)
    made = proving(doubtful, plan, cursor)
    held = StepEnded("a", 1, cursor, StepEnd.REFUSED, Evidence(409, "held by requests", seen=seen()))
    for _ in range(10):
        turn = step(made, [held], NOW)
        found = turn.world.models["a"]
        assert (found.life.state, found.failure) == (State.PARTIALLY_AWAKE, None)
        made = step(turn.world, [], later(5.0)).world
        assert made.tasks["a"].running


def last_step(kind: TaskKind, state: State, verb: Verb, phase: Phase = Phase.DO) -> World:
    """Its gate opens after this step, if it ends well."""
    a = record("a", Life(state, Weights.LOADED), control=ControlCounts(), fingerprint=KNOWN_ANSWER)
    plan = Plan((step_of(verb),))
    intent = Intent("pst:1", ControlCounts(), {"GPU-0": 2 * GIB})
    uncounted = (verb,) if verb in COUNTED_AS and phase is not Phase.FENCE else ()
    started_s = NOW.mono_s
    task = Task(
        1, "a", kind, 1, OPERATOR, plan, started_s, phase=phase, running=True, intent=intent, uncounted=uncounted
    )
    return replace(world(a), tasks={"a": task})


def shown_at(seconds: float, *, sleeps: bool = False) -> StepEnded:
    look = replace(seen(is_sleeping=sleeps), at_s=NOW.mono_s + seconds, asked_at_s=NOW.mono_s + seconds)
    answers = {BASE: KNOWN_ANSWER.base}
    return StepEnded("a", 1, 0, StepEnd.DONE, Evidence(200, "", answered_s=look.at_s, seen=look, answers=answers))


LAST_STEPS = [
    (TaskKind.WAKE, State.WAKING, Verb.WAKE, Phase.DO),
    (TaskKind.WAKE, State.PARTIALLY_AWAKE, Verb.WAKE_KV, Phase.DO),
    (TaskKind.WAKE, State.WAKING, Verb.WAKE, Phase.FENCE),
    (TaskKind.WAKE, State.PROVING, Verb.RESET_PREFIX, Phase.DO),
    (TaskKind.SLEEP, State.WAKING, Verb.WAKE, Phase.UNDO),
    (TaskKind.PROVE, State.PROVING, Verb.PROBE, Phase.DO),
    (TaskKind.PROVE, State.PROVING, Verb.FINGERPRINT, Phase.DO),
]


@pytest.mark.parametrize(("kind", "state", "verb", "phase"), LAST_STEPS)
def test_a_gate_opens_only_on_what_was_seen_within_a_poll(
    kind: TaskKind, state: State, verb: Verb, phase: Phase
) -> None:
    """A commit of half a minute kept the end of a wake waiting; a stranger had put the engine to sleep by then."""
    before = last_step(kind, state, verb, phase)
    late = before.settings.poll_every_s + 0.1
    assert is_opened(step(before, [shown_at(0.0)], later(0.1)))
    waited = step(before, [shown_at(0.0)], later(late))
    assert not is_opened(waited)
    (again,) = [c.order for c in waited.commands if isinstance(c, RunStep)]
    looks = verb in WAKES
    assert again.step.verb is (Verb.FENCE if looks else verb), "a wake is never sent twice"
    assert is_opened(step(waited.world, [shown_at(late)], later(late + 0.1)))


@pytest.mark.parametrize(("kind", "state", "verb", "phase"), LAST_STEPS)
def test_a_disk_that_stays_slow_does_not_keep_a_gate_shut_for_ever(
    kind: TaskKind, state: State, verb: Verb, phase: Phase
) -> None:
    """Every end waits for somebody else's commit of half a minute: each look is as old as what polls tell by then."""
    made = last_step(kind, state, verb, phase)
    for looks in range(LOOKS_AGAIN):
        turn = step(made, [shown_at(30.0 * looks)], later(30.0 * (looks + 1)))
        assert not is_opened(turn)
        made = turn.world
    assert is_opened(step(made, [shown_at(30.0 * LOOKS_AGAIN)], later(30.0 * (LOOKS_AGAIN + 1))))


def test_an_engine_that_sleeps_by_then_stays_shut() -> None:
    waited = step(last_step(*LAST_STEPS[0]), [shown_at(0.0)], later(30.0))
    slept = replace(shown_at(30.0, sleeps=True).evidence, seen=seen(is_sleeping=True, control=SLEPT))
    found = step(waited.world, [replace(shown_at(30.0), evidence=slept)], later(30.1))
    assert not is_opened(found)
    assert found.world.models["a"].life.state is State.UNKNOWN


def found_awake_at(seconds: float) -> ModelLooked:
    at_s = NOW.mono_s + seconds
    return ModelLooked("a", replace(seen(control=ControlCounts()), at_s=at_s, asked_at_s=at_s), 0)


def test_a_first_look_opens_a_gate_only_within_a_poll() -> None:
    """A server comes up, and the commit of somebody else's turn keeps what was seen of it for half a minute."""
    unknown = world(record("a", Life(State.UNKNOWN, Weights.LOADED)))
    assert is_opened(step(unknown, [found_awake_at(0.0)], later(0.1)))
    late = unknown.settings.poll_every_s + 0.1
    waited = step(unknown, [found_awake_at(0.0)], later(late))
    assert not is_opened(waited)
    assert LookNow(model="a") in waited.commands
    assert is_opened(step(waited.world, [found_awake_at(late)], later(late + 0.1)))


def test_first_looks_that_are_always_late_are_believed_in_the_end() -> None:
    made = world(record("a", Life(State.UNKNOWN, Weights.LOADED)))
    for looks in range(LOOKS_AGAIN):
        turn = step(made, [found_awake_at(30.0 * looks)], later(30.0 * (looks + 1)))
        assert not is_opened(turn)
        made = turn.world
    opened = step(made, [found_awake_at(30.0 * LOOKS_AGAIN)], later(30.0 * (LOOKS_AGAIN + 1)))
    assert is_opened(opened)
    assert opened.world.models["a"].looked_again == 0


SLEPT = ControlCounts(sleep=CallCount(ok=1), wake=CallCount(ok=1))


def is_opened(turn: Turn) -> bool:
    return any(isinstance(c, OpenGate) for c in turn.commands) and turn.world.models["a"].life == AWAKE


@pytest.mark.parametrize(
    ("running", "waiting", "state"),
    [(1, 0, State.SLEEP_PENDING), (None, None, State.SLEEP_PENDING), (0, 1, State.FAILED), (0, 0, State.UNKNOWN)],
)
def test_a_drain_without_a_moved_counter_is_stuck_only_where_nothing_runs(
    running: int | None, waiting: int | None, state: State
) -> None:
    """Its core answers: what runs is slow; where others only wait, what the sleep waited for is over, and it did not
    come; and an idle one is paused by somebody else."""
    a = record("a", Life(State.SLEEP_PENDING, Weights.OFFLOADED), control=ControlCounts(), activity=Activity())
    plan = plan_sleep(1, fingerprint_wanted=False)
    cursor = next(i for i, s in enumerate(plan.steps) if s.verb is Verb.SLEEP_L1)
    intent = Intent("pst:1", ControlCounts(), {"GPU-0": 40 * GIB})
    sent_s = NOW.mono_s - 301.0
    task = Task(1, "a", TaskKind.SLEEP, 1, OPERATOR, plan, sent_s, cursor, Phase.FENCE, running=True, intent=intent)
    task = replace(task, sent_s=sent_s, drained=Activity(), drained_s=sent_s)
    look = seen(
        is_sleeping=True, running=running, waiting=waiting, control=ControlCounts(), activity=Activity(), pids=()
    )
    ended = StepEnded("a", 1, cursor, StepEnd.DONE, Evidence(seen=look, gpus_after=gpus(40 * GIB, age_s=0.0)))
    turn = step(replace(world(replace(a, seen=look)), tasks={"a": task}), [ended], NOW)
    assert turn.world.models["a"].life.state is state
    assert [n.kind for n in turn.notes].count("held_up") == (state is State.SLEEP_PENDING)
