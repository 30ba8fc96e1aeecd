"""People who load, replace and unload LoRA adapters as a server runs, past sleepd, whose API has no such call."""

from random import Random

from sleepd.core.life import State
from sleepd.sim.scenario.cast import Cast
from sleepd.sim.scenario.deed import Arguments, Deed
from sleepd.sim.scenario.stage import Stage
from sleepd.sim.vllm_adapters import LOAD, UNLOAD
from sleepd.sim.vllm_types import HttpRequest


def _draw(random: Random, cast: Cast) -> Arguments:
    return {
        "what": random.choice(("load", "replace", "unload")),
        "adapter": random.choice(("x", "y", "z")),
        "path": random.choice(("/a", "/b")),
    }


def _change(stage: Stage, name: str, drawn: Arguments) -> None:
    """Nobody does so to a sleeper, whose weights are not there; nor while it is asked what it says, when one answer
    could be the old one's and the next the new one's."""
    server, record = stage.servers[name], stage.daemon.world.models[name]
    served = record.life.state is State.AWAKE and not record.unverified and name not in stage.daemon.world.tasks
    if server.engine is None or not server.engine.spec.loads_adapters or not (served and stage.daemon.alive):
        return
    body = {"lora_name": drawn["adapter"], "lora_path": drawn["path"], "load_inplace": drawn["what"] == "replace"}
    path = UNLOAD if drawn["what"] == "unload" else LOAD
    server.request(HttpRequest("POST", path, (), body), 5.0, lambda answer: None)


DEEDS = (Deed("adapter", _change, _draw, every_s=(5.0, 60.0)),)
