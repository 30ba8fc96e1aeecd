"""A daemon killed before or after every commit of a restart, a stop and a start: the next one finishes it.

What must never happen is looked at when the daemon orders something (Stage._ordered): no start while anything is left
of the unit, no second engine, nothing that a person stopped, no more restarts than the budget allows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from sleepd.core.life import State
from sleepd.core.wishes import StartAsked, StopAsked
from sleepd.sim.scenario.cast import Cast, CastModel
from sleepd.sim.scenario.invariants import EVERY_COMMIT, EVERY_TURN, check
from sleepd.sim.scenario.play import play
from sleepd.sim.scenario.script import Act, Script
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_faults import Fault

MODEL = CastModel("m0", "0.32.0", (0,), weights_gib=16, kv_gib=30, controlled=True, kills_all=False, load_s=3.0)
SETTLED_S = 20.0


class Rig:
    """One model with a unit, awake; the daemon dies at its n-th commit after `aim`, and starts again a second later."""

    def __init__(self, **of_model: Any) -> None:
        cast = Cast(1, 512, (replace(MODEL, **of_model),), nap_idle_s=10_000.0)
        self.stage = Stage(cast, "units", self._check, lambda stage, note: None)
        self.stage.blame("m0")
        self.stage.start()
        self.run(SETTLED_S)
        assert self.state is State.AWAKE
        self._left = 0
        self.commits = 0
        commit = self.stage.daemon._commit

        def counted(*args: Any) -> None:
            self.commits += 1
            self._left -= 1
            if self._left == 0:
                upsets = self.stage.daemon.upsets
                upsets.die_before_commit, upsets.die_after_commit = self._before, not self._before
                self.stage.later(self._down_s, self.stage.daemon.start)
            commit(*args)

        self.stage.daemon._commit = counted  # type: ignore[method-assign]

    def _check(self, stage: Stage) -> None:
        check(stage, EVERY_TURN)
        check(stage, EVERY_COMMIT)

    def aim(self, n: int, *, before: bool, down_s: float = 1.0) -> None:
        self._left, self._before, self._down_s, self.commits = n, before, down_s, 0

    def run(self, seconds: float) -> None:
        self.stage.time.run_until(self.stage.time.now() + seconds)

    @property
    def state(self) -> State:
        return self.stage.daemon.world.models["m0"].life.state

    @property
    def unit(self) -> Any:
        return self.stage.unit_of("m0")


def _ask(make: type[StopAsked] | type[StartAsked], waiter: int) -> StopAsked | StartAsked:
    return make(waiter, "m0", "root", 60.0)


def assert_serves(rig: Rig) -> None:
    assert rig.state is State.AWAKE, rig.stage.daemon.world.models["m0"].reason
    assert rig.stage.daemon.gates.of("m0").open
    engine = rig.stage.servers["m0"].engine
    assert engine is not None
    assert engine.snapshot().answers_right
    assert rig.stage.daemon.world.tasks == {}
    held = rig.stage.host.gpus[0].held
    assert {pid for pid, bytes_ in held.items() if bytes_} == {rig.unit.pid}


DEATHS = [(n, before) for n in range(1, 13) for before in (True, False)]


@pytest.mark.parametrize(("n", "before"), DEATHS)
def test_a_restart_of_what_left_its_engine_core_behind(n: int, before: bool) -> None:
    rig = Rig()
    rig.aim(n, before=before)
    rig.stage.orphan("m0")
    rig.run(120.0)
    assert_serves(rig)
    assert rig.unit.starts == 2


@pytest.mark.parametrize(("n", "before"), DEATHS[::3])
def test_a_stop_and_a_start_that_a_person_asked_for(n: int, before: bool) -> None:
    rig = Rig()
    rig.aim(n, before=before)
    daemon = rig.stage.daemon
    for make in (StopAsked, StartAsked):
        asked = State.STOPPED if make is StopAsked else State.AWAKE
        for _ in range(6):  # whoever gets no answer from a daemon that died asks again
            if rig.state is not asked and daemon.alive:
                daemon.ask(partial(_ask, make), lambda answer: None)
            rig.run(20.0)
        assert rig.state is asked
    assert_serves(rig)


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("before", [True, False])
def test_what_a_person_stopped_while_no_daemon_ran_stays_stopped(n: int, before: bool) -> None:
    """In the middle of a restart that only a person's `systemctl stop` could take the place of."""
    rig = Rig(version="0.26.0")
    rig.stage.servers["m0"].engine.arm(Fault("fail_sleep", blocks=2))  # type: ignore[union-attr]
    rig.aim(n, before=before, down_s=60.0)
    rig.stage.ask_sleep("m0", 1)
    rig.run(30.0)
    assert not rig.stage.daemon.alive
    stopped = rig.unit.active == "active"
    if stopped:
        rig.stage.account.stopped_by_person.add("m0")
        rig.stage.manager.stop(rig.unit)
    rig.run(120.0)
    if stopped:
        assert rig.state is State.STOPPED
        assert rig.unit.active == "inactive"
    else:
        assert_serves(rig)


def test_those_commits_are_all_there_are() -> None:
    rig = Rig()
    rig.aim(10_000, before=True)
    rig.stage.orphan("m0")
    rig.run(120.0)
    assert_serves(rig)
    assert 4 <= rig.commits <= DEATHS[-1][0]


# --- what seeds showed ---


def played(*acts: Act, **of_model: Any) -> None:
    cast = Cast(1, 512, (replace(MODEL, **{"kills_all": True, **of_model}),), nap_idle_s=10_000.0)
    play(Script("a bug", cast, acts, faulty_s=300.0))


def test_a_stop_that_hangs_until_sigkill_is_no_failure_to_be_mended() -> None:
    """It was restarted: the unit ends as failed, and nothing but the job seen before tells that a person wanted it."""
    played(Act(60.0, "stop hangs", "m0", {}), Act(90.0, "unit stopped", "m0", {"lasts_s": 90.0}))


def test_each_process_is_primed_once_and_serves_again() -> None:
    """However it came about: at first, restarted by a person, stopped and started through sleepd."""
    rig = Rig(prime=True)

    def slept() -> int:
        engine = rig.stage.servers["m0"].engine
        assert engine is not None
        return engine.snapshot().http_requests[("/sleep", "POST", "2xx")]

    rig.run(60.0)
    assert slept() == 1
    rig.stage.manager.stop(rig.unit)
    rig.stage.manager.start(rig.unit)
    rig.run(90.0)
    assert (rig.unit.starts, slept()) == (2, 1)
    for make in (StopAsked, StartAsked):
        rig.stage.daemon.ask(partial(_ask, make), lambda answer: None)
        rig.run(90.0)
    assert (rig.unit.starts, slept()) == (3, 1)
    assert_serves(rig)
