"""The metrics sleepd reads, on vLLM 0.32: names, what moves them, and the filtered page."""


async def test_counters_move_with_a_request(client):
    names = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
    before = [await client.metric(name) for name in names]
    lengths = await client.metric("vllm:request_success_total", finished_reason="length")
    await client.ask()
    after = [await client.metric(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [6, 8]
    assert await client.metric("vllm:request_success_total", finished_reason="length") == lengths + 1
    for gauge in ("vllm:num_requests_running", "vllm:num_requests_waiting"):
        assert await client.metric(gauge) == 0


async def count(client, handler, method="POST", status="2xx"):
    return await client.metric("http_requests_total", handler=handler, method=method, status=status) or 0


async def test_control_calls_are_counted_and_looks_are_not(client):
    handlers = [("/sleep", "POST"), ("/wake_up", "POST"), ("/is_sleeping", "GET"), ("/v1/models", "GET")]
    before = [await count(client, *handler) for handler in handlers]
    await client.post("/sleep")
    await client.post("/wake_up")
    await client.is_sleeping()
    await client.get("/v1/models")
    assert [await count(client, *handler) for handler in handlers] == [n + 1 for n in before]
    for target in ("/health", "/ping", "/version", "/load", "/metrics", "/server_info?config_format=json"):
        await client.get(target)
        assert await count(client, target.partition("?")[0], "GET") == 0


async def test_refusals_are_counted_by_class(client):
    none, sleep = await count(client, "none", "GET", "4xx"), await count(client, "/sleep", "POST", "4xx")
    await client.get("/nope")
    await client.get("/sleep")
    await client.post("/sleep?level=7")
    assert await count(client, "none", "GET", "4xx") == none + 2
    assert await count(client, "/sleep", "POST", "4xx") == sleep + 1


async def test_sleep_operations_are_timed(client):
    await client.post("/sleep")
    await client.post("/wake_up")
    name = "vllm:sleep_mode_operation_duration_seconds_count"
    before = [await client.metric(name, operation=operation) for operation in ("sleep", "wake")]
    await client.post("/sleep")
    await client.post("/wake_up")
    after = [await client.metric(name, operation=operation) for operation in ("sleep", "wake")]
    assert after == [n + 1 for n in before]
    assert await client.metric("vllm:sleep_mode_operations_in_flight", operation="sleep") == 0


async def test_the_page_is_a_page(client):
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    assert len(lines) > 550
    assert await client.metric("process_start_time_seconds") > 1.7e9


async def test_the_filtered_page_needs_its_trailing_slash(client):
    query = "?name[]=vllm:num_requests_running&name[]=vllm:generation_tokens_total"
    short = (await client.get(f"/metrics/{query}")).text.splitlines()
    names = [line.partition("{")[0] for line in short if not line.startswith("#")]
    assert sorted(names) == ["vllm:generation_tokens_total", "vllm:num_requests_running"]
    assert len((await client.get(f"/metrics{query}")).text.splitlines()) > 550
    assert (await client.get("/metrics/?name[]=nothing")).text == ""
