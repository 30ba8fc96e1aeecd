"""What once went wrong inside a single turn of the core, each told as what has to hold."""

from dataclasses import replace

from core_worlds import AWAKE, FACTS, NOW, gpus, record, seen, world

from sleepd.core.beginning import begin
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.events import Evidence, ModelLooked, StepEnd, StepEnded, Tick
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Missing, MissingReason, Settings
from sleepd.core.plan import Plan, Verb, plan_prove, plan_sleep, step_of
from sleepd.core.records import Saved
from sleepd.core.seen import Activity, Fingerprint, KnownAnswer
from sleepd.core.task import Phase, Task, TaskKind
from sleepd.core.turn import Turn
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked
from sleepd.core.world import World


def probed(known: tuple[str, ...], found: tuple[str, ...]) -> Life:
    """The life of a doubtful model after its answer was compared once."""
    doubtful = record("a", Life(State.PROVING, Weights.DOUBTFUL), fingerprint=Fingerprint("prompt", known))
    cause = Cause(CauseKind.RECOVERY, "doubt")
    task = Task(1, "a", TaskKind.PROVE, 0, cause, plan_prove(reload=False), NOW.mono_s, 0, Phase.DO, running=True)
    made: World = replace(world(doubtful), tasks={"a": task})
    ended = StepEnded("a", 1, 0, StepEnd.DONE, Evidence(200, seen=seen(), answers={"": KnownAnswer(found)}))
    return step(made, [ended], NOW).world.models["a"].life


def test_answers_are_compared_as_far_as_both_go() -> None:
    """Each is cut where its runner-up came close, and where that is may shift by a token."""
    assert probed(("six", "seven"), ("six",)) == AWAKE
    assert probed(("six",), ("six", "seven")) == AWAKE
    assert probed(("six", "seven"), ("six", "eight")).state is State.PROVING
    assert probed(("six",), ()).state is State.PROVING


def test_who_wants_a_server_without_its_control_routes_is_refused_at_once() -> None:
    spec = record("a").spec
    made = begin(Settings({"a": spec}), Saved(), NOW).world
    missing = Missing(MissingReason.NO_DEV_MODE, "/is_sleeping is 404", NOW.mono_s)
    turn = step(step(made, [ModelLooked("a", missing)], NOW).world, [WakeAsked(1, "a", "test", 300.0)], NOW)
    answers = [(c.kind, c.problem) for c in turn.commands if isinstance(c, Answer)]
    assert answers == [(AnswerKind.REFUSED, "engine_failed")]


def fingerprinted(requests_done: int) -> Turn:
    """A rule's sleep takes the known answer; so many requests ended meanwhile, the daemon's own among them."""
    a = record("a", Life(State.DRAINING, Weights.LOADED), activity=Activity(0, 0, 0), fingerprint=None)
    plan = plan_sleep(1, fingerprint_wanted=True)
    task = Task(1, "a", TaskKind.SLEEP, 1, Cause(CauseKind.RULE, "nap"), plan, NOW.mono_s, running=True)
    made: World = replace(world(a), tasks={"a": task})
    look = seen(activity=Activity(9, 9, requests_done))
    answers, own = {"": KnownAnswer(("six",))}, Activity(9, 9, 1)
    evidence = Evidence(200, seen=look, answers=answers, spent=own)
    return step(made, [StepEnded("a", 1, 0, StepEnd.DONE, evidence)], NOW)


def test_a_request_that_ends_while_the_known_answer_is_taken_overtakes_the_sleep() -> None:
    alone = fingerprinted(requests_done=1).world
    assert (alone.models["a"].life.state, alone.tasks["a"].cursor) == (State.DRAINING, 1)
    overtaken = fingerprinted(requests_done=2).world
    assert (overtaken.models["a"].life, overtaken.tasks) == (AWAKE, {})


def test_a_strangers_level_2_sleep_that_nothing_can_be_compared_with_is_given_up_where_a_reload_is_not_enough() -> None:
    """vLLM 0.16 discards at level 0 what a reload does not bring back, and level 2 may have come after that."""
    facts = replace(FACTS, version="0.16.0", release=(0, 16, 0))
    of = record("a", Life(State.ASLEEP_L2, Weights.DOUBTFUL), spec={"fenced": True}, facts=facts)
    for known, state in ((None, State.FAILED), (Fingerprint("prompt", ("six",)), State.WAKING_WEIGHTS)):
        made = replace(world(replace(of, fingerprint=known)), gpus=gpus(70 * GIB, age_s=0.0))
        after = step(made, [WakeAsked(1, "a", "test", 300.0)], NOW).world.models["a"]
        assert after.life.state is state, after.reason


def test_a_wake_that_did_nothing_leaves_its_engine_asleep_when_its_room_goes_before_it_is_repeated() -> None:
    """Up to 0.27 a wake that failed is not repeated; one that was ignored is, and has nothing to put back."""
    facts = replace(FACTS, version="0.22.1", release=(0, 22, 1))
    task = Task(
        1, "a", TaskKind.WAKE, 1, Cause(CauseKind.OPERATOR, "alice"), Plan((step_of(Verb.WAKE),)), NOW.mono_s - 5.0
    )
    for refusals, resumed in ((1, State.ASLEEP_L1), (0, State.FAILED)):
        look = seen(facts=facts, is_sleeping=True)
        of = record("a", Life(State.BROKEN, Weights.OFFLOADED), facts=facts, seen=look)
        waits = replace(task, refusals=refusals, attempt=1, resume_s=NOW.mono_s - 1.0)
        made = replace(world(of, free=2 * GIB), tasks={"a": waits})
        after = step(made, [Tick()], NOW).world
        assert (after.models["a"].life.state, after.tasks) == (resumed, {})
