"""docs/states.md, written from the two tables of sleepd/core/life.py: `python -m sleepd.states_doc > docs/states.md`.

Only the sentences about states and facts are written here; every arrow comes from the tables (tests/docs compares).
"""

import sys
from collections.abc import Iterable

from sleepd.core.life import ANYWHERE, LEVEL, PUBLIC, REQUIRES, SERVING, STATES, WEIGHTS, Fact, State, Weights

_S, _F = State, Fact

STATE_MEANS: dict[State, str] = {
    _S.UNKNOWN: "not looked at yet, or what was believed turned out wrong: the next look decides",
    _S.AWAKE: "serves",
    _S.DRAINING: "chosen to sleep; idleness is confirmed while nothing new is let in",
    _S.FALLING_ASLEEP: "a call to sleep is out",
    _S.SLEEP_PENDING: "that call was not answered and may still be carried out: it can only be cut short",
    _S.ASLEEP_L1: "weights in host RAM, KV cache gone",
    _S.ASLEEP_L2: "weights discarded",
    _S.WAKING: "a call to wake is out",
    _S.WAKING_WEIGHTS: "memory for the weights is mapped first",
    _S.RELOADING: "the weights are read from the checkpoint",
    _S.PARTIALLY_AWAKE: "weights are there, the KV cache comes next",
    _S.PROVING: "awake, and its answer is to be compared before it serves",
    _S.BROKEN: "a call failed; the release's recipe says what may be tried. While a task goes on with that (for"
    " seconds), it is shown as waking or falling_asleep",
    _S.FOREIGN: "somebody else paused, slept or woke it: hands off for a while",
    _S.FAILED: "given up and told; a restart or an operator's reset brings it back. One that is reset while it is half"
    " awake, or half asleep, is known by the bytes it holds, and fails anew",
    _S.LOST: "nothing answers at its address",
    _S.STARTING: "its process comes up",
    _S.STOPPING: "its process is told to end",
    _S.STOPPED: "its process does not run",
}

FACT_MEANS: dict[Fact, str] = {
    _F.FOUND_AWAKE: "it runs, and was never asleep in this incarnation or is as we left it",
    _F.FOUND_AWAKE_DOUBTFUL: "it runs, but somebody slept and woke it before",
    _F.FOUND_ASLEEP_L1: "it sleeps, and level 2 was not asked for",
    _F.FOUND_ASLEEP_L2: "it sleeps at level 2",
    _F.FOUND_PENDING: "a call to sleep waits inside it",
    _F.FOUND_PAUSED: "it is paused with its memory in place",
    _F.FOUND_MIDWAY: "part of its memory is gone",
    _F.FOUND_AGAIN: "it answers again",
    _F.SLEEP_CHOSEN: "we chose to put it to sleep",
    _F.DRAINED: "no request runs or waits, asked after its gate shut",
    _F.OVERTAKEN: "a request came before it slept",
    _F.DRAIN_EXPIRED: "its requests did not end in time",
    _F.WAKE_CHOSEN: "we chose to wake it",
    _F.L1_ISSUED: "a call to sleep at level 1 leaves",
    _F.L2_ISSUED: "a call to sleep at level 2 leaves",
    _F.L1_CONFIRMED: "it says it sleeps and its bytes went down (level 1)",
    _F.L2_CONFIRMED: "it says it sleeps and its bytes went down (level 2)",
    _F.UNANSWERED: "a call to sleep was not answered",
    _F.CUT_CHOSEN: "we chose to end the direct requests it waits for: the same sleep with mode=abort",
    _F.REFUSED: "a call failed, or had no effect",
    _F.MEMORY_BACK: "it says it is awake and its bytes went up",
    _F.WEIGHTS_BLANK: "memory for the weights is mapped, nothing is in it",
    _F.WEIGHTS_RESTORED: "the weights came back from host RAM",
    _F.WEIGHTS_RELOADED: "the weights were read from the checkpoint",
    _F.PROVEN_RELOADED: "the same, by an engine whose level 2 cycle was checked, where no question is to delay it",
    _F.RECHECK_CHOSEN: "it serves and did not give the known answer: we chose to ask again with the gate shut",
    _F.RELOAD_CHOSEN: "we chose to read the weights anew",
    _F.ANSWER_RIGHT: "it gave the known answer",
    _F.ANSWER_WRONG: "it gave another answer, repeatedly",
    _F.NOT_PROVABLE: "no known answer is needed or to be had",
    _F.RETRY_SLEEP_CHOSEN: "we chose to repeat the sleep",
    _F.RETRY_WAKE_CHOSEN: "we chose to repeat the wake",
    _F.RETRY_WEIGHTS_CHOSEN: "we chose to repeat the weights stage",
    _F.RETRY_RELOAD_CHOSEN: "we chose to repeat the reload",
    _F.RETRY_KV_CHOSEN: "we chose to repeat the KV stage",
    _F.UNDO_CHOSEN: "we chose to put half-woken memory back",
    _F.RESUME_CHOSEN: "nothing had been released: we chose to lift the pause",
    _F.GAVE_UP: "nothing the recipe allows is left",
    _F.FOREIGN_CHANGE: "a control call was counted that is not ours",
    _F.CONTRADICTED: "a look disagreed with what was believed",
    _F.LET_GO: "the time of leaving it alone is over",
    _F.OPERATOR_RESET: "an operator takes it back into service",
    _F.LOST: "nothing answers any more",
    _F.RESTARTED: "another process answers in its place",
    _F.RESTARTING: "we restart its unit",
    _F.STOP_CHOSEN: "we chose to stop its unit",
    _F.STOPPED_ON_PURPOSE: "its unit was stopped, and not by us",
    _F.GONE: "its process ended",
    _F.STOP_EXPIRED: "its process did not end in time",
    _F.START_CHOSEN: "we chose to start its unit",
    _F.FOUND_STARTING: "its unit starts, and not by us",
    _F.START_EXPIRED: "it did not come up in time",
    _F.HEALTHY: "it came up",
}

