"""What timeouts come to, by the gaps alone."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.replay.hosts import Costs, bundled_host
from sleepd.replay.trace import Arrival, Trace
from sleepd.tuning.curves import NEVER, TIMEOUTS_S, Choice, arrivals_of, choices_of, frontier_of, read_habit
from sleepd.tuning.target import Aim, Target, measure_point

COSTS: Costs = bundled_host().default
DAY_S = 86400.0


def arrivals(*moments: float, model: str = "m") -> list[Arrival]:
    """Requests that take a second each."""
    return [Arrival(at_s, model, 0, round(COSTS.output_tokens_per_s)) for at_s in moments]


def choice(timeout_s: float, *moments: float, allowed_s: float = 0.0, end_s: float = 1000.0) -> Choice:
    habit = read_habit(arrivals(*moments), COSTS, COSTS.wake1_s, allowed_s, end_s)
    (found,) = choices_of(habit, COSTS, 1, 1, [timeout_s])
    return found


def held_s(found: Choice) -> float:
    return round(found.gib_h * 3600 / 36, 6)


def test_a_gap_shorter_than_the_timeout_is_spent_awake_and_nobody_waits() -> None:
    found = choice(300.0, 0.0, 100.0)
    assert found.late == 1, "the first alone: it finds the model asleep"
    assert held_s(found) == 1 + 99 + 1 + 300, "two requests, the gap, and the timeout behind the last"


def test_a_longer_gap_costs_the_timeout_and_the_switches_and_whoever_ends_it_waits() -> None:
    found = choice(50.0, 0.0, 100.0, 101.0)
    assert found.late == 3, "the first, the one that ends the gap, and the one that comes while it is woken"
    assert held_s(found) == round(1 + 50 + COSTS.sleep1_s + COSTS.wake1_s + 2 + 50, 6)


def test_who_comes_so_late_that_the_rest_of_the_wake_is_allowed_does_not_count() -> None:
    assert choice(50.0, 0.0, 100.0, 101.0, allowed_s=1.0).late == 2, "the last waits half a second"
    assert choice(50.0, 0.0, 100.0, 101.0, allowed_s=2.0).late == 0, "no wake takes as long as that"


def test_requests_side_by_side_leave_no_gap() -> None:
    habit = read_habit(arrivals(0.0, 0.5, 0.7), COSTS, COSTS.wake1_s, 0.0, 10.0)
    assert habit.gaps == ()
    assert round(habit.busy_s, 6) == 1.7


def test_a_model_that_never_sleeps_keeps_the_first_wait_alone() -> None:
    assert choice(NEVER, 0.0, 100.0, 900.0, end_s=2000.0).late == 1


traffic = st.lists(st.tuples(st.floats(0, 2 * DAY_S), st.sampled_from(["a", "b", "c"])), min_size=1, max_size=60).map(
    lambda found: Trace(tuple(Arrival(at_s, model, 100, 100) for at_s, model in sorted(found)))
)


@given(traffic)
@settings(max_examples=50, deadline=None)
def test_more_gpu_hours_never_mean_more_waits(trace: Trace) -> None:
    asked = arrivals_of(trace)
    choices = {}
    for model, of in asked.items():
        habit = read_habit(of, COSTS, COSTS.wake1_s, 0.0, trace.end_s)
        choices[model] = choices_of(habit, COSTS, 1, 1, TIMEOUTS_S)
        for cheaper, dearer in pairwise(choices[model]):
            assert cheaper.gib_h < dearer.gib_h
            assert cheaper.late > dearer.late
    frontier = frontier_of(choices, len(trace.arrivals))
    for cheaper_point, dearer_point in pairwise(frontier.points):
        assert cheaper_point.gib_h <= dearer_point.gib_h
        assert cheaper_point.late > dearer_point.late
    assert frontier.points[-1].late == sum(of[-1].late for of in choices.values())


@given(traffic)
@settings(max_examples=50, deadline=None)
def test_no_timeout_for_all_is_better_for_its_cost_than_the_frontier(trace: Trace) -> None:
    """Whatever one timeout for all comes to, some point costs no more and keeps no more waiting, give or take one
    model's step: what lies between two points is not a whole model's."""
    choices, alike = {}, {}
    for model, of in arrivals_of(trace).items():
        habit = read_habit(of, COSTS, COSTS.wake1_s, 0.0, trace.end_s)
        choices[model] = choices_of(habit, COSTS, 1, 1, TIMEOUTS_S)
        for timeout_s in TIMEOUTS_S:
            (alone,) = choices_of(habit, COSTS, 1, 1, [timeout_s])
            gib_h, late = alike.get(timeout_s, (0.0, 0))
            alike[timeout_s] = gib_h + alone.gib_h, late + alone.late
    points = frontier_of(choices, len(trace.arrivals)).points
    steps = max((a.late - b.late for a, b in pairwise(points)), default=0)
    for gib_h, late in alike.values():
        within = [point for point in points if point.gib_h <= gib_h + 1e-9]
        assert not within or within[-1].late <= late + steps


@given(traffic)
@settings(max_examples=50, deadline=None)
def test_of_one_model_every_timeout_that_no_other_beats_may_be_had(trace: Trace) -> None:
    for model, of in arrivals_of(trace).items():
        habit = read_habit(of, COSTS, COSTS.wake1_s, 0.0, trace.end_s)
        found = [choices_of(habit, COSTS, 1, 1, [timeout_s])[0] for timeout_s in TIMEOUTS_S]
        points = frontier_of({model: choices_of(habit, COSTS, 1, 1, TIMEOUTS_S)}, len(of)).points
        had = {(point.gib_h, point.late) for point in points}
        for one in found:
            beaten = any(o.gib_h <= one.gib_h and o.late <= one.late and o[1:] != one[1:] for o in found)
            assert ((one.gib_h, one.late) in had) is not beaten


def test_a_target_is_met_by_what_it_speaks_of() -> None:
    trace = Trace(tuple(arrivals(*(600.0 * n for n in range(20)))))
    habit = read_habit(trace.arrivals, COSTS, COSTS.wake1_s, 0.0, trace.end_s)
    points = frontier_of({"m": choices_of(habit, COSTS, 1, 1, TIMEOUTS_S)}, 20).points
    cheap, dear = measure_point(points[0], 20), measure_point(points[-1], 20)
    assert (cheap.late_share, dear.late_share) == (1.0, 0.05)
    waited, hours = Target(Aim.WAITED, 0.05), Target(Aim.GIB_HOURS, dear.gib_h * 0.9)
    assert waited.is_met(dear)
    assert not waited.is_met(cheap)
    assert waited.is_better(dear, cheap)
    assert hours.is_met(cheap)
    assert hours.is_better(cheap, dear)
