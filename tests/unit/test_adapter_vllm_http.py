"""The wire to vLLM: exactly which requests are sent, and what becomes of every kind of answer."""

import asyncio
import json
import time
from math import nan
from pathlib import Path
from typing import Any

import pytest

from sleepd.adapters import vllm_http
from sleepd.adapters.clock import SystemClock
from sleepd.adapters.connections import BODY_LIMIT
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.adapters.vllm_metrics import SERIES, Scrape, read_page
from sleepd.core import calls
from sleepd.core.calls import Answered, NoAnswer, NoAnswerKind, ProbeAnswer
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec
from sleepd.core.plan import Verb
from sleepd.core.question import COMPLETIONS, read_answer
from sleepd.core.seen import Activity
from tests.adapters.raw_server import reply
from tests.unit.vllm_bench import METRICS, Bench

# control calls

WAIT, KEEP, ABORT = ("mode", "wait"), ("mode", "keep"), ("mode", "abort")
REQUESTS = {
    Verb.SLEEP_L1: ("/sleep", (("level", "1"), WAIT), None),
    Verb.SLEEP_L2: ("/sleep", (("level", "2"), WAIT), None),
    Verb.RESLEEP_L1: ("/sleep", (("level", "1"), KEEP), None),
    Verb.RESLEEP_L2: ("/sleep", (("level", "2"), KEEP), None),
    Verb.CUT_L1: ("/sleep", (("level", "1"), ABORT), None),
    Verb.CUT_L2: ("/sleep", (("level", "2"), ABORT), None),
    Verb.WORKER_SLEEP_L1: ("/collective_rpc", (), {"method": "sleep", "kwargs": {"level": 1}}),
    Verb.WAKE: ("/wake_up", (), None),
    Verb.WAKE_WEIGHTS: ("/wake_up", (("tags", "weights"),), None),
    Verb.WAKE_KV: ("/wake_up", (("tags", "kv_cache"),), None),
    Verb.RELOAD: ("/collective_rpc", (), {"method": "reload_weights"}),
    Verb.RESET_PREFIX: ("/reset_prefix_cache", (), None),
}


@pytest.mark.parametrize("verb", REQUESTS)
async def test_each_verb_is_one_request_and_exactly_this_one(bench: Bench, verb: Verb) -> None:
    path, query, body = REQUESTS[verb]
    bench.pages[path] = {}
    assert await bench.call(verb) == Answered(200, "")
    (asked,) = bench.raw.asked
    assert (asked.method, asked.path, asked.query) == ("POST", path, query)
    assert (json.loads(asked.body) if asked.body else None) == body
    assert b"timeout" not in asked.body


async def test_checksums_are_asked_for_and_nothing_else_of_that_route(bench: Bench) -> None:
    assert await bench.vllm.checksums(timeout_s=2.0) == "", "404"
    bench.pages["/weight_checker"] = {"checksums": {"dp0:pp0:pcp0:tp0:x": "00"}}
    assert len(await bench.vllm.checksums(timeout_s=2.0)) == 64
    for page in (None, b"garbage", {"error": "no"}):
        bench.pages["/weight_checker"] = page
        assert await bench.vllm.checksums(timeout_s=2.0) == ""
    assert {(a.method, a.path, a.body) for a in bench.raw.asked} == {
        ("POST", "/weight_checker", b'{"action": "checksum"}')
    }


@pytest.mark.parametrize("verb", [Verb.SLEEP_L1, Verb.RESLEEP_L2])
async def test_releases_without_the_mode_parameter_are_not_sent_one(bench: Bench, verb: Verb) -> None:
    bench.pages["/sleep"] = {}
    await bench.call(verb, mode=False)
    (asked,) = bench.raw.asked
    assert [name for name, _ in asked.query] == ["level"]


