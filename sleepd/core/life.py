"""The law: which facts lead from which state to which, on two axes.

A model's *state* says what its server is doing; *weights* says what its memory holds. A state alone would have
paths from level 2 to serving without a reload; the second axis closes them (tests/unit/test_life.py searches all
pairs exhaustively). Facts are past-tense observations; those ending in `_chosen` are our own decisions.
docs/states.md is generated from the two tables.

A call whose answer was lost has no fact of its own: the state stays until a fence found out what the call did, so
that no loop through `unknown` runs without a decision of ours.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    UNKNOWN = "unknown"
    AWAKE = "awake"
    DRAINING = "draining"
    FALLING_ASLEEP = "falling_asleep"
    SLEEP_PENDING = "sleep_pending"
    ASLEEP_L1 = "asleep_l1"
    ASLEEP_L2 = "asleep_l2"
    WAKING = "waking"
    WAKING_WEIGHTS = "waking_weights"
    RELOADING = "reloading"
    PARTIALLY_AWAKE = "partially_awake"
    PROVING = "proving"
    BROKEN = "broken"
    FOREIGN = "foreign"
    FAILED = "failed"
    LOST = "lost"
    STARTING = "starting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Weights(StrEnum):
    LOADED = "loaded"
    OFFLOADED = "offloaded"
    BLANK = "blank"
    DOUBTFUL = "doubtful"


class Fact(StrEnum):
    FOUND_AWAKE = "found_awake"
    FOUND_AWAKE_DOUBTFUL = "found_awake_doubtful"
    FOUND_ASLEEP_L1 = "found_asleep_l1"
    FOUND_ASLEEP_L2 = "found_asleep_l2"
    FOUND_PENDING = "found_pending"
    FOUND_PAUSED = "found_paused"
    FOUND_MIDWAY = "found_midway"
    FOUND_AGAIN = "found_again"
    SLEEP_CHOSEN = "sleep_chosen"
    DRAINED = "drained"
    OVERTAKEN = "overtaken"
    DRAIN_EXPIRED = "drain_expired"
    WAKE_CHOSEN = "wake_chosen"
    L1_ISSUED = "l1_issued"
    L2_ISSUED = "l2_issued"
    L1_CONFIRMED = "l1_confirmed"
    L2_CONFIRMED = "l2_confirmed"
    UNANSWERED = "unanswered"
    CUT_CHOSEN = "cut_chosen"
    REFUSED = "refused"
    MEMORY_BACK = "memory_back"
    WEIGHTS_BLANK = "weights_blank"
    WEIGHTS_RESTORED = "weights_restored"
    WEIGHTS_RELOADED = "weights_reloaded"
    PROVEN_RELOADED = "proven_reloaded"
    RELOAD_CHOSEN = "reload_chosen"
    RECHECK_CHOSEN = "recheck_chosen"
    ANSWER_RIGHT = "answer_right"
    ANSWER_WRONG = "answer_wrong"
    NOT_PROVABLE = "not_provable"
    RETRY_SLEEP_CHOSEN = "retry_sleep_chosen"
    RETRY_WAKE_CHOSEN = "retry_wake_chosen"
    RETRY_WEIGHTS_CHOSEN = "retry_weights_chosen"
    RETRY_RELOAD_CHOSEN = "retry_reload_chosen"
    RETRY_KV_CHOSEN = "retry_kv_chosen"
    UNDO_CHOSEN = "undo_chosen"
    RESUME_CHOSEN = "resume_chosen"
    GAVE_UP = "gave_up"
    FOREIGN_CHANGE = "foreign_change"
    CONTRADICTED = "contradicted"
    LET_GO = "let_go"
    OPERATOR_RESET = "operator_reset"
    LOST = "lost"
    RESTARTED = "restarted"
    RESTARTING = "restarting"
    STOP_CHOSEN = "stop_chosen"
    STOPPED_ON_PURPOSE = "stopped_on_purpose"
    GONE = "gone"
    STOP_EXPIRED = "stop_expired"
    START_CHOSEN = "start_chosen"
    FOUND_STARTING = "found_starting"
    START_EXPIRED = "start_expired"
    HEALTHY = "healthy"


@dataclass(frozen=True, slots=True)
class Life:
    state: State
    weights: Weights


class IllegalTransition(Exception):
    """The table has no row for this fact in this state: the caller's belief and its observation disagree."""

    def __init__(self, life: Life, fact: Fact) -> None:
        super().__init__(f"{fact} cannot happen to a model that is {life.state} with weights {life.weights}")
        self.life = life
        self.fact = fact


