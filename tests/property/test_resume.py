"""Every prefix of every plan resumes: the daemon is killed at each commit and around each call, and begins again.

Afterwards nothing was given up, no engine was harmed, and each model is woken on demand and answers right.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_rig import Death, Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.dialect import capabilities
from sleepd.core.life import State
from sleepd.core.plan import Plan, Verb, plan_prove, plan_sleep, plan_wake, redirect, step_of
from sleepd.core.seen import EngineFacts
from sleepd.core.units import GIB
from sleepd.sim.vllm_faults import Fault

FIRST_GENERATION, RESUMES_EARLY, HELD, STAGED = "0.16.0", "0.22.1", "0.28.0", "0.32.0"


@dataclass(frozen=True, slots=True)
class Course:
    """One task to be interrupted. `faults` strike engine a during it."""

    what: str
    version: str
    faults: tuple[Fault, ...] = ()

    def __str__(self) -> str:
        faults = "".join(f", {f.kind}{' ' + f.path if f.path else ''}" for f in self.faults)
        return f"{self.what} {self.version}{faults}"

    def prepare(self) -> Rig:
        """A daemon that has found its models, with everything before the task done."""
        level2 = self.what.endswith("2")
        two = self.what == "victim"
        rig = Rig(
            self.version, ("a", "b") if two else ("a",), 2 if level2 else 1, kv_bytes=40 * GIB if two else 14 * GIB
        )
        rig.boot("a")
        rig.start()
        if self.what == "check2":
            rig.arm("a", *self.faults)
            return rig
        if level2:
            # The first idle moment is used to check level 2; from then on it may be chosen.
            assert rig.until(lambda: any(n.kind == "level2_proven" for n in rig.notes))
        assert rig.until(lambda: rig.state("a") is State.AWAKE and bool(rig.record("a").footprint.awake))
        if not self.what.startswith("sleep"):
            assert self._done(rig, rig.sleep("a", 2 if level2 else 1))
        if two:
            rig.boot("b")
            assert rig.until(lambda: rig.state("b") is State.AWAKE)
        rig.arm("a", *self.faults)
        return rig

    def begin(self, rig: Rig) -> None:
        if self.what == "check2":
            return
        if self.what.startswith("sleep"):
            rig.sleep("a", int(self.what.removeprefix("sleep")))
        else:
            rig.wake("a")

    @staticmethod
    def _done(rig: Rig, answers: list) -> bool:
        return rig.until(lambda: bool(answers)) and answers[0].kind is AnswerKind.DONE


FAIL_WAKE_ONCE = (Fault("fail_wake", blocks=2),)
FAIL_WAKE_ALWAYS = (Fault("fail_wake", blocks=2, times=9),)
COURSES = [
    *(Course("sleep1", v) for v in (FIRST_GENERATION, RESUMES_EARLY, HELD, STAGED)),
    *(Course("wake1", v) for v in (FIRST_GENERATION, RESUMES_EARLY, HELD, STAGED)),
    *(Course("wake2", v) for v in (RESUMES_EARLY, HELD, STAGED)),
    *(Course("victim", v) for v in (FIRST_GENERATION, STAGED)),
    *(Course("wake1", v, FAIL_WAKE_ONCE) for v in (HELD, STAGED)),
    *(Course("wake2", v, FAIL_WAKE_ONCE) for v in (HELD, STAGED)),
    *(Course("sleep2", v) for v in (RESUMES_EARLY, HELD, STAGED)),
    *(Course("check2", v) for v in (RESUMES_EARLY, STAGED)),
    # The second call to wake is the kv stage.
    *(Course("wake2", v, (Fault("fail_wake", blocks=2, skip=1),)) for v in (HELD, STAGED)),
    Course("wake2", STAGED, (Fault("fail_wake", blocks=2, skip=1, times=9),)),
    Course("wake1", STAGED, FAIL_WAKE_ALWAYS),
    Course("victim", STAGED, FAIL_WAKE_ONCE),
    Course("wake2", RESUMES_EARLY, (Fault("fail_reload"),)),
    Course("wake2", STAGED, (Fault("fail_reload"),)),
    Course("sleep1", RESUMES_EARLY, (Fault("fail_sleep", blocks=0),)),
    Course("sleep1", HELD, (Fault("fail_sleep", blocks=3),)),
    Course("sleep1", STAGED, (Fault("fail_sleep", blocks=3),)),
    Course("sleep1", STAGED, (Fault("lose_before", "/sleep"),)),
    Course("sleep1", STAGED, (Fault("lose_after", "/sleep"),)),
    Course("sleep1", STAGED, (Fault("fail_sleep", blocks=3), Fault("lose_after", "/sleep"))),
    Course("sleep1", STAGED, (Fault("fail_sleep", blocks=3), Fault("lose_before", "/sleep", skip=1))),
    Course("sleep1", STAGED, (Fault("fail_sleep", blocks=3), Fault("lose_after", "/sleep", skip=1))),
    *(Course("wake1", v, (Fault("lose_before", "/wake_up"),)) for v in (RESUMES_EARLY, STAGED)),
    *(Course("wake1", v, (Fault("lose_after", "/wake_up"),)) for v in (RESUMES_EARLY, STAGED)),
    *(Course("wake2", v, (Fault("lose_before", "/wake_up", skip=1),)) for v in (RESUMES_EARLY, STAGED)),
    *(Course("wake2", v, (Fault("lose_after", "/wake_up", skip=1),)) for v in (RESUMES_EARLY, STAGED)),
    Course("wake2", STAGED, (Fault("lose_after", "/collective_rpc"),)),
    Course("wake2", STAGED, (Fault("lose_before", "/collective_rpc"),)),
]


def deaths_of(course: Course) -> Iterator[Death]:
    """Every moment worth dying at, counted out on an undisturbed run."""
    rig = course.prepare()
    rig.count_from_here(None)
    course.begin(rig)
    rig.run(2.0)
    assert rig.until(rig.settled)
    commits, calls = rig.commits_and_calls()
    assert commits >= 2
    assert calls >= 1
    for n in range(1, commits + 1):
        yield Death("before commit", n)
        yield Death("after commit", n)
    for n in range(1, calls + 1):
        for late_s in (0.0, 0.3, 3.0):
            yield Death("call", n, late_s)


@pytest.mark.parametrize("course", COURSES, ids=str)
def test_a_task_cut_off_anywhere_is_gone_on_with(course):
    for death in [None, *deaths_of(course)]:
        rig = course.prepare()
        rig.count_from_here(death)
        course.begin(rig)
        told = f"{course}, death {death}"
        if death is not None:
            rig.die_and_revive()
        rig.run(2.0)
        assert rig.until(rig.settled), f"{told}: {rig.daemon.world.tasks} {[rig.record(n) for n in rig.names]}"
        for name in rig.names:
            rig.engine(name).disarm()
        assert rig.gave_up() == [], told
        for name in rig.names:
            rig.check_usable(name)
        assert rig.host.refused == 0, f"{told}: an out-of-memory reached an engine"


@pytest.mark.parametrize(
    ("what", "goal"), [("sleep1", State.ASLEEP_L1), ("wake1", State.AWAKE), ("wake2", State.AWAKE)]
)
def test_a_task_whose_call_went_out_reaches_its_goal(what, goal):
    course = Course(what, STAGED)
    # A sleep first takes the known answer and confirms idleness; a wake's first call is the wake.
    sent = 3 if what == "sleep1" else 1
    for death in [d for d in deaths_of(course) if d.where == "call" and d.n >= sent and d.late_s]:
        rig = course.prepare()
        rig.count_from_here(death)
        course.begin(rig)
        rig.die_and_revive()
        assert rig.until(rig.settled)
        assert rig.state("a") is goal, death


FAULTS = st.builds(
    Fault,
    st.sampled_from(["lose_before", "lose_after", "slow"]),
    st.sampled_from(["/sleep", "/wake_up", "/collective_rpc", "/reset_prefix_cache"]),
    seconds=st.sampled_from([0.2, 5.0]),
    skip=st.integers(0, 1),
)
DEATHS = st.builds(
    Death,
    st.sampled_from(["before commit", "after commit", "call"]),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.3, 3.0]),
)


@settings(max_examples=250, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from([c for c in COURSES if not c.faults]),
    st.lists(FAULTS, max_size=2),
    st.lists(DEATHS, min_size=1, max_size=3),
)
def test_a_daemon_that_dies_again_and_again_still_ends_well(course, faults, deaths):
    """Answers lost on top of it: no call of ours is ever refused by the engine here, so nothing may be given up."""
    rig = replace(course, faults=tuple(faults)).prepare()
    for i, death in enumerate(deaths):
        rig.count_from_here(death)
        if i == 0:
            course.begin(rig)
        if not rig.until(lambda: not rig.daemon.alive, 20.0):
            rig.spare()
            break
        rig.run(1.0)
        rig.daemon.start()
    rig.run(2.0)
    assert rig.until(rig.settled)
    rig.engine("a").disarm()
    assert rig.gave_up() == []
    for name in rig.names:
        rig.check_usable(name)
    assert rig.host.refused == 0


# --- plans as data -----------------------------------------------------------------------------------------------


def plans():
    release = st.sampled_from([(0, 10), (0, 16), (0, 22), (0, 27), (0, 28), (0, 32)])
    caps = release.map(lambda r: capabilities(EngineFacts(f"{r[0]}.{r[1]}.0", r, "pst:1", described=True), fenced=True))
    sleeps = st.builds(
        lambda level, wanted: plan_sleep(level, fingerprint_wanted=wanted), st.sampled_from([1, 2]), st.booleans()
    )
    wakes = st.builds(
        lambda level, c, doubtful, known: plan_wake(level, c, doubtful=doubtful, known=known),
        st.sampled_from([1, 2]),
        caps,
        st.booleans(),
        st.booleans(),
    )
    return sleeps | wakes | st.builds(lambda reload: plan_prove(reload=reload), st.booleans())


BOUNDED = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@BOUNDED
@given(plans(), st.integers(0, 9), st.lists(st.sampled_from(list(Verb)), max_size=3))
def test_a_redirected_plan_keeps_what_was_done(plan: Plan, done: int, verbs: list[Verb]):
    done = min(done, len(plan.steps))
    steps = tuple(step_of(v) for v in verbs)
    changed = redirect(plan, done, *steps)
    assert changed.steps[:done] == plan.steps[:done]
    assert changed.steps[done:] == steps
