"""`sleepctl doctor --try`: what it asks of the daemon, and that the model is woken again whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sleepd.cli.trial import try_sleep
from sleepd.client import ApiProblem
from sleepd.core.model import Known, Missing, MissingReason, Reading
from sleepd.core.seen import GpuSeen, GpusSeen
from sleepd.core.units import GIB

MODEL = {"name": "a", "state": "awake", "gpus": [{"uuid": "GPU-0", "awake_bytes": 30 * GIB}]}


class ScriptedClient:
    """A daemon of one model on the first of two GPUs. `refuses`: what a sleep raises instead of freeing 28 GiB."""

    def __init__(self, refuses: BaseException | None = None, **model: Any) -> None:
        self.refuses, self.model, self.asked = refuses, MODEL | model, list[str]()
        self.uuid = self.model["gpus"][0]["uuid"]
        self.free_bytes = 10 * GIB

    def status(self) -> Any:
        gpus = [
            {"uuid": self.uuid, "index": 0, "mig_of": None, "free_bytes": self.free_bytes},
            {"uuid": "GPU-1", "index": 1, "mig_of": None, "free_bytes": 70 * GIB},
        ]
        return SimpleNamespace(body={"models": [self.model], "gpus": gpus})

    def sleep(self, name: str) -> None:
        self.asked.append("sleep")
        if self.refuses is not None:
            raise self.refuses
        self.free_bytes += 28 * GIB

    def wake(self, name: str, *, wait: bool = True) -> Any:
        self.asked.append("wake")
        return SimpleNamespace(body={"waited_s": 1.5})


def blind() -> Reading[GpusSeen]:
    return Missing(MissingReason.UNREADABLE)


def tried(
    client: ScriptedClient, name: str = "a", read: Callable[[], Reading[GpusSeen]] = blind
) -> list[tuple[str, str, str]]:
    findings = try_sleep(client, name, read)  # type: ignore[arg-type]
    return [(finding.check, finding.verdict.value, finding.found) for finding in findings]


def test_the_bytes_of_its_own_gpus_are_compared_and_it_is_woken_again() -> None:
    client = ScriptedClient()
    assert tried(client) == [
        ("try.sleep", "ok", "28GiB came back of 30GiB that it held, by NVML as the daemon reads it"),
        ("try.wake", "ok", "awake after 1.5s"),
    ]
    assert client.asked == ["sleep", "wake"]


def test_what_it_held_may_be_learned_only_as_it_falls_asleep() -> None:
    class JustFound(ScriptedClient):
        def sleep(self, name: str) -> None:
            super().sleep(name)
            self.model = MODEL | {"state": "asleep"}

    client = JustFound(gpus=[{"uuid": "GPU-0", "awake_bytes": None}])
    assert tried(client)[0][2] == "28GiB came back of 30GiB that it held, by NVML as the daemon reads it"


def test_whoever_may_read_nvml_believes_it_more_than_the_daemon() -> None:
    """A daemon that only counts what was declared says that all came back; the driver says that nothing did."""
    client = ScriptedClient(gpus=[{"uuid": "declared-0", "awake_bytes": 30 * GIB}])
    gpu = GpuSeen("GPU-0", 0, 80 * GIB, 10 * GIB)
    assert tried(client, read=lambda: Known((gpu,), 0.0, 0.0))[0] == (
        "try.sleep",
        "fail",
        "0B came back of 30GiB that it held, by NVML",
    )
    assert client.asked == ["sleep", "wake"]


@pytest.mark.parametrize("gpus", [[{"uuid": "declared-0", "awake_bytes": 1}], []])
def test_what_nobody_reads_is_not_called_measured(gpus: list[dict[str, Any]]) -> None:
    client = ScriptedClient()
    client.model, client.uuid = client.model | {"gpus": gpus}, "declared-0"
    (slept, woken) = tried(client)
    assert slept[:2] == ("try.sleep", "warn")
    assert "nothing was measured" in slept[2]
    assert woken[:2] == ("try.wake", "ok")


def test_a_sleep_that_is_refused_is_told_and_it_is_awake_all_the_same() -> None:
    client = ScriptedClient(ApiProblem(409, {"kind": "held", "title": "somebody holds it"}, ""))
    found = tried(client)
    assert found[0][:2] == ("try.sleep", "fail")
    assert "somebody holds it" in found[0][2]
    assert client.asked == ["sleep", "wake"]


def test_who_interrupts_it_leaves_no_sleeper_behind() -> None:
    client = ScriptedClient(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        tried(client)
    assert client.asked == ["sleep", "wake"]


def test_what_is_not_awake_or_not_there_is_left_alone() -> None:
    asleep = ScriptedClient(state="asleep")
    assert tried(asleep) == [("try.sleep", "fail", "not tried: it is asleep; wake it first")]
    assert tried(ScriptedClient(), "b") == [("try.sleep", "fail", "not tried: no model is named so")]
    assert asleep.asked == []
