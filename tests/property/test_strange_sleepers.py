"""Sleepers whose level nobody can tell: a stranger put them to sleep, and the gauge shows what was asked for, not what
is. However they are woken, nobody is served before an answer or a reload showed that they are right."""

import pytest
from virtual_rig import Rig

from sleepd.core.life import State, Weights
from sleepd.core.plan import OBSERVES, Verb
from sleepd.sim.vllm_types import HttpRequest

REALLY = {
    "level 1": ("1",),
    "level 2": ("2",),
    # The second call changes nothing, and moves the gauge.
    "level 1, gauge says 2": ("1", "2"),
    "level 2, gauge says 1": ("2", "1"),
}
STAGES = [Verb.WAKE_WEIGHTS, Verb.RELOAD, Verb.RESET_PREFIX, Verb.WAKE_KV]


@pytest.mark.parametrize("version", ["0.12.0", "0.16.0"])
def test_level_0_of_an_old_release_is_never_served_as_known(version):
    """It discards everything, buffers too, and nobody took an answer before: a reload would not bring those back, and
    what the engine says then must not become what it is known by."""
    rig = Rig(version, max_level=2)
    rig.boot("a")
    stranger(rig, "0")
    rig.start()
    assert rig.until(lambda: rig.state("a") in (State.ASLEEP_L1, State.ASLEEP_L2))
    answers = rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    assert rig.until(lambda: bool(answers))
    assert rig.record("a").fingerprint is None
    assert "restart the server" in rig.record("a").reason
    rig.reboot("a")
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    rig.check_usable("a")


def stranger(rig: Rig, *levels: str) -> None:
    for level in levels:
        rig.engine("a").call(HttpRequest("POST", "/sleep", (("level", level),)), lambda answer: None)
        rig.run(5.0)


def met(version: str, *, checked: bool, levels: tuple[str, ...], **more: object) -> Rig:
    """A model that somebody put to sleep while no daemon ran."""
    rig = Rig(version, max_level=2 if checked else 1, engine_more=more)
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    if checked:
        assert rig.until(lambda: any(n.kind == "level2_proven" for n in rig.notes))
        assert rig.until(lambda: rig.state("a") is State.AWAKE)
    else:
        answers = rig.sleep("a", 1)
        assert rig.until(lambda: bool(answers))
        rig.check_usable("a")
    rig.run(1.0)
    rig.daemon.die()
    stranger(rig, *levels)
    rig.daemon.start()
    assert rig.until(lambda: rig.state("a") in (State.ASLEEP_L1, State.ASLEEP_L2))
    assert rig.record("a").life.weights is Weights.DOUBTFUL
    return rig


def sent_to_wake(rig: Rig) -> list[Verb]:
    sent: list[Verb] = []
    server = rig.servers["a"]
    send = server.call

    def call(verb: Verb, *rest: object) -> None:
        if verb not in OBSERVES:
            sent.append(verb)
        send(verb, *rest)

    server.call = call
    rig.check_usable("a")
    return sent


@pytest.mark.parametrize("really", REALLY)
@pytest.mark.parametrize("version", ["0.24.0", "0.28.0", "0.32.0"])
def test_where_level_2_is_checked_it_is_woken_as_from_level_2(version, really):
    rig = met(version, checked=True, levels=REALLY[really])
    assert sent_to_wake(rig) == STAGES


@pytest.mark.parametrize("really", ["level 1", "level 2, gauge says 1"])
@pytest.mark.parametrize("version", ["0.16.0", "0.22.1", "0.28.0", "0.32.0"])
def test_elsewhere_it_is_woken_bare_and_reloaded_only_when_its_answer_is_wrong(version, really):
    rig = met(version, checked=False, levels=REALLY[really])
    sent = sent_to_wake(rig)
    assert sent[0] is Verb.WAKE
    assert (Verb.RELOAD in sent) is (really != "level 1")


def test_a_partial_wake_that_resumes_at_once_is_never_chosen_for_it():
    """0.17 to 0.23 compute again after the first stage: there a bare wake and a proof are safer."""
    rig = met("0.22.1", checked=True, levels=("1",))
    assert sent_to_wake(rig)[0] is Verb.WAKE


@pytest.mark.parametrize(("version", "more"), [("0.10.0", {}), ("0.30.0", {"adapters": ("sql",)})])
def test_a_gauge_that_says_level_2_condemns_no_engine_that_has_its_weights(version, more):
    """Level 2 asked of a level 1 sleeper: 200, and nothing is discarded. Where no reload is safe, only the answer can
    tell, so it is woken and asked."""
    rig = met(version, checked=False, levels=("1", "2"), **more)
    assert rig.state("a") is State.ASLEEP_L1
    sent = sent_to_wake(rig)
    assert sent[0] is Verb.WAKE
    assert Verb.RELOAD not in sent