async def test_every_control_call_has_a_connection_of_its_own(bench: Bench) -> None:
    bench.pages["/wake_up"] = {}
    await bench.look()
    await bench.look()
    looks = {asked.connection for asked in bench.raw.asked}
    await bench.call(Verb.WAKE)
    await bench.call(Verb.WAKE)
    calls = [asked.connection for asked in bench.raw.asked if asked.path == "/wake_up"]
    assert len(looks) == 1
    assert len({*looks, *calls}) == 3


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (reply({"status": "sleeping", "level": 1}), Answered(200, "sleeping")),
        (reply(b""), Answered(200, "")),
        (reply(b"not json"), Answered(200, "")),
        (reply({"error": {"message": "CUDA Error: out of memory"}}, 500), Answered(500, "CUDA Error: out of memory")),
        (reply({"detail": "Not Found"}, 404), Answered(404, "Not Found")),
        (reply(b"Internal Server Error", 500), Answered(500, "Internal Server Error")),
        (reply(b"x" * 2000, 500), Answered(500, "x" * 500)),
        (reply(b"[" * 200_000, 500), Answered(500, "[" * 500)),
        (reply(b'{"detail": "\\ud800"}', 500), Answered(500, '{"detail": "\\ud800"}')),
        (reply({"error": "odd"}, 400), Answered(400, '{"error": "odd"}')),
        (reply(b"", 307, "Location: /sleep?level=2"), Answered(307, "")),
    ],
)
async def test_answers(bench: Bench, answer: bytes, wanted: Answered) -> None:
    bench.pages["/sleep"] = answer
    assert await bench.call(Verb.SLEEP_L1) == wanted
    assert bench.paths() == ["/sleep"]


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage that is no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbut then it ended",
        b"HTTP/1.1 200 OK\r\n",
        reply(b"x" * (BODY_LIMIT + 1)),
    ],
)
async def test_an_answer_that_cannot_be_read_is_broken_off_and_never_asked_for_again(
    bench: Bench, answer: bytes
) -> None:
    bench.pages["/wake_up"] = answer if b"Content-Length: 100" not in answer else answer + b"\r\nConnection: close"
    result = await bench.call(Verb.WAKE)
    assert isinstance(result, NoAnswer)
    assert result.kind is NoAnswerKind.BROKEN_OFF
    assert result.detail
    assert bench.paths() == ["/wake_up"]


async def test_a_call_without_an_answer_times_out_when_told_and_is_not_repeated(bench: Bench) -> None:
    bench.pages["/wake_up"] = None
    began_s = time.monotonic()
    result = await bench.call(Verb.WAKE, 0.2)
    assert result == NoAnswer(NoAnswerKind.TIMED_OUT, "no answer within 0.2 s")
    assert 0.15 < time.monotonic() - began_s < 1.5
    assert bench.paths() == ["/wake_up"]


async def test_nobody_listens(tmp_path: Path) -> None:
    for url, told in (
        (f"unix:{tmp_path}/gone", "No such file or directory"),
        ("http://127.0.0.1:1", "Connect call failed"),
    ):
        vllm = VllmServer(ModelSpec("a", url), SystemClock(), ProcessFinder(tmp_path))
        result = await vllm.call(Verb.WAKE, timeout_s=2.0, mode_parameter=True)
        assert isinstance(result, NoAnswer)
        assert result.kind is NoAnswerKind.REFUSED
        assert told in result.detail
        assert "ssl" not in result.detail
        reading = await vllm.look(ask_sleeping=True, timeout_s=2.0)
        assert isinstance(reading, Missing)
        assert (reading.reason, reading.detail) == (MissingReason.REFUSED, result.detail)
        await vllm.close()


async def test_a_cache_held_by_requests_is_a_failure_though_the_status_is_200(bench: Bench) -> None:
    bench.pages["/reset_prefix_cache"] = {"success": False}
    assert await bench.call(Verb.RESET_PREFIX) == Answered(409, "the prefix cache is held by requests")


# looks


async def test_a_first_look_asks_for_everything_and_the_next_only_for_the_page(bench: Bench) -> None:
    reading = await bench.look()
    assert isinstance(reading, Known)
    seen = reading.value
    assert (seen.is_sleeping, seen.running, seen.waiting) == (False, 1, 2)
    assert seen.control is not None
    assert seen.control.sleep.ok == 3
    assert (seen.facts.version, seen.facts.incarnation, seen.facts.sleep_mode) == ("0.32.0", "pst:12.50", True)
    assert bench.paths() == ["/metrics/", "/version", "/v1/models", "/server_info", "/openapi.json", "/is_sleeping"]
    assert bench.raw.asked[0].query == tuple(("name[]", name) for name in SERIES)
    assert bench.raw.asked[3].query == (("config_format", "json"),)
    again = await bench.look()
    assert again.value.is_sleeping is None
    assert bench.paths()[6:] == ["/metrics/"]


