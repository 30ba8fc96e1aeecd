"""Failed calls: what they leave behind, which repairs work in which release, and every fault that can be armed."""

import pytest

from sleepd.sim.vllm_faults import FAULT_KINDS, Fault, FaultQueue, parse_fault
from sleepd.sim.vllm_types import HttpRequest, SimDropped
from tests.unit.sim_vllm_bench import ALL, CHAT, Bench, Clock, Gpu, Ram

RIGHT = "zero supa galo karo nega kami fodu fovi"
OLD = ["0.22.1", "0.24.0"]
NEW = ["0.28.0", "0.31.0", "0.32.0"]


def armed(version, *faults, **spec):
    bench = Bench(version, **spec)
    for fault in faults:
        bench.engine.arm(fault)
    return bench


def asleep_beside_a_neighbour(version, neighbour):
    """A sleeping engine on a GPU of 30 where somebody else took `neighbour` meanwhile."""
    bench = Bench(version, gpu=Gpu(30))
    bench.do("/sleep?level=1")
    bench.gpu.seat(99).claim(neighbour)
    return bench


# wake, out of memory


@pytest.mark.parametrize("version", ALL)
def test_a_wake_out_of_memory_stops_after_k_blocks_without_rollback(version):
    bench = asleep_beside_a_neighbour(version, 20)
    call = bench.do("/wake_up")
    assert call.status == 500
    assert "out of memory" in str(call.body) or version == "0.16.0"
    assert bench.now.mapped_blocks == {"weights": (2, 2), "kv_cache": (0, 2)}
    assert (bench.held, bench.is_sleeping(), bench.get("/health").status) == (9, True, 200)


@pytest.mark.parametrize("version", NEW)
def test_its_retry_continues_since_0_28(version):
    bench = asleep_beside_a_neighbour(version, 20)
    queued = bench.chat()
    bench.do("/wake_up")
    assert queued.waiting
    bench.gpu.seat(99).claim(0)
    assert bench.do("/wake_up").status == 200
    assert (bench.held, queued.text) == (29, RIGHT)


@pytest.mark.parametrize("version", OLD)
def test_its_retry_is_an_invalid_argument_for_ever_before_0_28_and_leaks(version):
    bench = asleep_beside_a_neighbour(version, 20)
    bench.do("/wake_up")
    bench.gpu.seat(99).claim(0)
    for leaked in (4, 8, 12):
        call = bench.do("/wake_up")
        assert call.status == 500
        assert "invalid argument" in call.body["error"]["message"]
        assert bench.held == 9 + leaked


@pytest.mark.parametrize("version", NEW)
def test_the_worker_level_sleep_undoes_a_failed_wake(version):
    bench = asleep_beside_a_neighbour(version, 20)
    bench.do("/wake_up")
    assert bench.rpc("sleep", level=1).status == 200
    assert (bench.held, bench.is_sleeping()) == (1, True)
    bench.gpu.seat(99).claim(0)
    bench.do("/wake_up")
    assert bench.ask().text == RIGHT


@pytest.mark.parametrize(("version", "held"), [("0.28.0", 9), ("0.31.0", 1), ("0.32.0", 1)])
def test_a_failed_kv_stage_is_undone_by_sleep_since_0_31(version, held):
    bench = asleep_beside_a_neighbour(version, 20)
    assert bench.do("/wake_up?tags=weights").status == 200
    assert bench.do("/wake_up?tags=kv_cache").status == 500
    bench.do("/sleep?level=1&mode=keep")
    assert bench.held == held


def test_a_worker_level_sleep_2_after_a_failed_weights_stage_reads_unmapped_memory():
    bench = armed("0.32.0", Fault("fail_wake", blocks=1))
    bench.do("/sleep?level=2")
    assert bench.do("/wake_up?tags=weights").status == 500
    assert "illegal memory access" in bench.rpc("sleep", level=2).body["error"]["message"]
    assert bench.do("/wake_up?tags=weights").status == 500


# sleep, failed after unmapping


@pytest.mark.parametrize("version", ["0.22.1", *NEW])
def test_a_wake_after_a_failed_sleep_is_a_no_op_that_resumes_and_the_next_request_kills(version):
    bench = armed(version, Fault("fail_sleep", blocks=3))
    assert bench.do("/sleep?level=1").status == 500
    assert (bench.held, bench.is_sleeping(), bench.is_paused()) == (11, True, True)
    assert bench.now.sleeping_tags == frozenset()
    assert bench.now.sleep_state == "awake"
    assert bench.do("/wake_up").status == 200
    assert (bench.held, bench.is_sleeping()) == (11, False)
    assert bench.chat().status == 500


