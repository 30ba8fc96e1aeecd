"""Sleep and wake as vLLM 0.32 does them: what it says, and what it does whatever it says."""

import asyncio

import pytest

SLEEPING_1 = {"status": "sleeping", "level": 1}
AWAKE = {"status": "awake", "tags": None}
STATES = ("awake", "weights_offloaded", "discard_all")


async def gauge(client):
    values = [await client.metric("vllm:engine_sleep_state", sleep_state=state) for state in STATES]
    return [state for state, value in zip(STATES, values, strict=True) if value]


async def test_level_1_by_default_and_back(client):
    right = await client.ask()
    assert (await client.post("/sleep")).data == SLEEPING_1
    assert await client.is_sleeping()
    assert await client.is_paused()
    for target in ("/health", "/ping", "/version", "/v1/models", "/load"):
        assert (await client.get(target)).status == 200
    assert (await client.post("/wake_up")).data == AWAKE
    assert not await client.is_sleeping()
    assert await client.ask() == right


async def test_wake_when_awake(client):
    assert (await client.post("/wake_up")).data == AWAKE
    assert (await client.post("/wake_up?tags=weights")).data == {"status": "awake", "tags": ["weights"]}


async def test_a_json_body_is_ignored(client):
    assert (await client.post("/sleep", {"level": 2})).data == SLEEPING_1
    assert (await client.post("/wake_up", {"tags": ["weights"]})).data == AWAKE


async def test_the_lie_of_level_2_on_a_sleeper(client):
    right = await client.ask()
    await client.post("/sleep?level=1")
    assert (await client.post("/sleep?level=2")).data == {"status": "sleeping", "level": 2}
    assert await gauge(client) == ["discard_all"]
    await client.post("/wake_up")
    assert await client.ask() == right


async def test_checksums_tell_lost_weights_from_those_read_anew(client):
    sums = (await client.post("/weight_checker", {"action": "checksum"})).data["checksums"]
    baseline = {"action": "compare", "baseline": sums}
    await client.post("/sleep?level=2")
    await client.post("/wake_up?tags=weights")
    lost = (await client.post("/weight_checker", baseline)).data
    assert not lost["match"]
    assert lost["mismatches"]
    await client.rpc("reload_weights")
    assert (await client.post("/weight_checker", baseline)).data == {"match": True, "mismatches": []}
    await client.post("/wake_up")
    assert (await client.post("/weight_checker", baseline)).data == {"match": True, "mismatches": []}
    assert (await client.post("/weight_checker", {"action": "reset"})).data == {"status": "reset"}
    assert not (await client.post("/weight_checker", baseline)).data["match"]
    await client.rpc("reload_weights")
    assert (await client.post("/weight_checker", baseline)).data == {"match": True, "mismatches": []}


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("tags=bogus", ["bogus"]),
        ("tags=weights,kv_cache", ["weights,kv_cache"]),
        ("tags=", [""]),
        ("tags=weights&tags=bogus", ["weights", "bogus"]),
        ("tags=scheduling", ["scheduling"]),
    ],
)
async def test_wrong_tags_wake_nothing(client, query, tags):
    await client.post("/sleep?level=1")
    answer = await client.post(f"/wake_up?{query}")
    assert (answer.status, answer.data) == (200, {"status": "sleeping", "tags": tags})
    assert await client.is_sleeping()


async def test_staged_wake_in_both_orders(client):
    for first, second in (("weights", "kv_cache"), ("kv_cache", "weights")):
        await client.post("/sleep?level=1")
        assert (await client.post(f"/wake_up?tags={first}")).data == {"status": "sleeping", "tags": [first]}
        assert await client.is_sleeping()
        assert await gauge(client) == ["weights_offloaded"]
        assert (await client.post(f"/wake_up?tags={second}")).data == {"status": "awake", "tags": [second]}
        assert await gauge(client) == ["awake"]


async def test_both_tags_at_once(client):
    await client.post("/sleep?level=1")
    answer = await client.post("/wake_up?tags=weights&tags=kv_cache")
    assert answer.data == {"status": "awake", "tags": ["weights", "kv_cache"]}


async def test_a_half_woken_engine_sleeps_again(client):
    await client.post("/sleep?level=1")
    await client.post("/wake_up?tags=weights")
    assert (await client.post("/sleep?level=1")).data == SLEEPING_1
    assert (await client.post("/wake_up?tags=kv_cache")).data["status"] == "sleeping"


async def test_level_2_needs_its_reload(client, vllm):
    right = await client.ask()
    await client.post("/sleep?level=2")
    assert await gauge(client) == ["discard_all"]
    await client.post("/wake_up")
    if vllm.supports_gpu_like:
        assert await client.ask() != right
    assert (await client.rpc("reload_weights")).status == 200
    assert await client.ask() == right


async def test_the_recipe_of_level_2(client):
    right = await client.ask()
    await client.post("/sleep?level=2")
    assert (await client.post("/wake_up?tags=weights")).data["status"] == "sleeping"
    assert (await client.rpc("reload_weights")).data == {"results": [None]}
    assert (await client.post("/reset_prefix_cache")).data == {"success": True}
    assert (await client.post("/wake_up?tags=kv_cache")).data["status"] == "awake"
    assert await client.ask() == right


async def test_level_0_pauses_only(client):
    assert (await client.post("/sleep?level=0")).data == {"status": "sleeping", "level": 0}
    assert await client.is_sleeping()
    assert await gauge(client) == []
    assert (await client.post("/wake_up?tags=scheduling")).data == {"status": "awake", "tags": ["scheduling"]}


async def test_level_1_on_level_0(client):
    await client.post("/sleep?level=0")
    assert (await client.post("/sleep?level=1")).data == SLEEPING_1
    assert (await client.post("/wake_up")).data == AWAKE


async def test_pause_counts_as_sleeping_and_any_wake_ends_it(client):
    assert (await client.post("/pause")).data == {"status": "paused"}
    assert await client.is_paused()
    assert await client.is_sleeping()
    assert await gauge(client) == ["awake"]
    assert (await client.post("/wake_up")).data == AWAKE
    assert not await client.is_paused()
    await client.post("/pause?mode=keep")
    assert (await client.post("/resume")).data == {"status": "resumed"}
    assert not await client.is_sleeping()


async def test_two_sleeps_and_two_wakes_at_once(client):
    both = await asyncio.gather(client.post("/sleep?level=1"), client.post("/sleep?level=2"))
    assert [answer.status for answer in both] == [200, 200]
    both = await asyncio.gather(client.post("/wake_up"), client.post("/wake_up"))
    assert [answer.data for answer in both] == [AWAKE, AWAKE]
    if not await client.is_sleeping():
        await client.rpc("reload_weights")  # which of the two levels came first is open


async def test_resume_lifts_the_pause_of_a_sleeper(client):
    await client.post("/sleep?level=1")
    assert (await client.post("/resume")).data == {"status": "resumed"}
    assert await client.is_sleeping()
    assert not await client.is_paused()
    await client.post("/wake_up")
