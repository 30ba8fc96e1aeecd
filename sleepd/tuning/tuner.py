"""From a trace, the present rules and a host to timeouts: forecast on the gaps, then played against the neighbours."""

from collections.abc import Callable
from dataclasses import dataclass

from sleepd.core.model import Settings
from sleepd.core.units import Seconds, WallS, format_duration
from sleepd.replay.account import Account
from sleepd.replay.outcome import Outcome, outcome_of
from sleepd.replay.shell import Replay
from sleepd.replay.stage import Stage
from sleepd.replay.trace import Trace
from sleepd.tuning.curves import TIMEOUTS_S, Choice, Point, arrivals_of, choices_of, frontier_of, read_habit
from sleepd.tuning.levels import choose_levels
from sleepd.tuning.rules import Nap, naps_of, replaced_rules, timeout_now, with_naps
from sleepd.tuning.search import search
from sleepd.tuning.target import Aim, Measure, Target, measure_account

SHORTEST_S: Seconds = 86400.0
"""Less than a day says nothing of nights."""


class TooLittle(Exception):
    """Nothing can be told from so few requests: what was wanted and what was found."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What was asked for. A GiB-hours limit may be a share of what the present rules take."""

    aim: Aim
    limit: float
    of_present: bool = False


@dataclass(frozen=True, slots=True)
class Tuned:
    """One model: its plain timeout now and then (infinite: none), its level, and the rules that go for it."""

    now_s: Seconds
    then_s: Seconds
    level: int
    replaced: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`met`: the target, as played. `kept`: nothing that was tried is better than what is. `plays`: all of them, that
    of the present rules too. `configured`: the models that the configuration has. A file can say nothing of others:
    they keep what they have, unless all are such."""

    target: Target
    met: bool
    kept: bool
    before: Outcome
    after: Outcome
    models: dict[str, Tuned]
    naps: tuple[Nap, ...]
    configured: frozenset[str]
    plays: int


def tune(
    stage: Stage,
    trace: Trace,
    goal: Goal,
    *,
    start_wall_s: WallS,
    plays: int,
    shortest_s: Seconds = 0.0,
    told: Callable[[int], None] = lambda played: None,
) -> Proposal:
    """Return the timeouts that meet the goal best. Plays the trace at most `plays` times beside once for the present
    rules, and calls `told` with the number before each. `shortest_s`: no timeout below it is tried. Raises TooLittle.
    """
    if trace.end_s < SHORTEST_S:
        found = f"{len(trace.arrivals)} over {format_duration(round(trace.end_s))}"
        raise TooLittle(f"wanted requests over at least {format_duration(SHORTEST_S)}, found {found}")
    settings = stage.settings

    def play(settings: Settings) -> Account:
        return Replay(
            settings, stage.host, stage.servers(), trace, start_wall_s=start_wall_s, queue_limit=stage.queue_limit
        ).run()

    told(1)
    present = play(settings)
    before = outcome_of(present, trace.end_s)
    limit = goal.limit * before["total"]["awake_gpu_gib_h"] if goal.of_present else goal.limit
    target = Target(goal.aim, limit)
    asked = arrivals_of(trace)
    tuned = asked.keys() - set(stage.added) or asked.keys()
    levels = choose_levels(settings, stage.host, {m: sum(present.models[m].wakes.values()) for m in asked})
    choices: dict[str, tuple[Choice, ...]] = {}
    for model, arrivals in asked.items():
        costs, level = stage.host.costs(model), levels[model]
        habit = read_habit(arrivals, costs, costs.wake_s(level), target.allowed_s, trace.end_s)
        timeouts_s = [timeout_s for timeout_s in TIMEOUTS_S if timeout_s >= shortest_s]
        if model not in tuned:
            timeouts_s = [timeout_now(settings, model)[0]]
        choices[model] = choices_of(habit, costs, len(stage.gpus_of[model]), level, timeouts_s)
    played = 1

    def try_out(point: Point) -> tuple[Measure, Outcome]:
        nonlocal played
        played += 1
        told(played)
        account = play(with_naps(settings, naps_of(point, levels, tuned), tuned))
        return measure_account(account, target.allowed_s), outcome_of(account, trace.end_s)

    best = search(frontier_of(choices, len(trace.arrivals)), target, try_out, plays=plays)[0]
    is_ = measure_account(present, target.allowed_s)
    kept = not target.is_better(best.measure, is_)
    models = {}
    for model in sorted(asked):
        now_s, level_now = timeout_now(settings, model)
        if kept or model not in tuned:
            models[model] = Tuned(now_s, now_s, level_now, ())
        else:
            replaced = replaced_rules(settings, model)
            models[model] = Tuned(now_s, best.point.timeouts_s[model], levels[model], replaced)
    return Proposal(
        target,
        target.is_met(is_ if kept else best.measure),
        kept,
        before,
        before if kept else best.played,
        models,
        () if kept else naps_of(best.point, levels, tuned),
        frozenset(asked) - frozenset(stage.added),
        played,
    )