@pytest.mark.parametrize(("version", "status"), [("0.24.0", 500), ("0.28.0", 200), ("0.32.0", 200)])
def test_repeating_a_failed_sleep_works_since_0_28(version, status):
    bench = armed(version, Fault("fail_sleep", blocks=3))
    bench.do("/sleep?level=1")
    assert bench.do("/sleep?level=1&mode=keep").status == status
    if status == 200:
        assert bench.held == 1
        bench.do("/wake_up")
        assert bench.ask().text == RIGHT


def test_the_worker_level_wake_rescues_a_failed_sleep_since_0_28():
    for version, status in (("0.24.0", 500), ("0.28.0", 200)):
        bench = armed(version, Fault("fail_sleep", blocks=1))
        bench.do("/sleep?level=1")
        assert bench.rpc("wake_up").status == status
    bench.do("/wake_up")
    assert bench.ask().text == RIGHT


def test_repeating_a_failed_level_2_sleep_reads_unmapped_buffers():
    bench = armed("0.32.0", Fault("fail_sleep", blocks=1))
    bench.do("/sleep?level=2")
    assert "illegal memory access" in bench.do("/sleep?level=2").body["error"]["message"]


def test_a_neighbour_that_allocates_during_the_sleep_fails_it():
    clock, gpu = Clock(), Gpu(100)
    bench = Bench(clock=clock, gpu=gpu)
    call = bench.post("/sleep?level=1")
    clock.run(0.3)
    gpu.seat(99).claim(40)
    clock.run(5)
    assert call.body["error"]["message"] == "Call to sleep method failed: Memory usage increased after sleeping."
    assert (bench.held, bench.now.sleeping_tags) == (1, frozenset())


def test_host_ram_that_runs_out_leaves_the_sleep_half_done():
    bench = Bench(ram=Ram(limit=5))
    assert bench.do("/sleep?level=1").status == 500
    assert bench.now.mapped_blocks == {"weights": (1, 2), "kv_cache": (2, 2)}


# reload


def test_a_failed_reload_kills_the_engine_at_the_next_inference():
    bench = armed("0.32.0", Fault("fail_reload"))
    call = bench.rpc("reload_weights")
    assert (call.status, bench.get("/health").status) == (500, 200)
    assert "Cannot find any model weights" in call.body["error"]["message"]
    assert bench.chat().status == 500


def test_unless_a_reload_succeeds_first():
    bench = armed("0.32.0", Fault("fail_reload"))
    bench.rpc("reload_weights")
    assert bench.rpc("reload_weights").status == 200
    assert bench.ask().text == RIGHT


def test_a_reload_while_the_weights_sleep_is_the_end_of_the_cuda_context():
    bench = Bench()
    bench.do("/sleep?level=2")
    assert "illegal memory access" in bench.rpc("reload_weights").body["error"]["message"]
    assert bench.do("/wake_up?tags=weights").status == 500
    assert bench.get("/health").status == 200


def test_a_reload_from_another_path_answers_as_that_model():
    bench = Bench()
    bench.rpc("reload_weights", weights_path="tiny-b")
    assert bench.ask().text != RIGHT


def test_an_rpc_timeout_that_passes_desyncs_the_engine():
    bench = Bench()
    call = bench.do("/collective_rpc", {"method": "reload_weights", "timeout": 0.001})
    assert call.body["error"]["message"].endswith("RPC call to reload_weights timed out.")
    assert bench.chat().status == 500


def test_several_workers_wrap_their_errors():
    bench = armed("0.32.0", Fault("fail_wake"), tensor_parallel_size=2)
    bench.do("/sleep?level=1")
    message = bench.do("/wake_up").body["error"]["message"]
    assert message.startswith("Call to wake_up method failed: Worker failed with error 'CUDA Error: out of memory")
    assert bench.ram.pinned == 16


# armed faults


def test_lost_answers_before_and_after_the_effect():
    bench = armed("0.32.0", Fault("lose_before"), Fault("lose_after"))
    assert bench.do("/sleep").dropped
    assert bench.held == 29
    assert bench.do("/sleep").dropped
    assert (bench.held, bench.now.http_requests) == (1, {("/sleep", "POST", "2xx"): 1})


def test_a_200_that_did_nothing():
    bench = armed("0.32.0", Fault("no_op"), Fault("no_op", path="/collective_rpc"))
    assert bench.do("/sleep?level=2").body == {"status": "sleeping", "level": 2}
    assert (bench.held, bench.is_sleeping()) == (29, False)
    assert bench.rpc("reload_weights").body == {"results": [None]}


def test_a_sleep_that_frees_nothing():
    bench = armed("0.32.0", Fault("free_nothing"))
    bench.do("/sleep?level=1")
    assert (bench.held, bench.is_sleeping()) == (29, True)


