"""`sleepd simulate` says what the real daemon does: the same arrivals, on real servers, at twenty times the speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from statistics import median

import pytest

from sleepd.replay.learned import read_host
from sleepd.replay.shell import Replay
from sleepd.replay.stage import set_stage
from sleepd.replay.trace import Arrival, Trace
from tests.integration.harness import Daemon, Host
from tests.integration.test_gateway import complete
from tests.integration.waiting import wait_until

SPEED = 20.0
NOTICED_S = 0.05
"""A delay below this, in real seconds, is none."""
TOKENS = 8
BURSTS = (
    *((5, "a", 3), (12, "b", 3), (24, "c", 3), (36, "d", 3)),
    *((90, "a", 3), (100, "d", 2), (112, "c", 2), (122, "b", 2)),
    *((170, "c", 3), (182, "b", 2), (192, "a", 2), (204, "d", 2)),
    *((250, "d", 3), (262, "c", 2), (272, "a", 2), (282, "b", 3)),
)
"""When each model is asked how often, four seconds apart: three of the four fit at once."""
ARRIVALS = tuple(
    sorted(Arrival(at_s + 4.0 * n, model, 8, TOKENS) for at_s, model, count in BURSTS for n in range(count))
)
SERVERS = ("--kv", "8GiB", "--sleep-seconds", "0.05", "--wake-seconds", "0.1", "--pace-ms", "2")
CONFIG = """
[daemon]
poll_every = "1s"
[model_defaults]
min_awake = "10s"
"""
DESCRIPTION = """
[host]
ram = "256GiB"
used = "56GiB"
[[gpus]]
memory = "80GiB"
[model_defaults]
awake = "25GiB"
asleep = "1GiB"
backup = "16GiB"
sleep1 = "1s"
wake1 = "2s"
prompt_tokens_per_s = 100000
output_tokens_per_s = 25
slowdown = 0
"""


@pytest.mark.waits_long
def test_the_daemon_wakes_the_same_models_in_the_same_order(
    host: Host, record_property: Callable[[str, object], None]
) -> None:
    assert len(ARRIVALS) == 40
    gateway, names = host.root / "g.sock", ("a", "b", "c", "d")
    host.configure(*names, idle="30s", extra=f'[gateway]\nlisten = ["unix:{gateway}"]\n')
    (host.etc / "conf.d").mkdir()
    (host.etc / "conf.d" / "50-times.toml").write_text(CONFIG)
    (host.root / "host.toml").write_text(DESCRIPTION)
    wakes, waits_s = _simulate(host.etc, host.root / "host.toml")

    host.start_servers(*names[:3], options=SERVERS)
    daemon = host.start_daemon(program="tests.integration.hurried", SLEEPD_SPEED=str(SPEED))
    events = daemon.events
    for name in names[:3]:
        _put_to_sleep(daemon, name)
    host.start_servers(*names[3:], options=SERVERS)
    _put_to_sleep(daemon, "d")
    felt_s = _send(daemon, gateway)
    wait_until(lambda: len(events.of("task_begun", cause="request:gateway")) >= len(wakes), "the last wake to be told")
    assert [event["model"] for event in events.of("task_begun", cause="request:gateway")] == wakes

    told = (
        f"simulate and the real daemon at {SPEED:g}x: {len(wakes)} wakes in the same order;"
        f" waits of those {len(waits_s)} requests in virtual seconds: simulated median {median(waits_s):.2f},"
        f" most {max(waits_s):.2f}; real median {median(sorted(felt_s)[-len(waits_s) :]):.2f}, most {max(felt_s):.2f}"
    )
    record_property("reported", told)


def _put_to_sleep(daemon: Daemon, name: str) -> None:
    """Have it asleep. Its idle time is a second and a half for us: on a busy machine its rule comes first."""
    wait_until(lambda: daemon.model(name)["state"] in ("awake", "asleep"), f"{name} to be awake, or asleep already")
    assert daemon.client.sleep(name).status == 200
    daemon.await_model(name, state="asleep")


def _simulate(config: Path, description: Path) -> tuple[list[str], list[float]]:
    """Which models are woken for requests, in order, and how long requests wait."""
    trace = Trace(ARRIVALS)
    stage = set_stage(config, read_host(description), trace.models)
    account = Replay(
        stage.settings, stage.host, stage.servers(), trace, start_wall_s=time.time(), end_s=ARRIVALS[-1].at_s + 10.0
    ).run()
    wakes = [switch.model for switch in account.switches if switch.cause == "request:gateway" and switch.what == "wake"]
    return wakes, [wait_s for model in account.models.values() for wait_s in model.waits_s]


def _send(daemon: Daemon, gateway: Path) -> list[float]:
    """Send them as the script says, and return how long each took beyond what its tokens take, in virtual seconds.

    A machine that is busy with other things takes longer to serve a model and to put it to sleep than the script gives
    it: whoever is to find it asleep comes that much later, and so does everybody after.
    """
    served_s = TOKENS * 0.002
    first = {(at_s, model) for at_s, model, _ in BURSTS}
    asked: list[tuple[str, Future[float]]] = []
    with ThreadPoolExecutor(len(ARRIVALS)) as pool:

        def ask(arrival: Arrival) -> float:
            came_s = time.monotonic()
            answer = complete(gateway, arrival.model)
            assert answer.status == 200, answer
            return (time.monotonic() - came_s - served_s) * SPEED

        began_s = time.monotonic()
        for arrival in ARRIVALS:
            due_s = began_s + arrival.at_s / SPEED
            time.sleep(max(0.0, due_s - time.monotonic()))
            if (arrival.at_s, arrival.model) in first:
                # It is also asleep while those of its last burst still wait: then this one would be served with them.
                wait([future for model, future in asked if model == arrival.model])
                daemon.await_model(arrival.model, state="asleep")
            began_s += max(0.0, time.monotonic() - due_s - NOTICED_S)
            asked.append((arrival.model, pool.submit(ask, arrival)))
        return [future.result() for _, future in asked]
