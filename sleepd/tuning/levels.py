"""At which level each model sleeps: at 1 while the backups fit into host RAM; else those that lose least by it at 2."""

from collections.abc import Mapping

from sleepd.core.model import Settings
from sleepd.core.units import Bytes
from sleepd.replay.hosts import Host


def choose_levels(settings: Settings, host: Host, wakes: Mapping[str, int]) -> dict[str, int]:
    """Return 1 or 2 for each model. `wakes`: how often each is woken now, and would pay for the longer way back. Where
    max_level is 1 it stays at that, whether there is room or not. Models that nobody asks for have backups too."""
    levels = dict.fromkeys(wakes, 1)
    room: Bytes = host.ram_bytes - host.used_bytes - settings.host_reserve_bytes
    over = sum(host.costs(model).backup_bytes for model in settings.models) - room

    def price(model: str) -> tuple[float, str]:
        costs = host.costs(model)
        return wakes[model] * max(0.0, costs.wake2_s - costs.wake1_s) / max(1, costs.backup_bytes), model

    for model in sorted((m for m in levels if settings.models[m].max_level == 2), key=price):
        if over <= 0:
            break
        levels[model] = 2
        over -= host.costs(model).backup_bytes
    return levels