def test_a_hang_holds_everything_until_released():
    bench = armed("0.32.0", Fault("hang"))
    sleeping, asked, woken = bench.post("/sleep"), bench.get("/is_sleeping"), bench.post("/wake_up")
    bench.clock.run(3600)
    assert sleeping.waiting
    assert asked.waiting
    assert woken.waiting
    assert bench.get("/health").status == 200
    bench.engine.release_hang()
    bench.clock.run(10)
    assert (sleeping.status, asked.body, woken.body["status"]) == (200, {"is_sleeping": True}, "awake")


def test_a_slow_is_sleeping():
    bench = armed("0.32.0", Fault("slow", path="/is_sleeping", seconds=5.0))
    asked = bench.get("/is_sleeping")
    bench.clock.run(4.9)
    assert asked.waiting
    bench.clock.run(0.2)
    assert asked.body == {"is_sleeping": False}


@pytest.mark.parametrize(
    ("fault", "alive_for"),
    [(Fault("die_now"), 0.0), (Fault("die_at_call"), 0.0), (Fault("die_after_sleep"), 0.29)],
)
def test_deaths_end_the_process_with_status_0(fault, alive_for):
    bench = Bench(timing=Bench().engine.spec.timing.__class__(sleep_s=0.0))
    bench.engine.arm(fault)
    call = bench.post("/sleep")
    assert bench.engine.snapshot().alive is (alive_for > 0)
    if alive_for:
        assert call.status == 200
        bench.clock.run(alive_for)
        assert bench.engine.snapshot().alive
    bench.clock.run(1.2)
    assert bench.exits == [0]
    assert call.status == 200 if alive_for else call.dropped


def test_one_wake_in_three_corrupts():
    bench = armed("0.32.0", Fault("corrupt_wake", every=3, times=10))
    texts = []
    for _ in range(4):
        bench.do("/sleep?level=1")
        assert bench.do("/wake_up").status == 200
        texts.append(bench.ask().text)
    assert [text == RIGHT for text in texts] == [True, True, False, False]


def test_a_prefix_cache_that_will_not_reset():
    bench = armed("0.32.0", Fault("fail_reset_cache", times=2))
    bodies = [bench.post("/reset_prefix_cache").body["success"] for _ in range(3)]
    assert bodies == [False, False, True]


def test_faults_skip_and_match_by_path():
    queue = FaultQueue()
    queue.arm(Fault("hang", path="/wake_up", skip=1))
    queue.arm(Fault("slow"))
    assert queue.take("hang", "slow", path="/is_sleeping") is None
    assert queue.take("hang", "slow", path="/wake_up").kind == "slow"
    assert queue.take("hang", "slow", path="/wake_up").kind == "hang"
    assert queue.armed() == ()


def test_disarm_forgets_what_waits():
    bench = armed("0.32.0", Fault("hang"))
    bench.engine.disarm()
    assert bench.do("/sleep").status == 200


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"kind": "explode"}, "kind is 'explode'"),
        ({}, "kind is None"),
        ({"kind": "hang", "blok": 1}, "unknown fault field 'blok'"),
        ({"kind": "hang", "path": "sleep"}, "path is 'sleep'"),
        ({"kind": "fail_wake", "blocks": -1}, "blocks is -1"),
        ({"kind": "slow", "seconds": "5"}, "seconds is '5'"),
        ({"kind": "hang", "every": 0}, "every is 0"),
    ],
)
def test_bad_faults_are_refused_in_words(data, problem):
    with pytest.raises(ValueError, match=problem):
        parse_fault(data)


def test_every_kind_parses():
    assert [parse_fault({"kind": kind}).kind for kind in FAULT_KINDS] == list(FAULT_KINDS)


def test_two_engines_share_one_gpu():
    clock, gpu = Clock(), Gpu(40)
    first = Bench(clock=clock, gpu=gpu)
    first.do("/sleep?level=1")
    second = Bench(clock=clock, gpu=gpu)
    assert first.do("/wake_up").status == 500
    second.do("/sleep?level=1")
    assert first.do("/wake_up").status == 200
    assert gpu.used() == 30


def test_a_killed_server_breaks_its_calls_off_in_the_order_of_their_coming():
    # Any other order would follow from where objects lie in memory, and no seed would play alike twice.
    bench, broken_off = Bench(), []
    for number in range(40):
        request = HttpRequest("POST", "/v1/chat/completions", (), CHAT, {})
        bench.engine.call(request, lambda answer, number=number: broken_off.append((number, answer)))
    bench.engine.kill()
    assert broken_off == [(number, SimDropped()) for number in range(40)]
