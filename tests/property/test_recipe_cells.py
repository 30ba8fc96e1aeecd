"""The recipe table, cell by cell, on simulated engines: this call of this release fails so, these calls follow, and
then the engine is right.

A cell names the release (one of each row), what failed, and how it ends: awake, asleep, or given up, which only another
process mends. What is sent from the failed call on is compared verb by verb, so any other remedy shows.
"""

from dataclasses import dataclass, field

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.plan import OBSERVES, Verb
from sleepd.sim.vllm_faults import Fault

OLDEST, UNFENCED_DIES, RESUMES_EARLY, HELD, REENTRANT, STAGED = (
    "0.10.0",
    "0.16.0",
    "0.22.1",
    "0.26.0",
    "0.30.0",
    "0.33.0",
)
ALL = (OLDEST, UNFENCED_DIES, RESUMES_EARLY, HELD, REENTRANT, STAGED)
AWAKE, L1, L2, GIVEN_UP = State.AWAKE, State.ASLEEP_L1, State.ASLEEP_L2, State.FAILED
V = Verb


def wake_fails(blocks: int, *, skip: int = 0, times: int = 1) -> Fault:
    return Fault("fail_wake", blocks=blocks, skip=skip, times=times)


@dataclass(frozen=True, slots=True)
class Cell:
    """`sent`: the calls that change something, from the failed one on. `ends`: where the task leaves the model."""

    release: str
    what: str
    faults: tuple[Fault, ...]
    sent: tuple[Verb, ...]
    ends: State
    ranks: int = 1

    def __str__(self) -> str:
        ranks = f", TP{self.ranks}" if self.ranks > 1 else ""
        faults = " + ".join(f"{f.kind} after {f.blocks} blocks ×{f.times}" for f in self.faults)
        return f"{self.release}{ranks}: {self.what} with {faults} -> {self.ends}"


def cells(releases: tuple[str, ...], what: str, faults: tuple[Fault, ...], sent: tuple[Verb, ...], ends: State):
    return [Cell(release, what, faults, sent, ends) for release in releases]


UP_TO_16, UP_TO_27, FROM_28 = (OLDEST, UNFENCED_DIES), (OLDEST, UNFENCED_DIES, RESUMES_EARLY, HELD), (REENTRANT, STAGED)
LEVEL2 = (UNFENCED_DIES, RESUMES_EARLY, HELD, REENTRANT, STAGED)
SLEEP_FAILS, SLEEP_FAILS_LATE = (Fault("fail_sleep", blocks=0),), (Fault("fail_sleep", blocks=3),)
RELOAD_FAILS, RELOAD_FAILS_ON = (Fault("fail_reload"),), (Fault("fail_reload", times=9),)
RESET_FAILS, RESET_FAILS_ON = (Fault("fail_reset_cache"),), (Fault("fail_reset_cache", times=9),)
# After the reload, in the order of the release; the known answer is compared and changes nothing.
HELD_REST, EARLY_REST = (V.RESET_PREFIX, V.WAKE_KV), (V.WAKE_KV, V.RESET_PREFIX)

