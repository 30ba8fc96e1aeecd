"""Models with units of systemd: read, lost, stopped; and what a turn makes of them."""

from dataclasses import replace

from core_worlds import NOW, later, record
from rule_worlds import play

from sleepd.core.commands import Answer, RunStep
from sleepd.core.events import UnitLooked
from sleepd.core.life import Life, State, Weights
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Known, Missing, MissingReason
from sleepd.core.record import Stopped
from sleepd.core.unit import UnitSeen
from sleepd.core.wishes import WakeAsked

UNIT = {"unit": "vllm@a.service"}
MAY_STOP = {**UNIT, "may_stop": True}
LOST, STOPPED, FAILED = (Life(s, Weights.LOADED) for s in (State.LOST, State.STOPPED, State.FAILED))
GONE = Missing(MissingReason.REFUSED)
RUNS = UnitSeen(active="active", sub="running", invocation="1")
INACTIVE = UnitSeen(invocation="1")
BY_RULE = Stopped(Cause(CauseKind.RULE, "retire"), "1")
WAKE_IT = WakeAsked(7, "a", "alice", 60.0)
UNSEEN = {
    "life": Life(State.UNKNOWN, Weights.DOUBTFUL),
    "seen": Missing(MissingReason.NOT_YET),
    "spec": UNIT,
    "incarnation": None,
}


def unit(seen=RUNS, at_s=0.0):
    return Known(seen, NOW.mono_s + at_s, NOW.mono_s + at_s)


def looked(seen, at_s=1.0):
    return UnitLooked("a", unit(seen, at_s))


def lost(**more):
    fields = {
        "life": LOST,
        "seen": GONE,
        "since_s": NOW.mono_s,
        "failed_polls": 3,
        "served_as": "1",
        "unit": unit(at_s=-1.0),
    }
    return record(spec=UNIT, **{**fields, **more})


def stopped(**more):
    return record(life=STOPPED, spec=UNIT, seen=GONE, unit=unit(INACTIVE), failed_polls=9, **more)


def state(turn, model="a"):
    return turn.world.models[model].life.state


def answers(turn):
    return {c.waiter: (c.kind, c.problem) for c in turn.commands if isinstance(c, Answer)}


def asked(made, ask):
    return play(made, ask, at_s=0.0)


def fresh_step(made, event):
    """The event's turn, with readings that are not older than the step."""
    moment = NOW.mono_s + 2.0
    gpus = replace(made.gpus, asked_at_s=moment, at_s=moment)
    return step(replace(made, gpus=gpus), [event], later(2.0)).world


def order(turn):
    (run,) = [c for c in turn.commands if isinstance(c, RunStep)]
    return run.order
