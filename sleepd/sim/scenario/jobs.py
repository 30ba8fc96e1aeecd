"""People who train: jobs that reserve GPU memory, take it slowly, in part or not at all, and end in every way."""

from random import Random

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.units import GIB
from sleepd.core.wishes import ReservationAsked, ReservationDetached, ReservationEnded
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage

UID = 1000
GREEDY_BELOW_S = 10.0
"""Jobs that last less long than that, and take what they reserved, take half as much again."""
FIRST_PID = 5000
"""Jobs are processes of nobody we manage."""


def _draw_job(random: Random, cast: Cast) -> Arguments:
    wide = random.choice([n for n in (1, 1, 2) if n <= cast.gpus])
    drawn: Arguments = {
        "id": f"job-{random.randrange(3)}",
        "gpu": random.randrange(0, cast.gpus, wide),
        "gpus": wide,
        "gib": random.choice((5, 20, 40, 60, 90)),
        "takes": random.choice((0.0, 0.5, 1.0, 1.0)),
        "slowly_s": random.choice((0.0, 10.0)),
        "ttl_s": random.choice((15.0, 60.0, None)),
        "timeout_s": random.choice((10.0, 60.0)),
        "lasts_s": random.uniform(1.0, 60.0),
        "how": random.choice(("given back", "killed", "leaves early")),
    }
    # Drawn of what is drawn already, so that old seeds stay what they are.
    greedy = drawn["takes"] == 1.0 and float(drawn["lasts_s"] or 0.0) < GREEDY_BELOW_S
    return {**drawn, "takes": 1.5} if greedy else drawn


def _reserve(stage: Stage, name: str, drawn: Arguments) -> None:
    """A job reserves, allocates what it got, and ends: by itself, killed with its stream, or before it got anything."""
    daemon, job = stage.daemon, str(drawn["id"])
    if not daemon.alive:
        return
    first, many = int(drawn["gpu"] or 0), int(drawn["gpus"] or 1)
    indices = range(first, first + many)
    gpus, size = tuple(str(i) for i in indices), int(drawn["gib"] or 0) * GIB
    ttl_s = None if drawn["ttl_s"] is None else float(drawn["ttl_s"])
    timeout_s, lasts_s = float(drawn["timeout_s"] or 0.0), float(drawn["lasts_s"] or 0.0)
    stage.account.jobs += 1
    pid, epoch = FIRST_PID + stage.account.jobs, daemon.tally.deaths

    def end() -> None:
        for index in indices:
            stage.host.gpus[index].held.pop(pid, None)
        if not daemon.alive:
            return
        if drawn["how"] == "given back":
            daemon.ask(lambda w: ReservationEnded(w, job, UID), lambda answer: None)
        elif daemon.tally.deaths == epoch:
            daemon.submit(ReservationDetached(job, waiter))

    def take() -> None:
        kept = daemon.world.reservations.get(job)
        if kept is None or not kept.granted or kept.gpus != gpus:
            return
        if drawn["slowly_s"]:
            # At the moment of its grant no transition is under way there that minds; later one may be.
            stage.disturb(indices)
        for index in indices:
            gpu = stage.host.gpus[index]
            share = round(size * float(drawn["takes"] or 0.0))
            gpu.held[pid] = min(share, gpu.free_bytes)
            if share > size:
                stage.blame_gpu(index)  # what it was not granted may have been promised to a wake

    def answered(answer: Answer) -> None:
        if answer.kind is AnswerKind.DONE:
            stage.later(float(drawn["slowly_s"] or 0.0), take)
            stage.later(float(drawn["slowly_s"] or 0.0) + lasts_s, end)

    def make(waiter: int) -> ReservationAsked:
        return ReservationAsked(waiter, job, gpus, size, UID, "trainer", ttl_s, timeout_s)

    waiter = stage.ask(make, timeout_s, answered)

    def leave() -> None:
        if daemon.alive and daemon.tally.deaths == epoch:
            stage.leave(waiter, "")

    if drawn["how"] == "leaves early":
        stage.later(min(5.0, lasts_s), leave)


DEEDS = (Deed("job", _reserve, _draw_job, every_s=(40.0, 200.0)),)
