"""Somebody else's curl: sleeps, wakes, pauses and checks of weights that sleepd did not send."""

import math
from random import Random

from sleepd.core.checksums import WEIGHT_CHECKER
from sleepd.sim.scenario.cast import FENCED_ONLY, Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_types import HttpRequest

CALLS: dict[str, tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = {
    "sleep 1": (("/sleep", (("level", "1"),)),),
    "sleep 2": (("/sleep", (("level", "2"),)),),
    "wake": (("/wake_up", ()),),
    "sleep 0": (("/sleep", (("level", "0"),)),),
    "pause": (("/pause", ()),),
    "resume": (("/resume", ()),),
    "sleep 2 and wake": (("/sleep", (("level", "2"),)), ("/wake_up", ())),
    "wake weights": (("/wake_up", (("tags", "weights"),)),),
    "check weights": ((WEIGHT_CHECKER, (("action", "checksum"),)),),
    "zero weights": ((WEIGHT_CHECKER, (("action", "reset"),)),),
}
"""What is called, and with which query; of the checker it is the body."""
UNNOTICED_S = 10.0
"""How long what a stranger did may stay unknown once his call was answered: vLLM counts a request at its answer
(http_requests_total, prometheus-fastapi-instrumentator), and the next look tells it. A call that is out, behind minutes
of checksums say, may do its work at any moment and shows nowhere."""


def _draw(random: Random, cast: Cast) -> Arguments:
    return {"what": random.choice(tuple(CALLS))}


def _curl(stage: Stage, name: str, drawn: Arguments) -> None:
    """One after the other, each as soon as the one before was answered: nobody looks in between."""
    stage.blame(name)
    if drawn["what"] == "pause" and stage.models[name].version in FENCED_ONLY:
        # Before 0.17 /is_sleeping does not show a pause, and one made before the first look looks like none.
        stage.doubt(name, math.inf)
    calls = list(CALLS[str(drawn["what"])])

    def following() -> None:
        if calls:
            path, query = calls.pop(0)
            if path == "/wake_up":
                # It takes GPU memory as a neighbour does, in the middle of others' wakes too, whose preflight is over.
                for index in stage.models[name].gpus:
                    stage.blame_gpu(index)
            stage.account.strangers_out[name] += 1
            body = dict(query) if path == WEIGHT_CHECKER else None
            request = HttpRequest("POST", path, () if body else query, body)
            stage.servers[name].request(request, 600.0, lambda answer: after())

    def after() -> None:
        stage.account.strangers_out[name] -= 1
        stage.doubt(name, UNNOTICED_S)
        following()

    following()


DEEDS = (Deed("foreign curl", _curl, _draw),)
