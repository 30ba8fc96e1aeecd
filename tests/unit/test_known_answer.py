"""What an engine is known by: runs that agree, answers that match, vectors that point the same way."""

import pytest

from sleepd.core.asking import Complete, Got, Look
from sleepd.core.calls import Answered
from sleepd.core.commands import StepOrder
from sleepd.core.events import StepEnd
from sleepd.core.known_answer import BASE, agreed, cosine, differing, is_same
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.plan import Verb, step_of
from sleepd.core.procedure import perform
from sleepd.core.question import COMPLETIONS, EMBEDDINGS, POOLING, question_body, read_answer
from sleepd.core.seen import Activity, EngineFacts, Fingerprint, KnownAnswer, ModelSeen


def said(*tokens: str) -> KnownAnswer:
    return KnownAnswer(tokens)


def points(*numbers: float) -> KnownAnswer:
    return KnownAnswer(vector=numbers)


def test_only_what_two_runs_have_in_common_is_known() -> None:
    assert agreed(said("six", "seven", "ten"), said("six", "seven", "eight")) == said("six", "seven")
    assert agreed(said("six"), said("six", "seven")) == said("six")
    assert not agreed(said("six"), said("seven")).any()
    assert agreed(points(1.0, 0.0), points(1.0, 0.001)) == points(1.0, 0.0)
    assert not agreed(points(1.0, 0.0), points(1.0, 0.2)).any()


def test_answers_are_compared_as_far_as_both_are_certain() -> None:
    assert is_same(said("six"), said("six", "seven"))
    assert not is_same(said("six", "nine"), said("six", "seven"))
    assert not is_same(said(), said("six"))


def test_vectors_are_compared_by_their_direction() -> None:
    assert is_same(points(2.0, 0.02), points(1.0, 0.0))
    assert not is_same(points(0.0, 1.0), points(1.0, 0.0))
    assert not is_same(said("six"), points(1.0, 0.0))


@pytest.mark.parametrize("odd", [(), (1.0,), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)])
def test_no_direction_is_like_no_other(odd: tuple[float, ...]) -> None:
    assert cosine(odd, (1.0, 0.0)) == -1.0


def test_each_adapter_is_known_by_its_own_answer() -> None:
    known = Fingerprint("prompt", ("six",), adapters={"sql": said("select"), "poet": said("roses")})
    right = {BASE: said("six"), "sql": said("select"), "poet": said("roses")}
    assert differing(right, known) == ()
    assert differing({**right, "sql": said("six")}, known) == ("sql",)
    assert differing({BASE: said("six"), "sql": said("select")}, known) == (), "an adapter may be unloaded"
    assert differing({"sql": said("select")}, known) == (BASE,), "the base model must answer"


def test_what_a_question_cost_stands_in_its_answer() -> None:
    usage = {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32}
    assert read_answer(COMPLETIONS, {"choices": [], "usage": usage}).spent == Activity(24, 8, 1)
    assert read_answer(POOLING, {"data": [], "usage": {"prompt_tokens": 24}}).spent == Activity(24, 0, 1)
    assert read_answer(COMPLETIONS, None).spent == Activity(0, 0, 1)


def test_vectors_are_read_from_embeddings_and_from_pooled_rows() -> None:
    told = {"data": [{"object": "embedding", "embedding": [0.25, -1, 3.5]}]}
    assert read_answer(EMBEDDINGS, told).vector == (0.25, -1.0, 3.5)
    assert read_answer(POOLING, {"data": [{"data": [[1, 2], [3.0]]}]}).vector == (1.0, 2.0, 3.0)
    assert read_answer(EMBEDDINGS, {"data": [{"embedding": ["x", None, True]}]}).vector == ()


def test_each_route_is_asked_in_its_own_words() -> None:
    assert question_body(COMPLETIONS, "a", "p")["max_tokens"] == 8
    assert question_body(EMBEDDINGS, "a", "p") == {"model": "a", "input": "p", "encoding_format": "float"}
    assert question_body(POOLING, "a", "p") == {"model": "a", "input": "p"}


@pytest.mark.parametrize(
    ("look", "end"),
    [
        (Known(ModelSeen(EngineFacts("0.32.0", (0, 32), "pst:1", ("a",)), is_sleeping=False), 2.0, 2.0), StepEnd.DONE),
        (Missing(MissingReason.TIMED_OUT, "/is_sleeping"), StepEnd.UNANSWERED),
        (Missing(MissingReason.REFUSED), StepEnd.UNANSWERED),
    ],
)
def test_a_refusal_is_a_wrong_answer_only_of_an_engine_that_lives(look: Reading[ModelSeen], end: StepEnd) -> None:
    """An API server whose engine was killed answers 500 as well, until it ends (recorded): nothing is wrong with its
    weights."""
    asked = perform(StepOrder("a", 1, 0, step_of(Verb.PROBE), 60.0, prompt="prompt", api_name="a"), 0.0)
    assert isinstance(next(asked), Complete)
    assert isinstance(asked.send(Got(Answered(500, "EngineCore encountered an issue."), 1.0)), Look)
    with pytest.raises(StopIteration) as ended:
        asked.send(Got(look, 2.0))
    assert (ended.value.value[0], ended.value.value[1].answers) == (end, {})
