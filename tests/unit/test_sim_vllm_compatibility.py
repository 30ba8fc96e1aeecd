"""The compatibility table of vLLM sleep mode, cell by cell, asked of simulated servers: one release of each column."""

from collections.abc import Callable
from typing import Any

import pytest

from sleepd.sim import vllm_metrics
from sleepd.sim.vllm_faults import Fault
from tests.unit.sim_vllm_bench import Bench

COLUMNS = ("0.8.5", "0.9.2", "0.10.0", "0.10.2", "0.11.0", "0.11.2", "0.12.0", "0.15.1", "0.16.0", "0.17.1", "0.18.1")
COLUMNS += ("0.22.1", "0.24.0", "0.26.0", "0.28.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0")
NEVER = "9.9"


def exists(method: str, path: str, **spec: Any) -> Callable[[str], bool]:
    return lambda version: Bench(version, **spec).send(method, path).status not in (404, 405)


def shown(series: str) -> Callable[[str], bool]:
    def page_has(version: str) -> bool:
        bench = Bench(version)
        page = vllm_metrics.render(bench.now, bench.engine.spec, bench.engine.dialect)
        return any(line.startswith((f"{series}{{", f"{series} ")) for line in page.splitlines())

    return page_has


def level_2_comes_back(version: str, **spec: Any) -> bool:
    """Restored over HTTP, nothing arriving meanwhile."""
    bench = Bench(version, **spec)
    before = bench.ask().text
    if bench.post("/collective_rpc", {"method": "check_health"}).status == 404:
        return False
    bench.level_2_cycle()
    return bench.ask().text == before


def survives_a_request_while_asleep(version: str) -> bool:
    bench = Bench(version)
    bench.do("/sleep?level=1")
    bench.chat()
    bench.clock.run(5)
    return bench.now.alive


def waits_while_paused(version: str) -> bool:
    """`/pause` first, and a sleeper survives a request: it waits in the API process, or in the engine."""
    bench = Bench(version)
    if bench.post("/pause").status == 404:
        return False
    bench.do("/sleep?level=1")
    call = bench.chat()
    bench.clock.run(5)
    bench.do("/wake_up")
    bench.post("/resume")
    bench.clock.run(20)
    return bench.now.alive and (call.status == 503 or call.text == bench.ask().text)


def resumes_half_awake(version: str) -> bool:
    bench = Bench(version)
    bench.do("/sleep?level=1")
    bench.do("/wake_up?tags=weights")
    bench.chat()
    bench.clock.run(5)
    return not bench.now.alive


def pauses_at_level_0(version: str) -> bool:
    bench = Bench(version)
    bench.do("/sleep?level=0")
    return bench.now.mapped_blocks["weights"][0] == 2


def empties_its_cache_when_it_sleeps(version: str) -> bool:
    """A prompt it has seen before the sleep is answered right after it, with nothing else done."""
    bench = Bench(version)
    before = bench.ask().text
    bench.do("/sleep?level=1")
    bench.do("/wake_up")
    right = bench.ask().text == before
    bench.post("/reset_prefix_cache")
    assert bench.ask().text == before, "an emptied cache names nothing that is gone"
    return right


def retries_a_failed_wake(version: str) -> bool:
    bench = Bench(version)
    bench.do("/sleep?level=1")
    bench.engine.arm(Fault("fail_wake", blocks=1))
    assert bench.do("/wake_up").status == 500
    return bench.do("/wake_up").status == 200


def sleeps_again_from_a_partial_wake(version: str) -> bool:
    bench = Bench(version)
    bench.do("/sleep?level=1")
    bench.do("/wake_up?tags=weights")
    bench.do("/sleep?level=1&mode=keep")
    return bench.now.mapped_blocks["weights"][0] == 0


def says_json(version: str) -> bool:
    return Bench(version).do("/sleep?level=1").body is not None


def bad_level_is_400(version: str) -> bool:
    return Bench(version).post("/sleep?level=abc").status == 400


def failures_are_json(version: str) -> bool:
    bench = Bench(version)
    bench.engine.arm(Fault("fail_sleep"))
    return isinstance(bench.do("/sleep?level=1").body, dict)


def missing_core_is_noticed(version: str) -> bool:
    bench = Bench(version)
    bench.engine.arm(Fault("kill_core"))
    bench.clock.run(5)
    if not bench.exits:
        assert bench.get("/health").status == 200
        assert bench.chat().waiting, "a request waits for ever"
        assert bench.get("/is_sleeping").waiting
    return bool(bench.exits)


def dead_engine_is_503(version: str) -> bool:
    bench = Bench(version)
    bench.engine.arm(Fault("die_now"))
    return bench.get("/health").status == 503


