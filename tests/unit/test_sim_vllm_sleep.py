"""Sleeping and waking: what is freed, what is said, and where the two part ways."""

import pytest

from tests.unit.sim_vllm_bench import ALL, Bench, Gpu, Ram, Timing

RIGHT = "zero supa galo karo nega kami fodu fovi"
MODERN = ALL[1:]


@pytest.mark.parametrize("version", ALL)
def test_level_1_frees_all_but_the_residue_and_answers_right_again(version):
    bench = Bench(version)
    assert bench.held == 29
    bench.do("/sleep?level=1")
    assert (bench.held, bench.ram.pinned, bench.is_sleeping()) == (1, 8, True)
    bench.do("/wake_up")
    assert (bench.held, bench.is_sleeping()) == (29, False)
    assert bench.ask().text == RIGHT


@pytest.mark.parametrize("version", ALL)
def test_level_2_without_reload_answers_garbage_with_status_200(version):
    bench = Bench(version)
    bench.do("/sleep?level=2")
    assert (bench.held, bench.ram.pinned) == (1, 0)
    bench.do("/wake_up")
    assert bench.ask().text == "!!!!!!!!"
    assert bench.rpc("reload_weights").body == {"results": [None]}
    assert bench.ask().text == RIGHT


@pytest.mark.parametrize("version", ALL)
def test_level_2_with_reload_answers_right(version):
    bench = Bench(version)
    bench.level_2_cycle()
    assert bench.ask().text == RIGHT


def test_pinned_host_ram_is_sticky_per_incarnation():
    bench = Bench(pinned_factor=1.5)
    bench.do("/sleep?level=1")
    bench.do("/wake_up")
    assert bench.ram.pinned == 12
    bench.engine.terminate()
    bench.clock.run(1)
    assert (bench.ram.pinned, bench.gpu.used(), bench.exits) == (0, 0, [0])


def test_level_2_on_a_sleeper_is_a_lying_200():
    bench = Bench()
    bench.do("/sleep?level=1")
    assert bench.do("/sleep?level=2").body == {"status": "sleeping", "level": 2}
    assert (bench.ram.pinned, bench.now.sleep_state) == (8, "discard_all")
    bench.do("/wake_up")
    assert bench.ask().text == RIGHT  # the weights were never discarded


@pytest.mark.parametrize(("version", "resleeps"), [("0.28.0", False), ("0.31.0", True), ("0.32.0", True)])
def test_sleep_from_a_partial_wake(version, resleeps):
    bench = Bench(version)
    bench.do("/sleep?level=1")
    bench.do("/wake_up?tags=weights")
    assert bench.held == 9
    assert bench.do("/sleep?level=1").status == 200
    assert bench.held == (1 if resleeps else 9)


@pytest.mark.parametrize("version", MODERN)
def test_level_0_only_pauses_since_0_17(version):
    bench = Bench(version)
    bench.do("/sleep?level=0")
    assert (bench.held, bench.is_sleeping(), bench.is_paused()) == (29, True, True)
    assert bench.now.sleep_state is None
    bench.do("/wake_up?tags=scheduling")
    assert bench.is_sleeping() is False
    assert bench.ask().text == RIGHT


def test_level_0_discards_even_the_buffers_before_0_17():
    bench = Bench("0.16.0")
    bench.do("/sleep?level=0")
    assert bench.held == 1
    bench.do("/wake_up")
    bench.rpc("reload_weights")
    assert bench.ask().text == "!!!!!!!!"


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("tags", ["tags=bogus", "tags=weights,kv_cache", "tags=", "tags=weights&tags=bogus"])
def test_wrong_tags_are_ignored_with_200(version, tags):
    bench = Bench(version)
    bench.do("/sleep?level=1")
    assert bench.do(f"/wake_up?{tags}").status == 200
    assert bench.held == 1
    assert bench.is_sleeping()


def test_a_duplicate_tag_maps_the_memory_and_fails():
    bench = Bench()
    bench.do("/sleep?level=1")
    call = bench.do("/wake_up?tags=weights&tags=weights")
    assert call.status == 500
    assert call.body["error"]["message"] == "Call to wake_up method failed: 'weights'"
    assert (bench.held, bench.now.sleeping_tags) == (9, {"kv_cache"})