CELLS = [
    # failed level 1 sleep
    *cells((OLDEST,), "sleep1", SLEEP_FAILS, (V.SLEEP_L1, V.WAKE), AWAKE),
    *cells(ALL[1:], "sleep1", SLEEP_FAILS, (V.SLEEP_L1, V.WAKE), AWAKE),
    *cells(UP_TO_27, "sleep1", SLEEP_FAILS_LATE, (V.SLEEP_L1,), GIVEN_UP),
    *cells(FROM_28, "sleep1", SLEEP_FAILS_LATE, (V.SLEEP_L1, V.RESLEEP_L1), L1),
    *cells(FROM_28, "sleep1", (Fault("fail_sleep", blocks=3, times=2),), (V.SLEEP_L1, V.RESLEEP_L1), GIVEN_UP),
    # failed level 1 wake
    *cells(UP_TO_27, "wake1", (wake_fails(2),), (V.WAKE,), GIVEN_UP),
    *cells((REENTRANT,), "wake1", (wake_fails(2),), (V.WAKE, V.WAKE), AWAKE),
    *cells((REENTRANT,), "wake1", (wake_fails(2, times=9),), (V.WAKE, V.WAKE, V.WAKE, V.WORKER_SLEEP_L1), L1),
    *cells((STAGED,), "wake1", (wake_fails(2),), (V.WAKE, V.WAKE_WEIGHTS, V.WAKE_KV), AWAKE),
    *cells(
        (STAGED,),
        "wake1",
        (wake_fails(2, times=9),),
        (V.WAKE, V.WAKE_WEIGHTS, V.WAKE_WEIGHTS, V.WORKER_SLEEP_L1),
        L1,
    ),
    *cells(
        (STAGED,),
        "wake1",
        (wake_fails(2), wake_fails(1, skip=1, times=9)),
        (V.WAKE, V.WAKE_WEIGHTS, V.WAKE_KV, V.WAKE_KV, V.WAKE_KV, V.RESLEEP_L1),
        L1,
    ),
    # level 2 wake: the weights stage fails
    *cells(LEVEL2[:3], "wake2", (wake_fails(2),), (V.WAKE_WEIGHTS,), GIVEN_UP),
    *cells(FROM_28, "wake2", (wake_fails(2),), (V.WAKE_WEIGHTS, V.WAKE_WEIGHTS, V.RELOAD, *HELD_REST), AWAKE),
    *cells(FROM_28, "wake2", (wake_fails(2, times=9),), (V.WAKE_WEIGHTS,) * 3, GIVEN_UP),
    # ... the reload fails
    *cells((UNFENCED_DIES,), "wake2", RELOAD_FAILS, (V.RELOAD,), GIVEN_UP),
    *cells((RESUMES_EARLY,), "wake2", RELOAD_FAILS, (V.RELOAD, V.RELOAD, *EARLY_REST), AWAKE),
    *cells((HELD, *FROM_28), "wake2", RELOAD_FAILS, (V.RELOAD, V.RELOAD, *HELD_REST), AWAKE),
    *cells((RESUMES_EARLY, HELD), "wake2", RELOAD_FAILS_ON, (V.RELOAD, V.RELOAD), GIVEN_UP),
    *cells((REENTRANT,), "wake2", RELOAD_FAILS_ON, (V.RELOAD,) * 3, GIVEN_UP),
    *cells((STAGED,), "wake2", RELOAD_FAILS_ON, (*((V.RELOAD,) * 3), V.RESLEEP_L2), L2),
    # ... the prefix cache is not emptied while the KV cache is still to come (told from 0.26 on)
    *cells((HELD, *FROM_28), "wake2", RESET_FAILS, (V.RESET_PREFIX, V.RESET_PREFIX, V.WAKE_KV), AWAKE),
    *cells((HELD, REENTRANT), "wake2", RESET_FAILS_ON, (V.RESET_PREFIX,) * 3, GIVEN_UP),
    *cells((STAGED,), "wake2", RESET_FAILS_ON, (*((V.RESET_PREFIX,) * 3), V.RESLEEP_L2), L2),
    # ... the KV stage fails
    *cells(LEVEL2[:3], "wake2", (wake_fails(2, skip=1),), (V.WAKE_KV,), GIVEN_UP),
    *cells(FROM_28, "wake2", (wake_fails(2, skip=1),), (V.WAKE_KV, V.WAKE_KV), AWAKE),
    *cells((REENTRANT,), "wake2", (wake_fails(2, skip=1, times=9),), (V.WAKE_KV,) * 3, GIVEN_UP),
    *cells((STAGED,), "wake2", (wake_fails(2, skip=1, times=9),), (*((V.WAKE_KV,) * 3), V.RESLEEP_L2), L2),
    # failed level 2 sleep: no release repairs one that released anything
    *cells(LEVEL2, "sleep2", SLEEP_FAILS, (V.SLEEP_L2, V.WAKE), AWAKE),
    *cells(LEVEL2, "sleep2", SLEEP_FAILS_LATE, (V.SLEEP_L2,), GIVEN_UP),
    # several ranks: one that failed leaves them out of step
    Cell(STAGED, "sleep1", SLEEP_FAILS, (V.SLEEP_L1,), GIVEN_UP, ranks=2),
    Cell(STAGED, "sleep1", SLEEP_FAILS_LATE, (V.SLEEP_L1,), GIVEN_UP, ranks=2),
    Cell(STAGED, "wake1", (wake_fails(2),), (V.WAKE,), GIVEN_UP, ranks=2),
    Cell(STAGED, "wake2", RELOAD_FAILS, (V.RELOAD,), GIVEN_UP, ranks=2),
    Cell(STAGED, "wake2", RESET_FAILS, (V.RESET_PREFIX, V.RESET_PREFIX, V.WAKE_KV), AWAKE, ranks=2),
]


