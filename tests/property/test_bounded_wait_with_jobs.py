"""Models over one to four GPUs that are wanted again and again, and jobs that reserve some of the same GPUs: nobody
waits for ever, no engine meets an out-of-memory, and each job finds what it was granted."""

from collections.abc import Callable
from random import Random

import pytest

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.model import CauseKind
from sleepd.core.units import GIB
from sleepd.core.wishes import Ask, ReservationAsked, ReservationDetached, ReservationEnded, WakeAsked
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.invariants import AT_THE_END, EVERY_COMMIT, EVERY_TURN, check
from sleepd.sim.scenario.stage import Stage
from tests.property.test_bounded_wait import TURN_S, Crowd, draw_models, stage_of, wait_until_up

JOBS, ROUNDS = 3, 3
LASTS_S = 20.0
TTL_S = 30.0
GRACE_S = 35.0
"""A killed job's room returns 30 s after its stream broke."""
PAUSE_S, DOWN_S = 15.0, 5.0
PLAYED_S = 900.0
UID = 1000


def persist(stage: Stage, make: Callable[[int], Ask], then: Callable[[Answer, int], None]) -> None:
    """Ask until there is an answer, as clients do whose daemon died under their question."""
    answered: list[Answer] = []

    def ask() -> None:
        epoch = -1  # nobody was asked
        if stage.daemon.alive:
            epoch = stage.daemon.tally.deaths
            waiter = stage.ask(make, 3600.0, lambda answer: take(answer, waiter))
        stage.later(1.0, lambda: look(epoch))

    def take(answer: Answer, waiter: int) -> None:
        answered.append(answer)
        then(answer, waiter)

    def look(epoch: int) -> None:
        if answered:
            return
        if stage.daemon.alive and stage.daemon.tally.deaths != epoch:
            ask()
        else:
            stage.later(1.0, lambda: look(epoch))

    ask()


class Requests(Crowd):
    """The crowd at the gateway: requests, which wait for what is reserved and outlive the daemon."""

    def want(self, name: str) -> None:
        self.asked_s.setdefault(name, self.stage.time.now())

        def make(waiter: int) -> WakeAsked:
            return WakeAsked(waiter, name, "gateway", 3600.0, cause=CauseKind.REQUEST)

        persist(self.stage, make, lambda answer, waiter: self._served(name, answer))


class Job:
    """Reserves some GPUs, takes what it was granted, ends in one way or another, and does it all again a few times."""

    def __init__(self, stage: Stage, random: Random, number: int) -> None:
        self.stage, self._random = stage, random
        self.id, self.pid = f"job-{number}", 5000 + number
        self.rounds, self.longest_s = 0, 0.0

    def ask(self) -> None:
        count, asked_s = len(self.stage.host.gpus), self.stage.time.now()
        indices = sorted(self._random.sample(range(count), self._random.randint(1, count)))
        size, ttl_s = self._random.choice((10, 30, 60)) * GIB, self._random.choice((TTL_S, None, None))

        def make(waiter: int) -> ReservationAsked:
            gpus = tuple(str(index) for index in indices)
            return ReservationAsked(waiter, self.id, gpus, size, UID, "trainer", ttl_s, 3600.0)

        def granted(answer: Answer, waiter: int) -> None:
            assert answer.kind is AnswerKind.DONE, self.stage.say(f"{self.id}: {answer}")
            self.longest_s = max(self.longest_s, self.stage.time.now() - asked_s)
            for index in indices:
                gpu = self.stage.host.gpus[index]
                assert gpu.free_bytes >= size, self.stage.say(f"{self.id} was granted what is not free on GPU {index}")
                gpu.held[self.pid] = size
            self.stage.later(self._random.uniform(1.0, LASTS_S), lambda: self._end(waiter, ttl_s))

        persist(self.stage, make, granted)

    def _end(self, waiter: int, ttl_s: float | None) -> None:
        """It gives the room back, or is killed and its stream breaks, or its time is up a little later."""
        for gpu in self.stage.host.gpus:
            gpu.held.pop(self.pid, None)
        daemon = self.stage.daemon
        if daemon.alive and ttl_s is None:
            if self._random.random() < 0.5:
                daemon.ask(lambda w: ReservationEnded(w, self.id, UID), lambda answer: None)
            else:
                daemon.submit(ReservationDetached(self.id, waiter))
        self.rounds += 1
        if self.rounds < ROUNDS:
            self.stage.later(GRACE_S + PAUSE_S, self.ask)


@pytest.mark.parametrize("seed", range(4))
def test_models_and_jobs_are_all_served_within_a_bounded_time(seed: int) -> None:
    random = Random(1000 + seed)
    gpus = random.choice((1, 2, 2, 3, 4))
    cast = Cast(gpus, ram_gib=1024, models=draw_models(random, gpus), nap_idle_s=3600.0)
    stage = stage_of(cast, f"seed {seed}")
    wait_until_up(stage)
    crowd, jobs = Requests(stage, random), [Job(stage, random, number) for number in range(JOBS)]
    for name in stage.models:
        crowd.want(name)
    for job in jobs:
        stage.later(random.uniform(0.0, 30.0), job.ask)
    for at_s in (random.uniform(20.0, 100.0), random.uniform(150.0, 250.0)):
        stage.later(at_s, stage.daemon.die)
        stage.later(at_s + DOWN_S, stage.daemon.start)
    stage.time.run_until(stage.time.now() + PLAYED_S)

    # Each job before another lasts so long, and what everybody else does in between is what it is without jobs.
    models_s = TURN_S * len(stage.models)
    bound_s = models_s + JOBS * (LASTS_S + GRACE_S + models_s)
    waiting_s = [stage.time.now() - asked_s for asked_s in crowd.asked_s.values()]
    assert max([crowd.longest_s, *waiting_s]) <= bound_s, stage.say(f"{crowd.longest_s} {crowd.asked_s}")
    assert [job.rounds for job in jobs] == [ROUNDS] * JOBS, stage.say("a job was not served")
    assert max(job.longest_s for job in jobs) <= bound_s
    assert min(crowd.served.values()) >= 1, stage.say(f"{crowd.served}")
    assert stage.host.refused == 0
    check(stage, AT_THE_END[1:])
    check(stage, (*EVERY_TURN, *EVERY_COMMIT))
