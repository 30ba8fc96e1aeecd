"""Playing a script: a safety phase with faults, then they end and everything must converge."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sleepd.core.turn import Note
from sleepd.sim.scenario.invariants import AT_THE_END, EVERY_COMMIT, EVERY_TURN, check, checked
from sleepd.sim.scenario.script import Act, Script, draw_script
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.scenario.table import DEEDS, FAULTS, UNIT_FAULTS

RESTARTED_AFTER_S = 60.0
"""Into the calm phase an operator restarts what the daemon says needs it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a played script came to."""

    line: str
    transitions: int
    checked: Counter[str]


Tell = Callable[[Stage, Note], None]
Show = Callable[[Stage, Act], None]


def play(script: Script, tell: Tell | None = None, show: Show | None = None) -> Outcome:
    """Play the script to its end. Raises AssertionError, naming the moment, where an invariant is broken.

    `tell` gets what the daemon tells, `show` each act as it happens.
    """
    stage = set_stage(script, tell, show)
    stage.time.run_until(script.faulty_s)
    stage.faulty = False
    for fault in (*FAULTS, *UNIT_FAULTS):
        fault.heal(stage)
    stage.later(RESTARTED_AFTER_S, stage.restart_failed)
    stage.time.run_until(script.faulty_s + script.calm_s)
    check(stage, AT_THE_END)
    return _outcome(stage)


def play_seed(seed: int) -> Outcome:
    return play(draw_script(seed))


def set_stage(script: Script, tell: Tell | None = None, show: Show | None = None) -> Stage:
    """A stage on which servers and daemon run and every act waits for its moment."""
    commits = -1

    def look(stage: Stage) -> None:
        nonlocal commits
        check(stage, EVERY_TURN)
        if stage.daemon.tally.commits != commits:
            commits = stage.daemon.tally.commits
            check(stage, EVERY_COMMIT)

    stage = Stage(script.cast, script.about, look, tell or (lambda stage, note: None))
    stage.start()
    for act in script.acts:
        _await(stage, act, show or (lambda stage, act: None))
    return stage


def _await(stage: Stage, act: Act, show: Show) -> None:
    def happen() -> None:
        show(stage, act)
        DEEDS[act.do].do(stage, act.model, act.arguments)

    stage.later(act.at_s, happen)


def _outcome(stage: Stage) -> Outcome:
    tally, account = stage.daemon.tally, stage.account
    line = (
        f"{stage.about}: {len(stage.models)} models, {tally.turns} turns, {tally.steps} steps,"
        f" {account.served} served, {tally.notes.get('turn_over', 0)} turns given up,"
        f" {tally.deaths} daemon deaths, {len(account.deaths)} engine deaths"
    )
    return Outcome(line, tally.transitions, checked(account))
