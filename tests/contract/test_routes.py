"""What a vLLM 0.32 answers on routes that change nothing, and to requests it refuses."""

import pytest


async def test_routes_without_a_body(client):
    for target in ("/health", "/ping"):
        answer = await client.get(target)
        assert (answer.status, answer.text) == (200, "")
        assert "content-type" not in answer.headers
        assert answer.headers["server"] == "uvicorn"


async def test_version_and_models(client):
    assert (await client.get("/version")).data["version"].startswith("0.32")
    card = (await client.get("/v1/models")).data["data"][0]
    assert (card["id"], card["object"], card["parent"]) == (client.model, "model", None)
    assert card["max_model_len"] == 4096


async def test_awake(client):
    assert (await client.get("/is_sleeping")).data == {"is_sleeping": False}
    assert (await client.get("/is_paused")).data == {"is_paused": False}
    assert (await client.get("/load")).data == {"server_load": 0}


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/nope", 404), ("GET", "/sleep", 405), ("POST", "/is_sleeping", 405), ("GET", "/collective_rpc", 405)],
)
async def test_unknown_routes_and_methods(client, method, target, status):
    answer = await client.send(method, target)
    assert answer.status == status
    assert answer.data == {"detail": "Not Found" if status == 404 else "Method Not Allowed"}


@pytest.mark.parametrize(
    ("query", "param"),
    [("level=7", "level"), ("level=-1", "level"), ("level=abc", "level"), ("mode=bogus", "mode")],
)
async def test_bad_sleep_queries_are_400_and_do_nothing(client, query, param):
    answer = await client.post(f"/sleep?{query}")
    assert answer.status == 400
    assert answer.error["param"] == f"query.{param}"
    assert answer.error["message"].startswith("1 validation error:")
    assert not await client.is_sleeping()


async def test_bad_pause_mode(client):
    answer = await client.post("/pause?mode=bogus")
    assert (answer.status, answer.error["param"]) == (400, "query.mode")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 400, "JSON decode error"),
        (b"[]", 400, "Request body must be a JSON object"),
        (b"{}", 400, "Missing 'method' in request body"),
        (b'{"method": "nonsense"}', 500, "'nonsense'"),
        (b'{"method": "reload_weights", "kwargs": {"bogus": "1"}}', 500, "unexpected keyword argument 'bogus'"),
    ],
)
async def test_bad_worker_calls(client, body, status, text):
    answer = await client.post("/collective_rpc", body)
    assert answer.status == answer.error["code"] == status
    assert text in answer.error["message"]
    assert answer.error["type"] == ("Bad Request" if status == 400 else "InternalServerError")
    if status == 500:
        assert answer.error["message"].startswith("Call to collective_rpc method failed: ")


async def test_good_worker_calls(client):
    for method in ("check_health", "reload_weights"):
        assert (await client.rpc(method)).data == {"results": [None]}


async def test_checksums_of_all_weights(client):
    answer = await client.post("/weight_checker", {"action": "checksum"})
    sums = answer.data["checksums"]
    assert answer.status == 200
    assert sums
    assert all(name.startswith("dp0:pp0:pcp0:tp0:") and len(digest) == 64 for name, digest in sums.items())
    same = await client.post("/weight_checker", {"action": "compare", "baseline": sums})
    assert same.data == {"match": True, "mismatches": []}
    name = min(sums)
    other = await client.post("/weight_checker", {"action": "compare", "baseline": {**sums, name: "0" * 64, "x": "y"}})
    assert (other.status, other.data) == (200, {"match": False, "mismatches": [name, "x"]})


@pytest.mark.parametrize("body", [{}, {"action": "bogus"}, {"action": "compare"}])
async def test_bad_questions_for_checksums(client, body):
    assert (await client.post("/weight_checker", body)).status == 400


