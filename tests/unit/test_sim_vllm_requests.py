"""Inference around sleep: aborted, drained, kept, queued, or the end of the engine."""

import pytest

from sleepd.sim.vllm_types import SimDropped, SimReply
from tests.unit.sim_vllm_bench import ALL, Bench

RIGHT = "zero supa galo karo nega kami fodu fovi"
MODERN = ALL[1:]


def error_event(call):
    return [chunk for chunk in call.chunks if isinstance(chunk, dict) and "error" in chunk]


def test_answers_are_the_same_twice_and_differ_between_models():
    bench, other = Bench(), Bench(name="tiny-b")
    assert bench.ask().text == bench.ask().text == RIGHT
    assert other.ask(model="tiny-b").text != RIGHT


def test_counters_move_with_the_tokens():
    bench = Bench()
    bench.chat()
    bench.clock.run(0.45)
    now = bench.now
    assert (now.prompt_tokens, now.generation_tokens, now.num_requests_running) == (6, 4, 1)
    assert ("/v1/chat/completions", "POST", "2xx") not in now.http_requests
    bench.clock.run(1)
    now = bench.now
    assert (now.generation_tokens, now.num_requests_running, now.request_success["length"]) == (8, 0, 1)
    assert now.http_requests["/v1/chat/completions", "POST", "2xx"] == 1


def test_pace_of_one_request():
    bench = Bench(pace_s=0.0)
    slow = bench.chat(vllm_xargs={"pace_ms": 500})
    bench.clock.run(3.9)
    assert slow.waiting
    bench.clock.run(0.2)
    assert slow.text == RIGHT