async def test_adapters_that_come_and_go_are_listed_when_that_is_asked_for_and_once_in_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pages["/openapi.json"] = {"paths": {"/v1/load_lora_adapter": {"post": {}}}}
    first = (await bench.look()).value.facts
    assert (first.lora_names, first.loads_adapters) == ((), True)
    card = {"id": "sql", "parent": "tiny-a", "root": "/adapters/sql"}
    bench.pages["/v1/models"] = {"data": [{"id": "tiny-a"}, card]}
    assert (await bench.look()).value.facts is first
    seen = await bench.vllm.look(ask_sleeping=False, timeout_s=2.0, adapters=True)
    assert isinstance(seen, Known)
    assert (seen.value.facts.lora_names, seen.value.facts.lora_roots) == (("sql",), ("/adapters/sql",))
    assert seen.value.facts.incarnation == first.incarnation
    monkeypatch.setattr("sleepd.adapters.vllm_http.LIST_S", 0.0)
    bench.pages["/v1/models"] = reply({"error": "Unauthorized"}, 401)
    assert (await bench.look()).value.facts is seen.value.facts, "no list is no news"
    bench.pages["/v1/models"] = {"data": [{"id": "tiny-a"}]}
    assert (await bench.look()).value.facts.lora_names == ()


async def test_another_process_is_asked_anew(bench: Bench) -> None:
    await bench.look()
    bench.pages["/metrics/"] = METRICS.replace(b"12.5", b"99.5")
    bench.pages["/version"] = {"version": "0.33.0"}
    seen = (await bench.look()).value
    assert (seen.facts.incarnation, seen.facts.release, seen.is_sleeping) == ("pst:99.50", (0, 33, 0), False)


@pytest.mark.parametrize("filtered", [b"", reply({}, 404)])
async def test_the_full_page_is_read_where_the_filtered_one_is_empty_or_missing(bench: Bench, filtered: bytes) -> None:
    bench.pages["/metrics/"] = filtered
    assert (await bench.look()).value.running == 1
    await bench.look()
    assert bench.paths().count("/metrics/") == 1
    assert bench.paths().count("/metrics") == 2


async def test_a_page_is_read_again_only_where_it_says_something_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def note(page: bytes) -> Scrape:
        read.append(page)
        return read_page(page)

    monkeypatch.setattr(vllm_http, "read_page", note)
    first, same = [(await bench.look()).value.running for _ in range(2)]
    bench.pages["/metrics/"] = METRICS.replace(b"running 1", b"running 2")
    other = (await bench.look()).value.running
    assert (first, same, other, len(read)) == (1, 1, 2, 2)


@pytest.mark.parametrize(
    ("path", "page", "reason", "told"),
    [
        ("/is_sleeping", reply({}, 404), MissingReason.NO_DEV_MODE, "VLLM_SERVER_DEV_MODE=1"),
        ("/is_sleeping", reply({}, 401), MissingReason.UNAUTHORIZED, "status 401"),
        ("/is_sleeping", {"is_sleeping": "yes"}, MissingReason.UNREADABLE, "wanted"),
        ("/is_sleeping", b"[]", MissingReason.UNREADABLE, "found status 200: []"),
        ("/version", {"v": 1}, MissingReason.NOT_VLLM, "check url in [models.a]"),
        ("/version", reply(b"<html>", 200), MissingReason.NOT_VLLM, "check url in [models.a]"),
        ("/metrics/", b"garbage\r\n\r\n", MissingReason.UNREACHABLE, ""),
        ("/is_sleeping", None, MissingReason.TIMED_OUT, "no answer within"),
    ],
)
async def test_looks_that_tell_nothing(bench: Bench, path: str, page: Any, reason: MissingReason, told: str) -> None:
    await bench.look()
    bench.pages[path] = page
    bench.vllm._facts = None if path == "/version" else bench.vllm._facts
    reading = await bench.look(0.3, ask_sleeping=True)
    assert isinstance(reading, Missing)
    assert reading.reason is reason
    assert told in reading.detail


