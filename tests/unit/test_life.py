"""The law, searched exhaustively: every pair of state and weights that can come about, along every fact.

The tables are small (19 states, 4 kinds of weights), so nothing here is sampled: what holds here holds.
"""

from collections.abc import Iterable, Iterator

import pytest

from sleepd.core.life import (
    ANYWHERE,
    LEVEL,
    PUBLIC,
    REQUIRES,
    SERVING,
    SETTLED,
    STATES,
    WEIGHTS,
    Fact,
    IllegalTransition,
    Life,
    State,
    Weights,
    advance,
    allows,
)

PAIRS = tuple(Life(s, w) for s in State for w in Weights)

FIRST_SEEN = frozenset(Life(State.UNKNOWN, w) for w in Weights)
"""Where a model begins: doubtful when newborn, loaded when another process answers in its place, and after a restart
of the daemon whatever the database remembers, to be confirmed by a first look."""

OUTSIDE = frozenset(
    {
        # Somebody else's doing, or the engine's own end: no choice of ours can repeat it, so it drives no loop of ours.
        Fact.LOST,
        Fact.FOUND_AGAIN,
        Fact.RESTARTED,
        Fact.FOREIGN_CHANGE,
        Fact.FOUND_PAUSED,
        # What was believed was not so: each one needs a look that disagrees with a belief formed since the last one.
        Fact.CONTRADICTED,
        # A person's word.
        Fact.OPERATOR_RESET,
        Fact.STOPPED_ON_PURPOSE,
        # Systemd's doing, or a person's: each one needs a start of the unit that we did not order.
        Fact.FOUND_STARTING,
    }
)
CARRIED_OUT = frozenset(
    {
        # Stated when a call leaves; the plan's cursor only grows, so no call is issued twice without a choice.
        Fact.L1_ISSUED,
        Fact.L2_ISSUED,
        # Our own decision as well, limited by max_restarts an hour.
        Fact.RESTARTING,
    }
)
CURES = frozenset(
    {
        Fact.WEIGHTS_RELOADED,
        Fact.PROVEN_RELOADED,
        Fact.ANSWER_RIGHT,
        # A new process has loaded its weights from the checkpoint.
        Fact.RESTARTED,
        Fact.RESTARTING,
        Fact.START_CHOSEN,
    }
)


def is_chosen(fact: Fact) -> bool:
    return fact.value.endswith("_chosen")


def leaving(life: Life, facts: Iterable[Fact] = Fact) -> Iterator[tuple[Fact, Life]]:
    return ((fact, advance(life, fact)) for fact in facts if allows(life, fact))


def reach(starts: Iterable[Life], facts: Iterable[Fact] = Fact) -> frozenset[Life]:
    """Every pair that facts lead to from these, themselves included."""
    facts = tuple(facts)
    found, ahead = set(starts), list(starts)
    while ahead:
        for _, after in leaving(ahead.pop(), facts):
            if after not in found:
                found.add(after)
                ahead.append(after)
    return frozenset(found)


def reachable() -> frozenset[Life]:
    """What can come about, restarts of the daemon included: a failed model stays failed across them."""
    return reach(FIRST_SEEN)


def loops(facts: Iterable[Fact]) -> list[Life]:
    """The reachable pairs that these facts alone lead back to."""
    facts = tuple(facts)
    return [life for life in reachable() if life in reach([after for _, after in leaving(life, facts)], facts)]


def without(removed: Iterable[Fact]) -> tuple[Fact, ...]:
    removed = frozenset(removed)
    return tuple(f for f in Fact if f not in removed)


# --- the tables are total ----------------------------------------------------------------------------------------


def test_every_state_has_a_row_a_public_name_and_a_level():
    assert set(STATES) == set(State)
    assert set(PUBLIC) == set(State)
    assert set(LEVEL) == set(State)


def test_the_public_names_are_those_of_the_contract():
    names = {"unknown", "awake", "draining", "falling_asleep", "asleep", "waking", "starting", "stopping", "stopped"}
    assert set(PUBLIC.values()) == names | {"lost", "failed"}


def test_every_fact_happens_somewhere():
    in_rows = {fact for row in STATES.values() for fact in row}
    assert in_rows | set(ANYWHERE) == set(Fact)
    assert not in_rows & set(ANYWHERE), "a fact of every state needs no row of its own"


def test_every_fact_can_really_happen_to_a_reachable_pair():
    happened = {fact for life in reachable() for fact, _ in leaving(life)}
    assert happened == set(Fact)


def test_the_weights_table_speaks_of_facts_that_its_conditions_let_through():
    for fact, row in WEIGHTS.items():
        assert row, f"{fact} says nothing about weights"
        unheard = set(row) - REQUIRES.get(fact, frozenset(Weights))
        assert not unheard, f"{fact} may not be stated of weights {unheard}, yet the table says what becomes of them"


def test_every_state_is_reachable_and_has_an_exit_of_its_own():
    assert {life.state for life in reachable()} == set(State)
    for state in State:
        assert any(to is not state for to in STATES[state].values()), f"{state} has no exit but death"


def test_advance_is_defined_exactly_where_allowed():
    for life in PAIRS:
        for fact in Fact:
            if allows(life, fact):
                after = advance(life, fact)
                assert after.state is (ANYWHERE.get(fact) or STATES[life.state][fact])
            else:
                with pytest.raises(IllegalTransition, match=f"{fact} cannot happen to a model that is {life.state}"):
                    advance(life, fact)


