"""A trace of what happened: as many requests as came, spread over their minutes, with the tokens they had."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sleepd.cli.trace import HEAD, trace_of


def row(minute: int, model: str, requests: int, finished: int, prompt: int = 0, output: int = 0) -> Any:
    moment = f"2026-01-01T{minute // 60:02}:{minute % 60:02}:00.000Z"
    counts = {"requests": requests, "finished": finished, "prompt_tokens": prompt, "output_tokens": output}
    return {"model": model, "minute": moment, **counts}


def lines(*rows: Any) -> list[str]:
    head, *found = trace_of(rows).text.splitlines()
    assert head == HEAD
    return found


def test_nothing_is_a_head() -> None:
    assert lines() == []


def test_requests_are_spread_over_their_minute_and_share_its_tokens() -> None:
    found = lines(row(5, "b", 2, 2, 101, 30), row(5, "a", 1, 1, 7, 3), row(6, "a", 1, 1, 9, 4))
    assert found == ["15.000,b,50,15", "30.000,a,7,3", "45.000,b,51,15", "90.000,a,9,4"]


def test_direct_requests_count_and_those_that_finish_later_count_once() -> None:
    # Came through the gateway in one minute, finished in the next; the last ones went past it.
    found = lines(row(0, "a", 3, 0), row(1, "a", 0, 3, 30, 6), row(2, "a", 0, 2, 40, 8))
    assert [line.split(",")[0] for line in found] == ["10.000", "30.000", "50.000", "135.000", "165.000"]
    assert [line.split(",")[2:] for line in found[:3]] == [["14", "2"], ["14", "3"], ["14", "3"]]


def test_tokens_that_nobody_counted_are_guessed_and_said() -> None:
    trace = trace_of([row(0, "new", 2, 0), row(0, "old", 1, 1, 50, 10)])
    assert trace.guessed == 2
    assert (trace.requests, trace.models) == (3, 2)
    assert "15.000,new,50,10" in trace.text


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9))))
def test_every_request_is_there_once(counts: list[tuple[int, str, int, int]]) -> None:
    unique = {(minute, model): (came, done) for minute, model, came, done in counts}
    rows = [row(m, model, came, done, done * 10, done) for (m, model), (came, done) in unique.items()]
    trace = trace_of(rows)
    for model in "ab":
        let_in = sum(r["requests"] for r in rows if r["model"] == model)
        finished = sum(r["finished"] for r in rows if r["model"] == model)
        assert sum(f",{model}," in line for line in trace.text.splitlines()) == max(let_in, finished)
    times = [float(line.split(",")[0]) for line in trace.text.splitlines()[1:]]
    assert times == sorted(times)
