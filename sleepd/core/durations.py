"""How long a model's next sleep and wake should take: the median of what was learned, else by its bytes."""

from dataclasses import dataclass
from functools import lru_cache
from statistics import median_low

from sleepd.core.footprint import STEP
from sleepd.core.plan import Verb
from sleepd.core.record import ModelRecord
from sleepd.core.units import GIB, Seconds

GUESSED_WEIGHTS_GIB = 16.0
"""Where nobody told how large a checkpoint is."""
SHORTEST_S = 0.2
FIRST_SLEEP_S, FIRST_SLEEP_S_PER_GIB = 2.0, 0.6
"""The first level 1 sleep of a process pins host RAM: 43 s for 75 GiB, 10.6 s for 22 (docs/vllm.md)."""
COPY_S_PER_GIB = 0.06
"""Weights between host RAM and GPU: 64 GiB in 4 s."""
RELOAD_S_PER_GIB = 1.0


@dataclass(frozen=True, slots=True)
class Expected:
    seconds: Seconds
    learned: bool
    """Measured on this model; else worked out from the size of its weights."""


def expected_sleep(record: ModelRecord, level: int) -> Expected:
    """Seconds from the call to its answer. The first level 1 sleep of a process is a kind of its own."""
    if level == 2:
        return _learned(record, "sleep2") or _guessed(SHORTEST_S)
    if record.footprint.host_pinned:
        return _learned(record, "sleep1") or _guessed(SHORTEST_S + COPY_S_PER_GIB * _weights_gib(record))
    return _learned(record, "sleep1_first") or _guessed(FIRST_SLEEP_S + FIRST_SLEEP_S_PER_GIB * _weights_gib(record))


def expected_wake(record: ModelRecord, level: int) -> Expected:
    """Seconds from the wake's first call to its proof, with the reload in it at level 2."""
    if level == 1:
        return _learned(record, "wake1") or _guessed(SHORTEST_S + COPY_S_PER_GIB * _weights_gib(record))
    if whole := _learned(record, "wake2"):
        return whole
    reload_ = expected_reload(record)
    return Expected(round(SHORTEST_S + reload_.seconds, 3), reload_.learned)


def expected_reload(record: ModelRecord) -> Expected:
    """Seconds in which its weights are read anew."""
    return _learned(record, "reload") or _guessed(RELOAD_S_PER_GIB * _weights_gib(record))


def expected_step(record: ModelRecord, verb: Verb) -> Expected | None:
    """Seconds of one step of a wake, where it was measured."""
    return _learned(record, STEP + verb)


def _learned(record: ModelRecord, key: str) -> Expected | None:
    samples = record.learned.durations.get(key)
    return _measured(samples) if samples else None


def _guessed(guess_s: Seconds) -> Expected:
    return Expected(round(guess_s, 3), False)


@lru_cache(maxsize=1024)
def _measured(samples: tuple[Seconds, ...]) -> Expected:
    return Expected(median_low(samples), True)


def _weights_gib(record: ModelRecord) -> float:
    if record.facts is not None and record.facts.checkpoint_bytes:
        return record.facts.checkpoint_bytes / GIB
    backup = record.spec.host_ram_bytes or record.learned.host_bytes
    return backup / GIB if backup else GUESSED_WEIGHTS_GIB
