"""A stranger's call to `/weight_checker`: it told checksums, or it zeroed all weights, and its counter does not say."""

from collections.abc import Callable

import pytest
from test_strangers import rig_of
from virtual_rig import Rig

from sleepd.core.life import ASLEEP, State
from sleepd.core.wishes import PinAsked
from sleepd.sim.vllm_types import HttpRequest

ZEROED = "asked for checksums of its weights, or zeroed them"


def slept_once() -> Rig:
    """A model that slept and was woken, and so has a known answer."""
    rig = rig_of()
    for ask in (lambda: rig.sleep("a", 1), lambda: rig.wake("a")):
        answers = ask()
        assert rig.until(lambda answers=answers: bool(answers))
    rig.run(30)
    assert rig.state("a") is State.AWAKE
    return rig


def check(rig: Rig, action: str) -> None:
    rig.servers["a"].request(HttpRequest("POST", "/weight_checker", (), {"action": action}), 60.0, lambda answer: None)


def strangers(rig: Rig) -> list[str]:
    return [note.text for note in rig.notes if note.kind == "foreign"]


def test_who_asks_for_checksums_costs_one_question() -> None:
    rig = slept_once()
    asked = rig.engine("a").snapshot().request_success["length"]
    check(rig, "checksum")
    rig.run(10)
    assert strangers(rig) == [f"somebody else {ZEROED}: a is looked at anew"]
    assert rig.state("a") is State.AWAKE
    assert rig.daemon.gates.of("a").open
    assert rig.engine("a").snapshot().request_success["length"] == asked + 1


@pytest.mark.parametrize("action", ["checksum", "reset"])
def test_one_who_checks_while_we_ask_a_question_is_met_alike(action: str) -> None:
    """Right after a wake, while its answer is compared."""
    rig = slept_once()
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers), every_s=0.01)
    check(rig, action)
    rig.run(10.0)
    assert strangers(rig) == [f"somebody else {ZEROED}: a is looked at anew"]
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert rig.engine("a").snapshot().answers_right


@pytest.mark.parametrize("made", [slept_once, rig_of], ids=["a known answer", "none"])
def test_weights_that_were_zeroed_are_read_anew_before_anybody_is_let_in_again(made: Callable[[], Rig]) -> None:
    rig = made()
    check(rig, "reset")
    rig.run(3)
    assert not rig.daemon.gates.of("a").open or rig.engine("a").snapshot().answers_right
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert rig.engine("a").snapshot().answers_right


def test_a_call_while_nobody_looked_is_found_in_the_counters() -> None:
    rig = slept_once()
    rig.daemon.die()
    check(rig, "reset")
    rig.run(5)
    rig.daemon.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    assert rig.engine("a").snapshot().answers_right


def test_a_sleeper_that_was_checked_is_asked_before_it_serves() -> None:
    """Its weights are read where none are: the engine does not survive that, and no wake of it is believed."""
    rig = slept_once()
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    assert rig.state("a") in ASLEEP
    check(rig, "reset")
    rig.run(20)
    assert ZEROED in strangers(rig)[0]
    rig.wake("a")
    rig.run(200)
    assert not rig.daemon.gates.of("a").open


@pytest.mark.parametrize("after_s", [0.2, 2.0, 6.0])
def test_our_own_checksums_that_a_pin_cuts_off_are_nobody_elses(after_s: float) -> None:
    """They are worked out to the end, unheard, and counted then."""
    rig = Rig("0.32.0", ("a",), 2)
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.DRAINING and rig.daemon.world.tasks["a"].cursor == 1, every_s=0.05)
    rig.run(after_s)
    rig.daemon.ask(lambda w: PinAsked(w, "a", "operator", True), lambda answer: None)
    rig.run(60.0)
    assert rig.state("a") is State.AWAKE
    assert strangers(rig) == []
