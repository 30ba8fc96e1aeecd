"""LoRA adapters that come and go while the server runs: each known by its own answer before the next sleep."""

import pytest
from test_proof import Doubted, asked, kinds, wake
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.model import Verify
from sleepd.core.seen import Fingerprint
from sleepd.sim.vllm_faults import Fault
from sleepd.sim.vllm_types import HttpRequest

POLLS_S = 12.0


def served(*adapters: str, runtime: bool = True, **more: object) -> Rig:
    """A model that slept once, was woken and compared."""
    engine = {"adapters": adapters, "loads_adapters": runtime}
    made = Doubted("0.32.0", ("a",), engine_more=engine, spec_more=more)
    made.boot("a")
    made.start()
    made.run(10)
    sleep(made)
    wake(made)
    made.run(POLLS_S)
    assert made.state("a") is State.AWAKE
    return made


def sleep(rig: Rig) -> None:
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    assert answers[0].kind is AnswerKind.DONE


def load(rig: Rig, name: str, path: str = "", *, inplace: bool = False) -> None:
    body = {"lora_name": name, "lora_path": path or f"/adapters/{name}", "load_inplace": inplace}
    _post(rig, "load", body)


def unload(rig: Rig, name: str) -> None:
    _post(rig, "unload", {"lora_name": name})


def _post(rig: Rig, what: str, body: dict[str, object]) -> None:
    answers: list = []
    request = HttpRequest("POST", f"/v1/{what}_lora_adapter", (), body)
    rig.servers["a"].request(request, 5.0, answers.append)
    assert rig.until(lambda: bool(answers))
    assert answers[0].status == 200, answers


def known(rig: Rig) -> Fingerprint:
    found = rig.record("a").fingerprint
    assert found is not None
    return found


def right_after_a_cycle(rig: Rig) -> bool:
    """Whether it sleeps and comes back without a word about wrong answers."""
    told = len(rig.notes)
    sleep(rig)
    wake(rig)
    rig.run(POLLS_S)
    new = [note.kind for note in rig.notes[told:]]
    return rig.state("a") is State.AWAKE and "answer_doubted" not in new


@pytest.mark.parametrize("seen_before_s", [0.0, POLLS_S])
def test_one_that_was_loaded_late_is_known_from_the_next_sleep_on(seen_before_s: float) -> None:
    rig = served("sql")
    load(rig, "poet")
    rig.run(seen_before_s)
    assert set(known(rig).adapters) == {"sql"}
    before = asked(rig)
    sleep(rig)
    assert set(known(rig).adapters) == {"sql", "poet"}
    assert asked(rig) - before == 1 + 2, "sql said what it said before, poet was asked twice, the base model not at all"
    rig.arm("a", Fault("lose_adapters"))
    wake(rig)
    assert rig.until(lambda: rig.state("a") is State.FAILED)
    assert "adapter sql, poet" in rig.record("a").reason


def test_what_is_listed_is_routed_and_known_without_a_restart_of_the_daemon() -> None:
    rig = served()
    load(rig, "poet")
    rig.run(POLLS_S)
    facts = rig.record("a").facts
    assert facts is not None
    assert (facts.lora_names, facts.lora_roots) == (("poet",), ("/adapters/poet",))


def test_one_that_was_unloaded_is_forgotten() -> None:
    rig = served("sql", "poet")
    unload(rig, "sql")
    rig.run(POLLS_S)
    assert set(known(rig).adapters) == {"poet"}
    assert right_after_a_cycle(rig)


@pytest.mark.parametrize("path", ["", "/adapters/another"], ids=["the same path", "another path"])
@pytest.mark.parametrize("seen_before_s", [0.0, POLLS_S])
def test_one_that_was_replaced_under_its_name_is_no_wrong_answer(path: str, seen_before_s: float) -> None:
    rig = served("sql")
    said = known(rig).adapters["sql"]
    load(rig, "sql", path, inplace=True)
    rig.run(seen_before_s)
    assert right_after_a_cycle(rig)
    assert known(rig).adapters["sql"] != said


def test_one_that_was_replaced_while_its_question_was_out_is_taken_anew() -> None:
    """Between a wake and the comparison: that its path is another one shows in the list that is read right after."""
    rig = served("sql", verify=Verify.AFTER)
    sleep(rig)
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers), every_s=0.01)
    load(rig, "sql", "/adapters/another", inplace=True)
    rig.run(POLLS_S)
    assert rig.state("a") is State.AWAKE
    assert "answer_doubted" not in kinds(rig)
    assert right_after_a_cycle(rig)
    assert set(known(rig).adapters) == {"sql"}


def test_no_answer_is_taken_of_what_a_wake_may_have_lost() -> None:
    """It fell asleep again before it was compared."""
    rig = served("sql", verify=Verify.AFTER)
    said = known(rig).adapters
    sleep(rig)
    rig.arm("a", Fault("lose_adapters"))
    answers = rig.wake("a")
    assert rig.until(lambda: bool(answers), every_s=0.005)
    slept = rig.sleep("a", 1)
    assert rig.until(lambda: bool(slept) and rig.settled())
    assert known(rig).adapters == said
    rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.FAILED)


def test_servers_whose_adapters_are_fixed_are_asked_no_more_than_before() -> None:
    rig = served("sql", runtime=False)
    before = asked(rig)
    sleep(rig)
    assert asked(rig) == before