_S, _F = State, Fact

STATES: dict[State, dict[Fact, State]] = {
    _S.UNKNOWN: {
        _F.FOUND_AWAKE: _S.AWAKE,
        _F.FOUND_AWAKE_DOUBTFUL: _S.PROVING,
        _F.FOUND_ASLEEP_L1: _S.ASLEEP_L1,
        _F.FOUND_ASLEEP_L2: _S.ASLEEP_L2,
        _F.FOUND_PENDING: _S.SLEEP_PENDING,
        _F.FOUND_PAUSED: _S.FOREIGN,
        _F.FOUND_MIDWAY: _S.BROKEN,
        _F.GAVE_UP: _S.FAILED,
        _F.FOUND_STARTING: _S.STARTING,
    },
    _S.AWAKE: {
        _F.SLEEP_CHOSEN: _S.DRAINING,
        _F.RECHECK_CHOSEN: _S.PROVING,
        _F.ANSWER_WRONG: _S.FAILED,
        _F.GAVE_UP: _S.FAILED,
        _F.FOREIGN_CHANGE: _S.FOREIGN,
        _F.CONTRADICTED: _S.UNKNOWN,
    },
    _S.DRAINING: {
        _F.DRAINED: _S.FALLING_ASLEEP,
        _F.OVERTAKEN: _S.AWAKE,
        _F.DRAIN_EXPIRED: _S.AWAKE,
        _F.WAKE_CHOSEN: _S.AWAKE,
        _F.STOP_CHOSEN: _S.STOPPING,
        _F.CONTRADICTED: _S.UNKNOWN,
    },
    _S.FALLING_ASLEEP: {
        _F.L1_ISSUED: _S.FALLING_ASLEEP,
        _F.L2_ISSUED: _S.FALLING_ASLEEP,
        _F.L1_CONFIRMED: _S.ASLEEP_L1,
        _F.L2_CONFIRMED: _S.ASLEEP_L2,
        _F.UNANSWERED: _S.SLEEP_PENDING,
        _F.REFUSED: _S.BROKEN,
        _F.CONTRADICTED: _S.UNKNOWN,
    },
    _S.SLEEP_PENDING: {
        _F.L1_CONFIRMED: _S.ASLEEP_L1,
        _F.L2_CONFIRMED: _S.ASLEEP_L2,
        _F.CUT_CHOSEN: _S.SLEEP_PENDING,
        _F.REFUSED: _S.BROKEN,
        _F.CONTRADICTED: _S.UNKNOWN,
        _F.GAVE_UP: _S.FAILED,
    },
    _S.ASLEEP_L1: {
        _F.WAKE_CHOSEN: _S.WAKING,
        # Slept by a stranger at a level nobody can tell: woken by the level 2 plan where that is proven.
        _F.RELOAD_CHOSEN: _S.WAKING_WEIGHTS,
        _F.GAVE_UP: _S.FAILED,
        _F.STOP_CHOSEN: _S.STOPPING,
        _F.FOREIGN_CHANGE: _S.FOREIGN,
        _F.CONTRADICTED: _S.UNKNOWN,
    },
    _S.ASLEEP_L2: {
        _F.WAKE_CHOSEN: _S.WAKING_WEIGHTS,
        _F.GAVE_UP: _S.FAILED,
        _F.STOP_CHOSEN: _S.STOPPING,
        _F.FOREIGN_CHANGE: _S.FOREIGN,
        _F.CONTRADICTED: _S.UNKNOWN,
    },
    _S.WAKING: {
        _F.CONTRADICTED: _S.UNKNOWN,
        _F.MEMORY_BACK: _S.PROVING,
        _F.REFUSED: _S.BROKEN,
    },
    _S.WAKING_WEIGHTS: {
        _F.CONTRADICTED: _S.UNKNOWN,
        _F.WEIGHTS_BLANK: _S.RELOADING,
        _F.WEIGHTS_RESTORED: _S.PARTIALLY_AWAKE,
        _F.REFUSED: _S.BROKEN,
    },
    _S.RELOADING: {
        _F.CONTRADICTED: _S.UNKNOWN,
        _F.WEIGHTS_RELOADED: _S.PARTIALLY_AWAKE,
        _F.PROVEN_RELOADED: _S.PARTIALLY_AWAKE,
        _F.REFUSED: _S.BROKEN,
    },
    _S.PARTIALLY_AWAKE: {
        _F.CONTRADICTED: _S.UNKNOWN,
        _F.MEMORY_BACK: _S.PROVING,
        _F.REFUSED: _S.BROKEN,
    },
    _S.PROVING: {
        _F.CONTRADICTED: _S.UNKNOWN,
        _F.ANSWER_RIGHT: _S.AWAKE,
        _F.NOT_PROVABLE: _S.AWAKE,
        _F.ANSWER_WRONG: _S.FAILED,
        _F.RELOAD_CHOSEN: _S.RELOADING,
        _F.GAVE_UP: _S.FAILED,
    },
    _S.BROKEN: {
        _F.RETRY_SLEEP_CHOSEN: _S.FALLING_ASLEEP,
        _F.RETRY_WAKE_CHOSEN: _S.WAKING,
        _F.RETRY_WEIGHTS_CHOSEN: _S.WAKING_WEIGHTS,
        _F.RETRY_RELOAD_CHOSEN: _S.RELOADING,
        _F.RETRY_KV_CHOSEN: _S.PARTIALLY_AWAKE,
        _F.UNDO_CHOSEN: _S.FALLING_ASLEEP,
        _F.RESUME_CHOSEN: _S.WAKING,
        _F.RESTARTING: _S.STARTING,
        _F.GAVE_UP: _S.FAILED,
    },
    _S.FOREIGN: {_F.LET_GO: _S.UNKNOWN},
    _S.FAILED: {_F.RESTARTING: _S.STARTING, _F.OPERATOR_RESET: _S.UNKNOWN, _F.STOP_CHOSEN: _S.STOPPING},
    _S.LOST: {
        _F.FOUND_AGAIN: _S.UNKNOWN,
        _F.FOUND_STARTING: _S.STARTING,
        _F.RESTARTING: _S.STARTING,
        _F.STOP_CHOSEN: _S.STOPPING,
        _F.STOPPED_ON_PURPOSE: _S.STOPPED,
        _F.GAVE_UP: _S.FAILED,
    },
    _S.STARTING: {
        _F.HEALTHY: _S.UNKNOWN,
        _F.START_EXPIRED: _S.FAILED,
        _F.STOP_CHOSEN: _S.STOPPING,
        # What was left of it ended, and there is no room to start it in; somebody stopped it before it answered.
        _F.GONE: _S.STOPPED,
        _F.STOPPED_ON_PURPOSE: _S.STOPPED,
    },
    # Contradicted: the service manager would not end it, so it is what it was.
    _S.STOPPING: {_F.GONE: _S.STOPPED, _F.STOP_EXPIRED: _S.FAILED, _F.CONTRADICTED: _S.UNKNOWN},
    _S.STOPPED: {_F.START_CHOSEN: _S.STARTING, _F.FOUND_STARTING: _S.STARTING, _F.FOUND_AGAIN: _S.UNKNOWN},
}