@pytest.mark.parametrize("version", MODERN)
def test_abort_ends_running_requests_with_what_they_have(version):
    bench = Bench(version)
    plain, stream = bench.chat(), bench.chat(stream=True)
    bench.clock.run(0.35)
    assert bench.do("/sleep?level=1&mode=abort").status == 200
    choice = plain.body["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("abort", "zero supa galo")
    assert stream.chunks[-1] == "[DONE]"
    assert stream.chunks[-2]["choices"][0]["finish_reason"] == "abort"
    assert bench.now.request_success["abort"] == 2


@pytest.mark.parametrize("version", MODERN)
def test_wait_drains_running_and_queues_new_requests(version):
    bench = Bench(version)
    first = bench.chat()
    sleeping, late = bench.post("/sleep?level=1&mode=wait"), bench.chat()
    bench.clock.run(0.5)
    assert bench.is_sleeping()
    assert bench.is_paused()
    assert bench.held == 29
    assert sleeping.waiting
    bench.clock.run(2)
    assert (first.text, sleeping.status, bench.held) == (RIGHT, 200, 1)
    assert late.waiting
    bench.do("/wake_up")
    assert late.text == RIGHT


def test_keep_freezes_a_stream_through_the_sleep():
    bench = Bench()
    stream = bench.chat(stream=True)
    bench.clock.run(0.35)
    bench.do("/sleep?level=1&mode=keep")
    assert bench.now.num_requests_running == 1  # frozen gauge
    said = len(stream.chunks)
    assert said == 4  # role and three tokens
    bench.do("/wake_up")
    text = "".join(c["choices"][0]["delta"]["content"] for c in stream.chunks[:-1])
    assert text == RIGHT
    assert bench.now.generation_tokens == 8


def test_keep_preempts_only_when_the_kv_cache_goes():
    for level, frees_blocks in ((0, False), (1, True)):
        bench = Bench()
        bench.chat()
        bench.clock.run(0.2)
        bench.do(f"/sleep?level={level}&mode=keep")
        assert bench.post("/reset_prefix_cache").body == {"success": frees_blocks}


def test_level_0_keep_then_level_1_wait_lets_the_kept_request_end():
    bench = Bench()
    call = bench.chat()
    bench.clock.run(0.2)
    bench.do("/sleep?level=0&mode=keep")
    assert call.waiting
    assert bench.do("/sleep?level=1&mode=wait").status == 200
    assert (call.text, bench.held) == (RIGHT, 1)


@pytest.mark.parametrize("version", MODERN)
def test_requests_to_a_sleeper_queue_unseen(version):
    bench = Bench(version, load_tracking=True)
    bench.do("/sleep?level=1")
    plain, stream = bench.chat(), bench.chat(stream=True)
    bench.clock.run(60)
    assert plain.waiting
    assert stream.answers == [SimReply(200, streaming=True)]
    assert (bench.now.num_requests_waiting, bench.get("/load").body) == (0, {"server_load": 2})
    bench.do("/wake_up")
    assert (plain.text, stream.chunks[-1]) == (RIGHT, "[DONE]")
    assert bench.get("/load").body == {"server_load": 0}


def test_a_request_to_a_sleeper_kills_the_engine_up_to_0_16():
    bench = Bench("0.16.0")
    bench.do("/sleep?level=1")
    assert bench.chat().status == 500
    assert bench.get("/health").status == 503
    bench.clock.run(1)
    assert bench.exits == [0]


def test_a_request_in_flight_kills_the_engine_after_the_200_up_to_0_16():
    bench = Bench("0.16.0")
    call, sleeping = bench.chat(), bench.post("/sleep?level=1")
    bench.clock.run(1.05)
    assert (sleeping.status, call.status) == (200, 500)


def test_pause_gates_a_sleeper_in_0_16():
    bench = Bench("0.16.0")
    bench.post("/pause?mode=wait")
    assert (bench.is_paused(), bench.is_sleeping()) == (True, False)
    bench.do("/sleep?level=1")
    call = bench.chat()
    bench.do("/wake_up")
    assert call.waiting
    bench.post("/resume")
    bench.clock.run(5)
    assert call.text == RIGHT


@pytest.mark.parametrize("version", MODERN)
def test_a_second_sleep_aborts_what_was_queued_unless_it_keeps(version):
    bench = Bench(version)
    bench.do("/sleep?level=1")
    plain, stream = bench.chat(), bench.chat(stream=True)
    bench.do("/sleep?level=1&mode=keep")
    assert plain.waiting
    bench.do("/sleep?level=1")
    assert plain.body["choices"][0]["finish_reason"] == "abort"
    assert plain.body["usage"]["completion_tokens"] == 0
    assert [c if c == "[DONE]" else c["choices"][0]["finish_reason"] for c in stream.chunks] == [None, "[DONE]"]


def test_a_queued_request_is_dropped_with_its_client():
    bench = Bench(load_tracking=True)
    bench.do("/sleep?level=1")
    call = bench.chat()
    call.handle.abandon()
    assert bench.get("/load").body == {"server_load": 0}
    bench.do("/wake_up")
    assert (call.answers, bench.now.generation_tokens) == ([], 0)


@pytest.mark.parametrize(("version", "dies"), [("0.22.1", True), ("0.24.0", False), ("0.32.0", False)])
def test_a_request_between_the_wake_stages(version, dies):
    bench = Bench(version)
    bench.do("/sleep?level=1")
    bench.do("/wake_up?tags=weights")
    call = bench.chat()
    bench.clock.run(1)
    if dies:
        assert call.status == 500
    else:
        assert call.waiting
        bench.do("/wake_up?tags=kv_cache")
        assert call.text == RIGHT


def test_even_a_mistagged_wake_resumes_the_scheduler_up_to_0_23():
    for version, dies in (("0.22.1", True), ("0.24.0", False)):
        bench = Bench(version)
        bench.do("/sleep?level=1")
        bench.do("/wake_up?tags=bogus")
        assert bench.chat().waiting is not dies


@pytest.mark.parametrize("version", MODERN)
def test_resume_on_a_sleeper_lets_the_next_request_kill_it(version):
    bench = Bench(version)
    bench.do("/sleep?level=1")
    assert bench.post("/resume").body == {"status": "resumed"}
    assert (bench.is_sleeping(), bench.is_paused()) == (True, False)
    assert bench.chat().status == 500


@pytest.mark.parametrize("version", MODERN)
@pytest.mark.parametrize("caller_stays", [True, False])
def test_the_delayed_sleep_bomb(version, caller_stays):
    """A wake during a drain answers awake; the pending sleep fires all the same, and the next request is the last."""
    bench = Bench(version)
    first = bench.chat()
    sleeping = bench.post("/sleep?level=1&mode=wait")
    if not caller_stays:
        sleeping.handle.abandon()
    bench.clock.run(0.3)
    woken = bench.post("/wake_up")
    assert woken.status == 200
    assert (bench.is_sleeping(), bench.is_paused()) == (False, False)
    bench.clock.run(5)
    assert first.text == RIGHT
    assert sleeping.waiting is not caller_stays
    assert (bench.is_sleeping(), bench.is_paused(), bench.held) == (True, False, 1)
    assert bench.chat().status == 500
    bench.clock.run(1)
    assert bench.exits == [0]


def test_abort_during_a_drain_ends_both_sleeps():
    bench = Bench()
    bench.chat()
    waiting = bench.post("/sleep?level=1&mode=wait")
    bench.clock.run(0.2)
    assert bench.do("/sleep?level=1&mode=abort").status == waiting.status == 200
    assert (bench.held, bench.is_paused()) == (1, True)


def test_streams_stand_still_while_a_control_call_runs():
    bench = Bench()
    stream = bench.chat(stream=True)
    bench.clock.run(0.25)
    before = len(stream.chunks)
    bench.post("/collective_rpc", {"method": "reload_weights"})
    bench.clock.run(2.9)
    assert len(stream.chunks) == before
    bench.clock.run(3)
    assert stream.chunks[-1] == "[DONE]"


def test_engine_death_ends_streams_in_an_error_and_the_process_in_0():
    bench = Bench("0.16.0")
    stream = bench.chat(stream=True)
    bench.clock.run(0.2)
    bench.post("/sleep?level=1")
    asked = bench.get("/is_sleeping")
    bench.clock.run(1.1)
    assert error_event(stream)
    assert stream.chunks[-1] == "[DONE]"
    assert asked.body == {"is_sleeping": True}
    hanging = bench.get("/is_sleeping")
    bench.clock.run(0.3)
    assert bench.get("/health").answers == [SimDropped(refused=True)]
    assert hanging.waiting
    assert bench.exits == []
    bench.clock.run(0.5)
    assert (hanging.dropped, bench.exits, bench.gpu.used(), bench.ram.pinned) == (True, [0], 0, 0)


def test_sigterm_ends_running_in_an_error_and_queued_as_aborted():
    bench = Bench(max_num_seqs=1)
    running, queued = bench.chat(), bench.chat()
    bench.clock.run(0.2)
    bench.engine.terminate()
    assert running.status == 500
    assert queued.body["choices"][0]["finish_reason"] == "abort"
    bench.clock.run(0.4)
    assert bench.exits == [0]


def test_sigkill_of_the_api_server_alone_leaves_the_memory_held():
    bench = Bench()
    call = bench.chat()
    bench.engine.kill(orphans=True)
    assert call.dropped
    assert (bench.exits, bench.gpu.used()) == ([-9], 29)


def test_logprobs_and_token_ids_when_asked():
    bench = Bench()
    call = bench.ask(logprobs=True, top_logprobs=2, return_token_ids=True, max_tokens=3)
    choice = call.body["choices"][0]
    assert [row["token"] for row in choice["logprobs"]["content"]] == ["zero", " supa", " galo"]
    assert all(len(row["top_logprobs"]) == 2 for row in choice["logprobs"]["content"])
    assert len(choice["token_ids"]) == 3
    plain = bench.post("/v1/completions", {"model": "tiny-a", "prompt": "x", "max_tokens": 2, "logprobs": 1})
    bench.clock.run(1)
    assert len(plain.body["choices"][0]["logprobs"]["tokens"]) == 2


def test_abort_requests_by_id():
    bench = Bench()
    call = bench.send("POST", "/v1/chat/completions", {"messages": [], "max_tokens": 8}, {"x-request-id": "r1"})
    bench.clock.run(0.2)
    assert bench.post("/abort_requests", {"request_ids": ["chatcmpl-r1"]}).body == {"status": "aborted", "aborted": 1}
    assert call.body["choices"][0]["finish_reason"] == "abort"


def test_max_num_seqs_shows_in_the_waiting_gauge():
    bench = Bench(max_num_seqs=1)
    bench.chat()
    bench.chat()
    assert (bench.now.num_requests_running, bench.now.num_requests_waiting) == (1, 1)