@dataclass(slots=True)
class Wiretap:
    """The calls that changed something, in order, as they were sent."""

    rig: Rig
    verbs: list[Verb] = field(default_factory=list)

    def __post_init__(self) -> None:
        server = self.rig.servers["a"]
        send = server.call

        def call(verb: Verb, *rest: object) -> None:
            if verb not in OBSERVES:
                self.verbs.append(verb)
            send(verb, *rest)

        server.call = call


def prepare(cell: Cell) -> Rig:
    """A model that is awake, or asleep where the cell is about a wake; its level 2 was checked where that is used."""
    level = int(cell.what[-1])
    rig = Rig(cell.release, max_level=level, engine_more={"tensor_parallel_size": cell.ranks})
    rig.boot("a")
    rig.start()
    if level == 2:
        assert rig.until(lambda: any(n.kind == "level2_proven" for n in rig.notes)), rig.record("a")
    assert rig.until(lambda: rig.state("a") is AWAKE and bool(rig.record("a").footprint.awake))
    if cell.what.startswith("wake"):
        answers = rig.sleep("a", level)
        assert rig.until(lambda: bool(answers))
        assert answers[0].kind is AnswerKind.DONE, answers
    return rig


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_cell_of_the_recipe_table(cell):
    rig = prepare(cell)
    rig.arm("a", *cell.faults)
    tap = Wiretap(rig)
    answers = rig.sleep("a", int(cell.what[-1])) if cell.what.startswith("sleep") else rig.wake("a")
    assert rig.until(lambda: bool(answers))
    assert rig.until(rig.settled)
    failed = next(n for n, verb in enumerate(tap.verbs) if verb is cell.sent[0])
    assert tuple(tap.verbs[failed:]) == cell.sent
    assert rig.state("a") is cell.ends, rig.record("a").reason
    reached = cell.ends is AWAKE if cell.what.startswith("wake") else cell.ends in (L1, L2)
    assert (answers[0].kind is AnswerKind.DONE) is reached
    rig.engine("a").disarm()
    if cell.ends is GIVEN_UP:
        assert "restart" in rig.record("a").reason
        rig.run(60.0)
        assert rig.state("a") is GIVEN_UP, "nothing is tried on it by itself"
        rig.reboot("a")
        assert rig.until(lambda: rig.state("a") is AWAKE), rig.record("a")
    rig.check_usable("a")
    assert rig.host.refused == 0


def test_every_row_and_every_step_of_the_table_has_its_cells():
    covered = {(cell.release, cell.sent[0]) for cell in CELLS}
    assert covered >= {(release, verb) for release in ALL for verb in (V.SLEEP_L1, V.WAKE)}
    assert covered >= {
        (release, verb) for release in LEVEL2 for verb in (V.SLEEP_L2, V.WAKE_WEIGHTS, V.RELOAD, V.WAKE_KV)
    }
    assert {cell.release for cell in CELLS if cell.sent[0] is V.RESET_PREFIX} == {HELD, REENTRANT, STAGED}