def config_is_json(version: str) -> bool:
    return isinstance(Bench(version).get("/server_info?config_format=json").body["vllm_config"], dict)


def tells_its_environment(version: str) -> bool:
    return "vllm_env" in Bench(version).get("/server_info").body


def reset_reports(version: str) -> bool:
    return Bench(version).post("/reset_prefix_cache").body == {"success": True}


def counts(reason: str) -> Callable[[str], bool]:
    def counted(version: str) -> bool:
        bench = Bench(version)
        page = vllm_metrics.render(bench.now, bench.engine.spec, bench.engine.dialect)
        return f'finished_reason="{reason}"' in page

    return counted


TABLE: list[tuple[str, Callable[[str], bool], str, str]] = [
    # what, how it is found out, first release where it is so, first where it is so no more
    ("/sleep, /wake_up, /is_sleeping", exists("GET", "/is_sleeping"), "0.8.5", NEVER),
    ("/collective_rpc", exists("POST", "/collective_rpc"), "0.10.2", NEVER),
    ("level 2 restorable", level_2_comes_back, "0.10.2", NEVER),
    ("level 2 restorable, quantized", lambda v: level_2_comes_back(v, quantization="awq"), "0.16.0", NEVER),
    ("level 2 restorable, fp8 KV", lambda v: level_2_comes_back(v, kv_cache_dtype="fp8"), "0.12.0", NEVER),
    ("/pause", exists("POST", "/pause"), "0.12.0", NEVER),
    ("/pause without dev mode", exists("POST", "/pause", dev_mode=False), "0.12.0", "0.16.0"),
    ("a pause protects a sleeper", waits_while_paused, "0.12.0", NEVER),
    ("/sleep pauses the scheduler first", survives_a_request_while_asleep, "0.17.1", NEVER),
    ("scheduler resumes after a partial wake", resumes_half_awake, "0.8.5", "0.24.0"),
    ("level 0 only pauses", pauses_at_level_0, "0.17.1", NEVER),
    ("sleep resets the prefix cache", empties_its_cache_when_it_sleeps, "0.10.2", NEVER),
    ("failed wake can be retried", retries_a_failed_wake, "0.28.0", NEVER),
    ("/sleep re-sleeps from a partial wake", sleeps_again_from_a_partial_wake, "0.31.0", NEVER),
    ("/release_kv_cache_memory", exists("POST", "/release_kv_cache_memory"), "0.31.0", NEVER),
    ("JSON body of /sleep", says_json, "0.32.0", NEVER),
    ("bad level is 400", bad_level_is_400, "0.18.1", NEVER),
    ("engine failures are JSON", failures_are_json, "0.18.1", NEVER),
    ("vllm:engine_sleep_state", shown("vllm:engine_sleep_state"), "0.11.2", NEVER),
    ("/health 503 on a dead engine", dead_engine_is_503, "0.9.2", NEVER),
    ("a killed core is noticed", missing_core_is_noticed, "0.10.2", NEVER),
    ("config_format=json", config_is_json, "0.11.0", NEVER),
    ("vllm_env in /server_info", tells_its_environment, "0.15.1", NEVER),
    ("/reset_prefix_cache reports", reset_reports, "0.26.0", NEVER),
    ("/reset_mm_cache", exists("POST", "/reset_mm_cache"), "0.11.2", NEVER),
    ("/reset_encoder_cache", exists("POST", "/reset_encoder_cache"), "0.16.0", NEVER),
    ("/get_world_size", exists("GET", "/get_world_size"), "0.16.0", NEVER),
    ("/abort_requests", exists("POST", "/abort_requests"), "0.26.0", NEVER),
    ("vllm:gpu_cache_usage_perc", shown("vllm:gpu_cache_usage_perc"), "0.8.5", "0.11.2"),
    ("vllm:kv_cache_usage_perc", shown("vllm:kv_cache_usage_perc"), "0.9.2", NEVER),
    ("waiting by reason", shown("vllm:num_requests_waiting_by_reason"), "0.22.1", NEVER),
    ("requests end in error", counts("error"), "0.15.1", NEVER),
    ("requests end in repetition", counts("repetition"), "0.17.1", NEVER),
]


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@pytest.mark.parametrize("version", COLUMNS)
@pytest.mark.parametrize(("what", "find_out", "since", "until"), TABLE, ids=[row[0] for row in TABLE])
def test_a_cell_of_the_compatibility_table(version, what, find_out, since, until):
    assert find_out(version) is (number(since) <= number(version) < number(until)), f"{what} in {version}"
