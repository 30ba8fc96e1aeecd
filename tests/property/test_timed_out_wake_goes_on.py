"""A caller whose time ran out was told that the task goes on: it does, also while the wake still makes room."""

from virtual_rig import Rig

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.life import State
from sleepd.core.units import GIB
from sleepd.core.wishes import WakeAsked


def test_a_wake_that_makes_room_goes_on_after_its_caller_was_told_so() -> None:
    rig = Rig("0.32.0", names=("a", "b"), kv_bytes=40 * GIB)
    rig.boot("a")
    rig.start()
    assert rig.until(lambda: rig.daemon.world.models["a"].life.state is State.AWAKE)
    slept = rig.sleep("a", 1)
    assert rig.until(lambda: bool(slept))
    rig.boot("b")
    assert rig.until(lambda: rig.daemon.world.models["b"].life.state is State.AWAKE)

    rig.run(2.0)  # a turn lasts a second at least: until then nobody makes room by b, and a's caller is refused

    told: list[Answer] = []
    rig.daemon.ask(lambda waiter: WakeAsked(waiter, "a", "test", timeout_s=0.3), told.append)

    assert rig.until(lambda: bool(told))
    assert told[0].kind is AnswerKind.TIMED_OUT
    assert rig.daemon.world.models["b"].life.state is not State.ASLEEP_L1, "the victim was still falling asleep"
    assert rig.until(lambda: rig.daemon.world.models["a"].life.state is State.AWAKE, within_s=60)
    assert len(told) == 1
