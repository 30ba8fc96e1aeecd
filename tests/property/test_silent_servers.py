"""A server that stops answering altogether, its metrics page too, or is gone, while a task of its waits for its moment:
the task ends, told, its GPUs are somebody else's again, and who slept for it is woken."""

import pytest
from virtual_rig import Rig

from sleepd.core.commands import AnswerKind
from sleepd.core.life import State
from sleepd.core.model import Missing, MissingReason
from sleepd.core.units import GIB
from sleepd.sim.vllm_faults import Fault


def fall_silent(rig: Rig, name: str) -> None:
    """Whatever is asked of the server from now on times out; its process lives and holds what it held."""
    server, time = rig.servers[name], rig.time

    def look(ask_sleeping, timeout_s, then, **how):
        asked_s = time.now()
        time.call_later(timeout_s, lambda: then(Missing(MissingReason.TIMED_OUT, "/metrics", asked_s)))

    server.look = look
    server.request = lambda request, timeout_s, then: time.call_later(timeout_s, lambda: then(None))


def rig_of(*names: str) -> Rig:
    """Models of which one fits awake: the last is, the others sleep."""
    rig = Rig("0.32.0", names, kv_bytes=30 * GIB)
    rig.start()
    for number, name in enumerate(names):
        if number:
            asleep = rig.sleep(names[number - 1], 1)
            assert rig.until(lambda answers=asleep: bool(answers))
        rig.boot(name)
        assert rig.until(lambda name=name: rig.state(name) is State.AWAKE and bool(rig.record(name).footprint.awake))
    return rig


@pytest.mark.parametrize(
    "when", [State.BROKEN, State.WAKING_WEIGHTS], ids=["it rests before it is sent again", "it was sent again"]
)
def test_a_wake_that_failed(when):
    rig = rig_of("a")
    asleep = rig.sleep("a", 1)
    assert rig.until(lambda: bool(asleep))
    rig.arm("a", Fault("fail_wake", blocks=2, times=9))
    answers = rig.wake("a")
    assert rig.until(lambda: rig.state("a") is when)
    fall_silent(rig, "a")
    assert rig.until(lambda: not rig.daemon.world.tasks, 3600.0), rig.daemon.world.tasks
    assert rig.state("a") is State.FAILED
    assert len(answers) == 1
    assert "does not answer" in rig.record("a").failure.detail


def test_a_proof_of_doubtful_weights():
    rig = rig_of("a")
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    rig.arm("a", Fault("fail_wake", blocks=2), Fault("corrupt_wake", times=9))
    rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.PROVING, every_s=0.01)
    fall_silent(rig, "a")
    assert rig.until(lambda: not rig.daemon.world.tasks, 3600.0), rig.daemon.world.tasks
    assert not rig.daemon.gates.of("a").open


def test_a_sleep_that_waits_for_a_direct_request():
    rig = rig_of("a")
    rig.arm("a", Fault("hang", path="/sleep"))
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") is State.FALLING_ASLEEP)
    fall_silent(rig, "a")
    assert rig.until(lambda: not rig.daemon.world.tasks, 7200.0), rig.daemon.world.tasks
    assert rig.state("a") is State.FAILED
    assert len(answers) == 1


@pytest.mark.parametrize("when", [State.FALLING_ASLEEP, State.ASLEEP_L1], ids=["on its way", "asleep"])
def test_who_slept_for_a_server_that_is_gone_is_woken_again(when):
    rig = rig_of("a", "b")
    if when is State.ASLEEP_L1:
        rig.arm("a", Fault("hang", path="/wake_up"))
    else:
        rig.arm("b", Fault("slow", path="/sleep", seconds=30.0))
    answers = rig.wake("a")
    assert rig.until(lambda: rig.state("b") is when)
    rig.engine("a").kill()
    rig.servers["a"].engine = None
    assert rig.until(lambda: rig.state("a") is State.LOST)
    assert [a.kind for a in answers] == [AnswerKind.REFUSED]
    assert rig.until(lambda: rig.state("b") is State.AWAKE), rig.record("b").reason
    assert rig.until(lambda: not rig.daemon.world.tasks)


@pytest.mark.parametrize("what", ["sleep", "wake"])
def test_nvml_that_never_comes_back_leaves_no_task_behind(what):
    rig = rig_of("a")
    if what == "wake":
        asleep = rig.sleep("a", 1)
        assert rig.until(lambda: bool(asleep))
        rig.arm("a", Fault("fail_wake", blocks=2, times=1))
    else:
        rig.arm("a", Fault("slow", path="/sleep", seconds=3.0))
    answers = rig.wake("a") if what == "wake" else rig.sleep("a", 1)
    assert rig.until(lambda: rig.state("a") in (State.FALLING_ASLEEP, State.BROKEN))
    rig.daemon.upsets.nvml_missing = True
    assert rig.until(lambda: not rig.daemon.world.tasks, 3600.0), rig.daemon.world.tasks
    assert len(answers) == 1
    assert rig.state("a") is State.ASLEEP_L1
