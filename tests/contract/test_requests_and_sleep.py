"""Inference around sleep, as vLLM 0.32 does it. `pace_ms` keeps requests in flight long enough."""

import asyncio
import contextlib

PACE_MS = 30


async def begun(seen):
    """The stream has said something."""
    for _ in range(500):
        if len(seen) > 2:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the stream never began")


def texts(seen):
    return "".join(event["choices"][0]["delta"].get("content", "") for event in seen if event != "[DONE]")


def reasons(seen):
    return [event["choices"][0]["finish_reason"] for event in seen if event != "[DONE]"]


async def test_abort_cuts_streams_and_answers_short(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=200, pace_ms=PACE_MS))
    question = client.question(tokens=200, pace_ms=PACE_MS)
    plain = asyncio.create_task(client.post("/v1/chat/completions", question))
    await begun(seen)
    assert (await client.post("/sleep?level=1&mode=abort")).status == 200
    await stream
    assert (reasons(seen)[-1], seen[-1]) == ("abort", "[DONE]")
    answer = await plain
    assert (answer.status, answer.data["choices"][0]["finish_reason"]) == (200, "abort")


async def test_wait_drains_and_holds_newcomers(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=20, pace_ms=PACE_MS))
    await begun(seen)
    sleep = asyncio.create_task(client.post("/sleep?level=1&mode=wait"))
    await asyncio.sleep(0.1)
    assert await client.is_sleeping()
    assert not sleep.done()
    assert await client.metric("vllm:sleep_mode_operations_in_flight", operation="sleep") == 1
    late = asyncio.create_task(client.ask())
    assert (await sleep).data == {"status": "sleeping", "level": 1}
    await stream
    assert reasons(seen)[-1] == "length"
    await asyncio.sleep(0.1)
    assert not late.done()
    await client.post("/wake_up")
    assert await late == await client.ask()


async def test_keep_carries_a_stream_through_the_sleep(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=20, pace_ms=PACE_MS))
    await begun(seen)
    await client.post("/sleep?level=1&mode=keep")
    await asyncio.sleep(0.1)
    said = len(seen)
    await asyncio.sleep(0.2)
    assert len(seen) == said
    assert await client.metric("vllm:num_requests_running") == 1
    await client.post("/wake_up")
    await stream
    assert (reasons(seen)[-1], seen[-1]) == ("length", "[DONE]")
    whole: list = []
    await client.stream(whole, tokens=20)
    assert texts(seen) == texts(whole)


async def test_requests_to_a_sleeper_wait_unseen(client):
    right = await client.ask()
    await client.post("/sleep?level=1")
    seen: list = []
    waiting = [asyncio.create_task(client.ask()), asyncio.create_task(client.stream(seen))]
    await asyncio.sleep(0.3)
    assert seen == []
    assert not any(task.done() for task in waiting)
    assert await client.metric("vllm:num_requests_waiting") == 0
    await client.post("/wake_up?tags=weights")
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in waiting)
    await client.post("/wake_up?tags=kv_cache")
    await asyncio.gather(*waiting)
    assert (waiting[0].result(), texts(seen)) == (right, right)


async def test_refusals_and_tokenize_need_no_wake(client):
    await client.post("/sleep?level=1")
    assert (await client.post("/v1/chat/completions", client.question() | {"model": "nope"})).status == 404
    assert (await client.post("/v1/chat/completions", client.question(tokens=100000))).status == 400
    assert (await client.post("/tokenize", {"model": client.model, "prompt": "hello"})).status == 200


async def test_a_second_sleep_aborts_the_queue_and_one_that_waits_does_not(client):
    await client.post("/sleep?level=1")
    kept = asyncio.create_task(client.post("/v1/chat/completions", client.question()))
    await asyncio.sleep(0.1)
    assert (await client.post("/sleep?level=1&mode=wait")).status == 200
    assert not kept.done()
    assert (await client.post("/sleep?level=1&mode=abort")).status == 200
    answer = await kept
    assert (answer.status, answer.data["choices"][0]["finish_reason"]) == (200, "abort")
    assert answer.data["usage"]["completion_tokens"] == 0


async def test_a_drain_outlives_its_caller(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=15, pace_ms=PACE_MS))
    await begun(seen)
    with contextlib.suppress(TimeoutError):
        await client.post("/sleep?level=1&mode=wait", limit_s=0.1)
    await stream
    assert reasons(seen)[-1] == "length"
    for _ in range(100):
        if await client.metric("vllm:engine_sleep_state", sleep_state="weights_offloaded"):
            break
        await asyncio.sleep(0.02)
    else:
        raise AssertionError("the abandoned drain never ended in a sleep")
    assert (await client.post("/wake_up")).data["status"] == "awake"


async def test_a_wake_during_a_drain_does_not_stop_the_sleep(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=20, pace_ms=PACE_MS))
    await begun(seen)
    sleep = asyncio.create_task(client.post("/sleep?level=1&mode=wait"))
    await asyncio.sleep(0.1)
    assert (await client.post("/wake_up")).data == {"status": "awake", "tags": None}
    await stream
    assert (await sleep).data == {"status": "sleeping", "level": 1}
    assert await client.is_sleeping()
    assert not await client.is_paused()  # the next request would be computed on released memory
    assert (await client.post("/wake_up")).data["status"] == "awake"


async def test_abort_ends_a_drain(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=200, pace_ms=PACE_MS))
    await begun(seen)
    drain = asyncio.create_task(client.post("/sleep?level=1&mode=wait"))
    await asyncio.sleep(0.1)
    assert (await client.post("/sleep?level=1&mode=abort")).status == 200
    assert (await drain).status == 200
    await stream
    assert reasons(seen)[-1] == "abort"


async def test_a_client_that_leaves_the_queue_is_forgotten(client):
    tokens = await client.metric("vllm:generation_tokens_total")
    await client.post("/sleep?level=1")
    with contextlib.suppress(TimeoutError):
        await client.post("/v1/chat/completions", client.question(), limit_s=0.1)
    await asyncio.sleep(0.2)
    await client.post("/wake_up")
    await asyncio.sleep(0.1)
    assert await client.metric("vllm:generation_tokens_total") == tokens


async def test_pause_aborts_by_default_and_waits_when_told(client):
    seen: list = []
    stream = asyncio.create_task(client.stream(seen, tokens=200, pace_ms=PACE_MS))
    await begun(seen)
    assert (await client.post("/pause")).data == {"status": "paused"}
    await stream
    assert reasons(seen)[-1] == "abort"
    await client.post("/resume")
    seen = []
    stream = asyncio.create_task(client.stream(seen, tokens=15, pace_ms=PACE_MS))
    await begun(seen)
    assert (await client.post("/pause?mode=wait")).data == {"status": "paused"}
    await stream
    assert reasons(seen)[-1] == "length"