def test_a_json_body_is_ignored():
    bench = Bench()
    assert bench.do("/sleep", {"level": 2}).body["level"] == 1
    assert bench.do("/wake_up", {"tags": ["weights"]}).body == {"status": "awake", "tags": None}


def test_without_sleep_mode_everything_says_yes_and_nothing_is_freed():
    bench = Bench(sleep_mode=False)
    assert bench.do("/sleep?level=2").status == 200
    assert (bench.is_sleeping(), bench.held, bench.ram.pinned) == (True, 29, 0)
    info = bench.get("/server_info?config_format=json").body["vllm_config"]
    assert info["model_config"]["enable_sleep_mode"] is False
    bench.do("/wake_up")
    assert bench.ask().text == RIGHT


def test_kv_first_after_level_2_is_fatal_before_0_28():
    old, new = Bench("0.24.0"), Bench("0.28.0")
    for bench in (old, new):
        bench.do("/sleep?level=2")
    assert old.do("/wake_up?tags=kv_cache").status == 500
    assert old.do("/wake_up?tags=weights").status == 500  # the CUDA context is gone for good
    assert new.do("/wake_up?tags=kv_cache").status == 200
    new.do("/wake_up?tags=weights")
    assert new.rpc("reload_weights").status == 200
    assert new.ask().text == RIGHT


def test_a_bare_wake_after_a_staged_one_double_maps_before_0_28():
    for version, status in (("0.24.0", 500), ("0.28.0", 200)):
        bench = Bench(version)
        bench.do("/sleep?level=1")
        bench.do("/wake_up?tags=weights")
        assert bench.do("/wake_up").status == status


def test_durations_from_bytes_and_the_slow_first_sleep():
    gib = 2**30
    timing = Timing(first_sleep_factor=20.0, offload_gib_s=8.0, restore_gib_s=4.0, reload_gib_s=2.0, map_gib_s=1e9)
    bench = Bench(weights_bytes=8 * gib, kv_bytes=gib, timing=timing, ram=Ram(10**13), gpu=Gpu(10**13))

    def seconds(target, body=None):
        call, began = bench.post(target, body), bench.clock.now()
        while call.waiting:
            bench.clock.run(0.01)
        return bench.clock.now() - began

    assert seconds("/sleep?level=1") == pytest.approx(20, abs=0.05)
    assert seconds("/wake_up") == pytest.approx(2, abs=0.05)
    assert seconds("/sleep?level=1") == pytest.approx(1, abs=0.05)
    assert seconds("/wake_up?tags=weights") == pytest.approx(2, abs=0.05)
    assert seconds("/collective_rpc", {"method": "reload_weights"}) == pytest.approx(4, abs=0.05)


def test_control_calls_wait_in_line_and_the_frontend_does_not():
    bench = Bench()
    sleeping, asked, woken = bench.post("/sleep?level=1"), bench.get("/is_sleeping"), bench.post("/wake_up")
    bench.clock.run(0.5)
    assert sleeping.waiting
    assert asked.waiting
    assert woken.waiting
    assert [bench.get(t).status for t in ("/health", "/version", "/v1/models", "/metrics")] == [200] * 4
    bench.clock.run(0.6)
    assert (sleeping.status, asked.body) == (200, {"is_sleeping": True})
    assert woken.waiting
    bench.clock.run(2)
    assert woken.body == {"status": "awake", "tags": None}


def test_a_client_that_leaves_does_not_stop_its_control_call():
    bench = Bench()
    call = bench.post("/sleep?level=1")
    call.handle.abandon()
    bench.clock.run(2)
    assert call.answers == []
    assert bench.held == 1
    assert bench.now.http_requests["/sleep", "POST", "2xx"] == 1


def test_residue_may_grow_with_each_sleep():
    bench = Bench(residual_growth_bytes=2)
    for _ in range(3):
        bench.do("/sleep?level=1")
        bench.do("/wake_up")
    bench.do("/sleep?level=1")
    assert bench.held == 1 + 3 * 2 + 2 * 1


def test_release_kv_cache_needs_a_pause():
    bench = Bench()
    refused = bench.post("/release_kv_cache_memory")
    assert refused.body["error"]["message"].endswith("requires a completed pause first")
    bench.post("/pause")
    assert bench.do("/release_kv_cache_memory").status == 200
    assert (bench.held, bench.now.sleeping_tags) == (9, {"kv_cache"})
    bench.do("/wake_up")
    assert (bench.held, bench.is_sleeping()) == (29, False)