ANYWHERE: dict[Fact, State] = {_F.LOST: _S.LOST, _F.RESTARTED: _S.UNKNOWN}
"""Facts that hold in every state: the server is gone; another process answers in its place."""

_W = Weights

WEIGHTS: dict[Fact, dict[Weights, Weights]] = {
    # What was issued counts from the moment it is sent: an answer that never comes must not leave a stale belief.
    _F.L1_ISSUED: {_W.LOADED: _W.OFFLOADED, _W.OFFLOADED: _W.OFFLOADED},
    _F.L2_ISSUED: dict.fromkeys(Weights, _W.BLANK),
    _F.MEMORY_BACK: {_W.OFFLOADED: _W.LOADED},
    _F.WEIGHTS_RESTORED: {_W.OFFLOADED: _W.LOADED},
    # A sleep failed before anything was released: level 1's weights never left; level 2's are only very likely there.
    _F.RESUME_CHOSEN: {_W.OFFLOADED: _W.LOADED, _W.BLANK: _W.DOUBTFUL},
    # Loaded again, but not believed before an answer showed it (or the engine is proven: see NOT_PROVABLE's guard).
    _F.WEIGHTS_RELOADED: {_W.BLANK: _W.DOUBTFUL, _W.DOUBTFUL: _W.DOUBTFUL, _W.LOADED: _W.DOUBTFUL},
    # An engine whose level 2 cycle was checked; blank weights only: in whatever else they were, a stranger had a hand.
    _F.PROVEN_RELOADED: {_W.BLANK: _W.LOADED, _W.LOADED: _W.DOUBTFUL},
    _F.ANSWER_RIGHT: {_W.DOUBTFUL: _W.LOADED},
    # It serves and said something else than it should: believed after more runs with the gate shut, doubted at once.
    _F.RECHECK_CHOSEN: dict.fromkeys(Weights, _W.DOUBTFUL),
    _F.ANSWER_WRONG: dict.fromkeys(Weights, _W.DOUBTFUL),
    _F.CONTRADICTED: dict.fromkeys(Weights, _W.DOUBTFUL),
    _F.FOREIGN_CHANGE: dict.fromkeys(Weights, _W.DOUBTFUL),
    _F.FOUND_PAUSED: dict.fromkeys(Weights, _W.DOUBTFUL),
    _F.FOUND_AWAKE_DOUBTFUL: dict.fromkeys(Weights, _W.DOUBTFUL),
    _F.RESTARTED: dict.fromkeys(Weights, _W.LOADED),
    _F.RESTARTING: dict.fromkeys(Weights, _W.LOADED),
    _F.START_CHOSEN: dict.fromkeys(Weights, _W.LOADED),
}

