"""Why a model is as it is: what is told goes when it is over, and what is still true stays."""

import pytest
from virtual_rig import Rig

from sleepd.core.explain import reason
from sleepd.core.life import State
from sleepd.core.model import Missing, MissingReason
from sleepd.sim.virtual_server import VirtualServer
from sleepd.sim.vllm_faults import Fault

SILENT_S = 60.0
"""Sleepers are polled at a fifth: long enough for three misses in a row."""


def told(rig: Rig) -> tuple[str, str | None]:
    """The public reason, and the code of the public failure."""
    failing = rig.record("a").failing
    return reason(rig.daemon.world, "a", rig.daemon.now()), failing.code if failing else None


def miss(rig: Rig, why: MissingReason) -> None:
    """Looks at the server tell nothing for a while; its process goes on as it is."""
    server, time = rig.servers["a"], rig.time
    server.look = lambda ask_sleeping, timeout_s, then, **how: time.call_later(
        0.1, lambda: then(Missing(why, "GET /metrics", time.now()))
    )
    rig.run(SILENT_S)


def answer_again(rig: Rig) -> None:
    server = rig.servers["a"]
    server.look = VirtualServer.look.__get__(server)
    rig.run(SILENT_S)


def awake(rig: Rig) -> None:
    rig.check_usable("a")


def asleep(rig: Rig) -> None:
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))


def kept_awake(rig: Rig) -> None:
    """Its sleep failed, it serves on, and that is still to be told."""
    rig.arm("a", Fault("fail_sleep"))
    answers = rig.sleep("a", 1)
    assert rig.until(lambda: bool(answers))
    assert rig.until(lambda: not rig.daemon.world.tasks)
    assert rig.record("a").failure is not None


def failed(rig: Rig) -> None:
    asleep(rig)
    rig.arm("a", Fault("fail_wake", blocks=2, times=9))
    rig.wake("a")
    assert rig.until(lambda: rig.state("a") is State.FAILED, 3600.0)


@pytest.mark.parametrize("why", [MissingReason.TIMED_OUT, MissingReason.NO_DEV_MODE])
@pytest.mark.parametrize("before", [awake, asleep, kept_awake, failed])
def test_that_it_does_not_answer_is_told_as_long_as_it_does_not(before, why) -> None:
    rig = Rig("0.32.0" if before is kept_awake else "0.22.1")  # where a failed sleep is undone; a failed wake is fatal
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    before(rig)
    rig.run(5.0)
    was, state = told(rig), rig.state("a")
    miss(rig, why)
    if before is failed and why is MissingReason.TIMED_OUT:
        assert told(rig) == was, "that it answers nobody is no news of one that failed"
    else:
        code = "unreachable" if why is MissingReason.TIMED_OUT else "no_dev_mode"
        assert told(rig)[1] == code
        assert "GET /metrics" in told(rig)[0]
        assert sum(note.kind == "failure" and note.data["code"] == code for note in rig.notes) == 1
    answer_again(rig)
    assert (told(rig), rig.state("a")) == (was, state)


def test_a_daemon_that_starts_meanwhile_remembers_nothing_of_it() -> None:
    rig = Rig("0.32.0")
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    asleep(rig)
    miss(rig, MissingReason.TIMED_OUT)
    rig.daemon.die()
    rig.daemon.start()
    rig.run(SILENT_S)
    assert "does not answer" in told(rig)[0]
    answer_again(rig)
    assert rig.state("a") is State.ASLEEP_L1
    assert told(rig) == ("found asleep", None)


def test_that_it_is_gone_is_told_as_long_as_it_is() -> None:
    rig = Rig("0.32.0")
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.state("a") is State.AWAKE)
    rig.engine("a").kill()
    assert rig.until(lambda: rig.state("a") is State.LOST)
    assert "nothing answers" in told(rig)[0]
    rig.boot("a", 777)
    said: set[str] = set()

    def serves() -> bool:
        if rig.state("a") is not State.LOST:
            said.add(told(rig)[0])
        return rig.state("a") is State.AWAKE

    assert rig.until(serves, every_s=0.01)
    assert not any("nothing answers" in each for each in said)