async def test_releasing_the_kv_cache_needs_a_pause(client):
    answer = await client.post("/release_kv_cache_memory")
    assert answer.status == 500
    assert answer.error["message"].endswith("release_kv_cache_memory() requires a completed pause first")


async def test_caches_reset(client):
    assert (await client.post("/reset_prefix_cache")).data == {"success": True}
    answer = await client.post("/reset_mm_cache")
    assert (answer.status, answer.text) == (200, "")


async def test_openapi_shows_the_routes_and_the_query_of_sleep(client):
    paths = (await client.get("/openapi.json")).data["paths"]
    for path in ("/sleep", "/wake_up", "/is_sleeping", "/collective_rpc", "/pause", "/resume", "/server_info"):
        assert path in paths
    names = [parameter["name"] for parameter in paths["/sleep"]["post"]["parameters"]]
    assert names == ["level", "mode"]


async def test_server_info_as_json(client):
    config = (await client.get("/server_info?config_format=json")).data["vllm_config"]
    assert config["model_config"]["served_model_name"] == client.model
    assert isinstance(config["model_config"]["enable_sleep_mode"], bool)
    assert config["model_config"]["quantization"] is None
    sizes = [config["parallel_config"][f"{kind}_parallel_size"] for kind in ("tensor", "pipeline", "data")]
    assert sizes == [1, 1, 1]
    assert 0 < config["cache_config"]["gpu_memory_utilization"] <= 1
    assert (config["lora_config"], config["speculative_config"]) == (None, None)
    assert config["load_config"]["load_format"] == "auto"


@pytest.mark.parametrize(
    ("change", "status", "kind", "param"),
    [
        ({"model": "nope"}, 404, "NotFoundError", "model"),
        ({"max_tokens": 100000}, 400, "BadRequestError", "max_tokens"),
    ],
)
async def test_refused_questions(client, change, status, kind, param):
    answer = await client.post("/v1/chat/completions", client.question() | change)
    assert answer.status == answer.error["code"] == status
    assert (answer.error["type"], answer.error["param"]) == (kind, param)


async def test_questions_that_are_none(client):
    bad = await client.post("/v1/chat/completions", b"{not json")
    assert (bad.status, bad.error["param"], bad.error["type"]) == (400, "body.1", "Bad Request")
    missing = await client.post("/v1/chat/completions", {"model": client.model})
    assert (missing.status, missing.error["param"]) == (400, "body.messages")


async def test_an_answer_and_its_usage(client):
    answer = await client.post("/v1/chat/completions", client.question())
    choice = answer.data["choices"][0]
    assert (answer.data["object"], choice["finish_reason"]) == ("chat.completion", "length")
    assert choice["message"]["role"] == "assistant"
    usage = answer.data["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (6, 8, 14)
    assert await client.ask() == await client.ask() == choice["message"]["content"]


async def test_logprobs(client):
    answer = await client.post("/v1/chat/completions", client.question(logprobs=True, top_logprobs=3))
    rows = answer.data["choices"][0]["logprobs"]["content"]
    assert len(rows) == 8
    assert all(len(row["top_logprobs"]) == 3 and row["logprob"] <= 0 for row in rows)
    body = {"model": client.model, "prompt": "x", "max_tokens": 2, "temperature": 0, "logprobs": 1}
    answer = await client.post("/v1/completions", body)
    assert len(answer.data["choices"][0]["logprobs"]["tokens"]) == 2


async def test_a_stream(client):
    seen: list = []
    await client.stream(seen, stream_options={"include_usage": True})
    assert seen[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert seen[-3]["choices"][0]["finish_reason"] == "length"
    assert seen[-2]["usage"]["completion_tokens"] == 8
    assert seen[-1] == "[DONE]"


async def test_tokenize(client):
    data = (await client.post("/tokenize", {"model": client.model, "prompt": "hello"})).data
    assert (data["count"], data["max_model_len"], data["token_strs"]) == (len(data["tokens"]), 4096, None)