def test_an_illegal_transition_names_both():
    with pytest.raises(IllegalTransition) as raised:
        advance(Life(State.ASLEEP_L2, Weights.BLANK), Fact.MEMORY_BACK)
    assert raised.value.life == Life(State.ASLEEP_L2, Weights.BLANK)
    assert raised.value.fact is Fact.MEMORY_BACK


# --- the tables are sound ----------------------------------------------------------------------------------------


def test_awake_and_draining_imply_weights_loaded():
    for life in reachable():
        if life.state in (State.AWAKE, State.DRAINING):
            assert life.weights is Weights.LOADED, life


def test_only_awake_serves():
    assert frozenset({State.AWAKE}) == SERVING
    assert SERVING < SETTLED


def test_every_cycle_passes_a_choice_or_somebody_elses_hand():
    ours_alone = without({*filter(is_chosen, Fact), *OUTSIDE, *CARRIED_OUT})
    assert loops(ours_alone) == []


def test_the_exceptions_to_that_are_all_needed():
    """An exception that breaks no cycle is a hole waiting for a cycle."""
    for excused in (Fact.LOST, Fact.RESTARTED, Fact.CONTRADICTED, Fact.FOUND_PAUSED, Fact.L1_ISSUED, Fact.RESTARTING):
        kept = without({*filter(is_chosen, Fact), *OUTSIDE, *CARRIED_OUT} - {excused})
        alone = {
            Fact.LOST: (*kept, Fact.FOUND_AGAIN),
            Fact.FOUND_PAUSED: (*kept, Fact.LET_GO),
        }.get(excused, kept)
        assert loops(alone), f"{excused} needs no excuse"


def test_awake_stays_reachable_from_every_pair():
    for life in reachable():
        assert any(after.state is State.AWAKE for after in reach([life])), f"no way back from {life}"


def test_awake_stays_reachable_without_anybody_restarting_the_server():
    """The way back may not lean on somebody killing the process: only we and operators act, our own restarts too."""
    by_ourselves = without({Fact.LOST, Fact.RESTARTED})
    for life in reachable():
        assert any(after.state is State.AWAKE for after in reach([life], by_ourselves)), f"no way back from {life}"


@pytest.mark.parametrize("weights", [Weights.BLANK, Weights.DOUBTFUL])
def test_no_path_from_blank_or_doubtful_weights_to_an_open_gate_without_a_cure(weights):
    untreated = without(CURES)
    for life in reachable():
        if life.weights is weights:
            opened = [after for after in reach([life], untreated) if after.state in SERVING]
            assert not opened, f"{life} reaches {opened} and nobody has seen that its weights are right"


@pytest.mark.parametrize("cure", sorted(CURES))
def test_every_cure_is_one(cure):
    """Each of them does lead somewhere that no path without cures leads to: else the list above proves too little."""
    untreated = without(CURES)
    sick = [life for life in reachable() if life.weights in (Weights.BLANK, Weights.DOUBTFUL)]
    opened = [life for life in sick if any(a.state in SERVING for a in reach([life], (*untreated, cure)))]
    if cure is Fact.WEIGHTS_RELOADED:
        # Read anew, and still not believed before an answer showed it.
        assert opened == []
    else:
        assert opened


def test_a_reload_is_believed_only_after_a_right_answer():
    reloaded = {advance(life, Fact.WEIGHTS_RELOADED) for life in reachable() if allows(life, Fact.WEIGHTS_RELOADED)}
    assert Life(State.PARTIALLY_AWAKE, Weights.LOADED) not in reloaded


def test_a_proven_reload_is_believed_of_weights_that_we_discarded_and_of_no_others():
    after = {
        life.weights: advance(life, Fact.PROVEN_RELOADED).weights
        for life in reachable()
        if allows(life, Fact.PROVEN_RELOADED)
    }
    assert after.pop(Weights.BLANK) is Weights.LOADED
    assert after[Weights.DOUBTFUL] is Weights.DOUBTFUL
    assert Weights.LOADED not in after.values()


def test_an_answer_that_differs_shuts_the_gate_of_a_model_that_serves():
    assert advance(Life(State.AWAKE, Weights.LOADED), Fact.RECHECK_CHOSEN) == Life(State.PROVING, Weights.DOUBTFUL)


def test_a_level_2_sleep_leaves_blank_weights_whatever_was_believed_before():
    for weights in Weights:
        life = Life(State.FALLING_ASLEEP, weights)
        assert advance(life, Fact.L2_ISSUED).weights is Weights.BLANK


def test_level_1_is_never_confirmed_of_weights_that_were_discarded():
    """Level 2 asked, level 1 confirmed: the wake would serve garbage with status 200."""
    assert not allows(Life(State.FALLING_ASLEEP, Weights.BLANK), Fact.L1_CONFIRMED)
    assert not allows(Life(State.SLEEP_PENDING, Weights.BLANK), Fact.L1_CONFIRMED)


def test_a_new_process_may_answer_at_any_moment():
    for life in PAIRS:
        assert advance(life, Fact.RESTARTED) == Life(State.UNKNOWN, Weights.LOADED)
        assert advance(life, Fact.LOST).state is State.LOST