async def test_a_blocked_is_sleeping_does_not_hinder_a_plain_look(bench: Bench) -> None:
    """vLLM answers /is_sleeping behind the engine call that runs; the metrics page comes from the API server."""
    await bench.look()
    bench.pages["/is_sleeping"] = None
    blocked = asyncio.create_task(bench.look(0.5, ask_sleeping=True))
    await asyncio.sleep(0)
    assert isinstance(await bench.look(0.4), Known)
    assert isinstance(await blocked, Missing)


async def test_a_server_that_describes_nothing_is_still_seen(bench: Bench) -> None:
    del bench.pages["/server_info"], bench.pages["/v1/models"]
    seen = (await bench.look()).value
    assert not seen.facts.described
    assert seen.facts.served_names == ()


# the probe


def completion(*ranked: tuple[str, dict[str, float]]) -> dict[str, Any]:
    logprobs = {"tokens": [token for token, _ in ranked], "top_logprobs": [top for _, top in ranked]}
    return {"choices": [{"text": "".join(token for token, _ in ranked), "logprobs": logprobs}]}


SURE, NEAR, CLOSE = {" six": -0.1, " nine": -4.0}, {" nearly": -0.4, " ten": -1.2}, {" seven": -0.5, " ten": -0.9}


async def test_the_probe_is_greedy_short_and_cut_where_the_runner_up_is_close(bench: Bench) -> None:
    bench.pages["/v1/completions"] = completion((" six", SURE), (" nearly", NEAR), (" seven", CLOSE), (" eight", SURE))
    assert await bench.vllm.complete("five,", api_name="tiny-a", timeout_s=2.0) == ProbeAnswer(
        (" six",), (" six", " nearly"), spent=Activity(0, 0, 1)
    )
    (asked,) = bench.raw.asked
    assert json.loads(asked.body) == {
        "model": "tiny-a",
        "prompt": "five,",
        "max_tokens": 8,
        "temperature": 0,
        "seed": 0,
        "repetition_penalty": 1,
        "logprobs": 2,
        "return_tokens_as_token_ids": True,
    }


async def test_a_probe_that_is_refused_or_lost(bench: Bench) -> None:
    bench.pages["/v1/completions"] = reply({"error": {"message": "no"}}, 400)
    refused = await bench.vllm.complete("x", api_name="a", timeout_s=2.0)
    assert isinstance(refused, Answered)
    assert refused.status == 400
    bench.pages["/v1/completions"] = None
    lost = await bench.vllm.complete("x", api_name="a", timeout_s=0.1)
    assert isinstance(lost, NoAnswer)
    assert lost.kind is NoAnswerKind.TIMED_OUT


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"choices": []},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"tokens": "x", "top_logprobs": []}}]},
        completion((" six", {" six": -0.1})),
        {"choices": [{"logprobs": {"tokens": [1], "top_logprobs": [SURE]}}]},
        {"choices": [{"logprobs": {"tokens": [" a"], "top_logprobs": [None]}}]},
        completion((" six", {" six": nan, " nine": -4.0})),
        completion(("", SURE)),
        completion(("\N{REPLACEMENT CHARACTER}", SURE)),
    ],
)
def test_nothing_certain_in_odd_completions(answer: Any) -> None:
    assert read_answer(COMPLETIONS, answer).tokens == ()


# the page that lists them


def test_docs_vllm_lists_every_request_and_series() -> None:
    text = (Path(__file__).parents[2] / "docs" / "vllm.md").read_text()
    assert set(REQUESTS) == set(calls.REQUESTS)
    for path, query, body in REQUESTS.values():
        asked = f"`POST {path}" + ("?" + "&".join("=".join(pair) for pair in query) if query else "") + "`"
        assert asked + (f" `{json.dumps(body)}`" if body else "") in text
    for name in SERIES:
        assert f"`{name}`" in text