REQUIRES: dict[Fact, frozenset[Weights]] = {
    _F.FOUND_AWAKE: frozenset({_W.LOADED}),
    _F.FOUND_ASLEEP_L1: frozenset({_W.OFFLOADED, _W.DOUBTFUL}),
    _F.SLEEP_CHOSEN: frozenset({_W.LOADED}),
    _F.L1_ISSUED: frozenset({_W.LOADED, _W.OFFLOADED, _W.DOUBTFUL}),
    _F.L1_CONFIRMED: frozenset({_W.OFFLOADED, _W.DOUBTFUL}),
    _F.L2_CONFIRMED: frozenset({_W.BLANK, _W.DOUBTFUL}),
    _F.WEIGHTS_BLANK: frozenset({_W.BLANK, _W.DOUBTFUL}),
    _F.WEIGHTS_RESTORED: frozenset({_W.OFFLOADED, _W.DOUBTFUL}),
    _F.NOT_PROVABLE: frozenset({_W.LOADED}),
    _F.ANSWER_RIGHT: frozenset({_W.LOADED, _W.DOUBTFUL}),
}
"""Facts that may only be stated of such weights. NOT_PROVABLE opens the gate without a proof: weights loaded only."""

SERVING = frozenset({State.AWAKE})
"""The gate is open in these states and no other."""

SETTLED = frozenset({_S.AWAKE, _S.ASLEEP_L1, _S.ASLEEP_L2, _S.FAILED, _S.LOST, _S.STOPPED, _S.FOREIGN})
"""States that need no task of ours to go on."""

ASLEEP = frozenset({_S.ASLEEP_L1, _S.ASLEEP_L2})
OUT = ASLEEP | {_S.STOPPED}
"""Out of the GPUs by a decision, and waiting for the next one."""

PUBLIC: dict[State, str] = {
    **{s: s.value for s in State},
    _S.SLEEP_PENDING: "falling_asleep",
    _S.ASLEEP_L1: "asleep",
    _S.ASLEEP_L2: "asleep",
    _S.WAKING_WEIGHTS: "waking",
    _S.RELOADING: "waking",
    _S.PARTIALLY_AWAKE: "waking",
    _S.PROVING: "waking",
    _S.BROKEN: "failed",
    _S.FOREIGN: "unknown",
}
"""The public contract's name of each state."""

LEVEL: dict[State, int | None] = {
    **dict.fromkeys(State, None),
    _S.AWAKE: 0,
    _S.DRAINING: 0,
    _S.ASLEEP_L1: 1,
    _S.ASLEEP_L2: 2,
}


def wakes_from(state: State) -> int:
    """The level whose wake a sleeper takes. Who does not sleep yet is taken to sleep at level 1."""
    return 2 if state is State.ASLEEP_L2 else 1


def allows(life: Life, fact: Fact) -> bool:
    """Say whether the tables let this fact happen to this life."""
    if fact not in ANYWHERE and fact not in STATES[life.state]:
        return False
    return life.weights in REQUIRES.get(fact, frozenset(Weights))


def advance(life: Life, fact: Fact) -> Life:
    """Return the life after the fact. Raises IllegalTransition where the tables have no row for it."""
    if not allows(life, fact):
        raise IllegalTransition(life, fact)
    state = ANYWHERE[fact] if fact in ANYWHERE else STATES[life.state][fact]
    return Life(state, WEIGHTS.get(fact, {}).get(life.weights, life.weights))