_HEAD = """\
# States

<!-- Written by `python -m sleepd.states_doc` from sleepd/core/life.py; a test compares. Do not edit. -->

A model's *state* says what its server is doing, *weights* says what its memory holds. Facts move both; they are
past-tense observations, and those ending in `_chosen` are our own decisions. The gate is open only in a serving state.
`tests/unit/test_life.py` searches every pair of state and weights: awake and draining imply loaded weights, every
cycle passes a decision or somebody else's hand, awake stays reachable, and no path leads from blank or doubtful
weights to an open gate without a right answer or a new process.
"""


def states_page() -> str:
    """The whole page, ending in a newline."""
    parts = (_HEAD, _diagram(), _anywhere(), _state_table(), _weights_table(), _requires_table(), _fact_table())
    return "\n".join(parts)


def _diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> unknown"]
    for state, row in STATES.items():
        arrows: dict[State, list[str]] = {}
        for fact, to in row.items():
            arrows.setdefault(to, []).append(fact.value)
        lines += [f"    {state} --> {to}: {', '.join(facts)}" for to, facts in arrows.items()]
    return "\n".join([*lines, "```", ""])


def _anywhere() -> str:
    facts = "; ".join(f"`{fact}` ({FACT_MEANS[fact]}) leads to {to}" for fact, to in ANYWHERE.items())
    return f"From every state: {facts}.\n"


def _state_table() -> str:
    rows = (
        (
            f"`{state}`",
            "**open**" if state in SERVING else "shut",
            PUBLIC[state] + ("" if LEVEL[state] is None else f", level {LEVEL[state]}"),
            STATE_MEANS[state],
            " · ".join(f"{fact} → {to}" for fact, to in STATES[state].items()),
        )
        for state in State
    )
    return _table(
        "What the server is doing", ("state", "gate", "public name", "meaning", "facts and where they lead"), rows
    )


def _weights_table() -> str:
    rows = ((f"`{fact}`", *(row.get(w, "") for w in Weights)) for fact, row in WEIGHTS.items())
    head = ("fact", *(f"if {w}" for w in Weights))
    return _table(
        "What its memory holds after a fact", head, rows, "Empty: as before. Facts not listed change nothing."
    )


def _requires_table() -> str:
    rows = ((f"`{fact}`", ", ".join(w for w in Weights if w in allowed)) for fact, allowed in REQUIRES.items())
    return _table("Facts that need certain weights", ("fact", "only while weights are"), rows)


def _fact_table() -> str:
    return _table("Facts", ("fact", "what was seen or decided"), ((f"`{f}`", FACT_MEANS[f]) for f in Fact))


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]], note: str = "") -> str:
    lines = [f"## {title}", "", *([note, ""] if note else [])]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(states_page())
