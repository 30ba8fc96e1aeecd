"""Faults to arm on a simulated engine: plain data, taken in order by the occasions they match.

Nothing is drawn here. Whoever arms them draws kinds and numbers from its own seed (`FAULT_KINDS` is a tuple to draw
from), so a run is reproduced by its seed alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

FaultKind = Literal[
    "fail_sleep",  # the worker's sleep raises after `blocks` blocks were unmapped
    "fail_wake",  # the worker's wake_up raises after `blocks` blocks were mapped
    "fail_reload",  # reload_weights raises; the weights are broken until a reload succeeds
    "fail_reset_cache",  # reset_prefix_cache fails: success false, or silently
    "free_nothing",  # sleep leaves everything mapped, and says 200
    "lose_adapters",  # the wake restores the weights and no LoRA adapter: their names answer as the base model
    "skew_reload",  # the reload brings back weights a little off: its answers are right, its checksums are not
    "corrupt_wake",  # the wake restores wrong weights, and says 200
    "hang",  # the call, and all behind it, waits for SimEngine.release_hang()
    "slow",  # the call takes `seconds` longer
    "lose_before",  # the connection drops, the call never reaches the engine
    "lose_after",  # the call is carried out, its answer is lost
    "no_op",  # 200, and nothing was done
    "die_at_call",  # the engine dies when the call reaches it
    "die_after_sleep",  # `/sleep` answers 200, and the engine dies `seconds` later (0.3 when 0)
    "die_now",  # the engine dies when the fault is armed
    "kill_core",  # its core is killed when the fault is armed; up to 0.10.1 the server does not notice
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

CONTROL_PATHS = frozenset(
    {"/sleep", "/wake_up", "/collective_rpc", "/reset_prefix_cache", "/pause", "/resume", "/release_kv_cache_memory"}
)
"""The calls that change something: what a call fault without a path matches. `/is_sleeping` must be named."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. It lets `skip` occasions pass, then strikes on each `every`-th one, `times` times in all."""

    kind: FaultKind
    path: str | None = None
    """For call faults: the path it waits for; None: any of CONTROL_PATHS."""
    blocks: int = 0
    seconds: float = 0.0
    skip: int = 0
    every: int = 1
    times: int = 1


def parse_fault(data: Mapping[str, Any]) -> Fault:
    """A Fault from its JSON form. Raises ValueError naming the field that is wrong, what it holds and what it may."""
    unknown = sorted(set(data) - set(Fault.__dataclass_fields__))
    if unknown:
        raise ValueError(f"unknown fault field {unknown[0]!r}: known are {', '.join(Fault.__dataclass_fields__)}")
    kind = data.get("kind")
    if kind not in FAULT_KINDS:
        raise ValueError(f"kind is {kind!r}: wanted one of {', '.join(FAULT_KINDS)}")
    path = data.get("path")
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise ValueError(f"path is {path!r}: wanted a path such as /sleep, or none for any control call")
    least = {"blocks": 0, "skip": 0, "every": 1, "times": 1}
    for field, minimum in least.items():
        value = data.get(field, minimum)
        if type(value) is not int or value < minimum:
            raise ValueError(f"{field} is {value!r}: wanted a whole number from {minimum} up")
    seconds = data.get("seconds", 0.0)
    if type(seconds) not in (int, float) or not 0 <= seconds < float("inf"):
        raise ValueError(f"seconds is {seconds!r}: wanted a number from 0 up")
    return Fault(**data)


class FaultQueue:
    """The armed faults of one engine, oldest first."""

    __slots__ = ("_armed",)

    def __init__(self) -> None:
        self._armed: list[tuple[Fault, int, int]] = []  # fault, occasions seen, strikes left

    def arm(self, fault: Fault) -> None:
        """`fault` waits for its occasion."""
        self._armed.append((fault, 0, fault.times))

    def clear(self) -> None:
        """Nothing is armed."""
        self._armed.clear()

    def armed(self) -> tuple[Fault, ...]:
        """What still waits, oldest first."""
        return tuple(fault for fault, _, _ in self._armed)

    def take(self, *kinds: FaultKind, path: str | None = None) -> Fault | None:
        """The oldest fault of these kinds that strikes on this occasion, used up by one; None: all goes well."""
        if not self._armed:
            return None
        struck: Fault | None = None
        kept: list[tuple[Fault, int, int]] = []
        for fault, seen, left in self._armed:
            if struck is None and fault.kind in kinds and _matches(fault, path):
                seen += 1
                if seen > fault.skip and (seen - fault.skip) % fault.every == 0:
                    struck, left = fault, left - 1
            if left > 0:
                kept.append((fault, seen, left))
        self._armed = kept
        return struck


def _matches(fault: Fault, path: str | None) -> bool:
    if path is None:
        return True
    return path == fault.path if fault.path is not None else path in CONTROL_PATHS
