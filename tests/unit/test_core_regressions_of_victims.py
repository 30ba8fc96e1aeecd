"""What once went wrong with sleeps that make room for others, each told as what has to hold."""

from regression_rigs import configure, crowded, told, until_victim_sleeps

from sleepd.core.commands import AnswerKind
from sleepd.core.events import SettingsChanged
from sleepd.core.life import State
from sleepd.core.task import HOST_LOCK
from sleepd.core.wishes import WakeAsked
from sleepd.sim.vllm_faults import Fault


def test_a_wake_whose_victim_is_removed_while_it_falls_asleep_is_answered_and_can_be_asked_for_again() -> None:
    """What the victim still holds is nobody's any more: there is no room, until its sleep has run its course."""
    rig = crowded()
    answers = until_victim_sleeps(rig)
    rig.daemon.submit(SettingsChanged(configure(rig, {"a": rig.daemon.settings.models["a"]})))
    assert rig.until(lambda: bool(answers), 30.0)
    assert told(answers) == [(AnswerKind.REFUSED, "no_room")]
    rig.run(10)
    rig.check_usable("a")


def test_a_victim_that_was_removed_before_a_restart_is_forgotten() -> None:
    rig = crowded()
    until_victim_sleeps(rig)
    rig.daemon.die()
    rig.run(5)
    configure(rig, {"a": rig.daemon.settings.models["a"]})
    rig.daemon.start()
    assert rig.until(rig.settled, 30.0)
    rig.check_usable("a")


# claims and victims


def test_a_victim_falls_asleep_under_the_claims_of_a_model_that_is_gone() -> None:
    rig = crowded()
    rig.arm("b", Fault("slow", path="/sleep", seconds=60.0))
    until_victim_sleeps(rig)
    rig.engine("a").kill()
    rig.servers["a"].engine = None
    assert rig.until(lambda: rig.state("a") is State.LOST, 30.0)
    assert rig.state("b") is State.FALLING_ASLEEP
    assert rig.daemon.world.tasks["b"].claims == {"GPU-0", HOST_LOCK}


def test_a_victim_is_woken_again_when_nobody_waits_any_more_for_what_it_made_room_for() -> None:
    rig = crowded()
    rig.arm("b", Fault("slow", path="/sleep", seconds=10.0))
    waiter = rig.daemon.ask(lambda w: WakeAsked(w, "a", "test", 100.0), lambda answer: None)
    rig.run(3)
    assert rig.state("b") is State.FALLING_ASLEEP
    rig.daemon.leave(waiter, "a")
    assert rig.until(lambda: rig.state("b") is State.AWAKE, 60.0)
    assert rig.state("a") is State.ASLEEP_L1
