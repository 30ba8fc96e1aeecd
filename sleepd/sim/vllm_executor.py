"""The executor: which pools it believes asleep, and which worker calls it therefore makes.

Its belief and the worker's memory part ways after a failure or a direct worker call; that gap is what a driver of vLLM
has to live with. Source: vLLM v1/executor/abstract.py (0.8.5 executor_base.py:201 to 0.33 abstract.py:397).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_types import EngineFailure, WorkerFailure
from sleepd.sim.vllm_worker import KV_CACHE, WEIGHTS, Steps, Worker

_RELOAD_ARGUMENTS = frozenset({"weights_path", "weights_iterator", "is_checkpoint_format"})


class Executor:
    """`sleeping_tags` is what it believes asleep."""

    def __init__(self, dialect: Dialect, worker: Worker) -> None:
        self._dialect, self.worker = dialect, worker
        self.sleeping_tags: set[str] = set()

    def sleep(self, level: int) -> Steps:
        """No-op when already asleep; a failure records no tag, so the executor goes on saying awake."""
        asleep = WEIGHTS in self.sleeping_tags if self._dialect.resleeps_partially_awake else bool(self.sleeping_tags)
        if asleep:
            return
        yield from self.worker.sleep(level)
        self.sleeping_tags = {WEIGHTS, KV_CACHE}

    def wake_up(self, tags: tuple[str, ...] | None) -> Steps:
        """No-op when awake or when any tag is not asleep; a duplicate tag fails after the memory was mapped."""
        if not self.sleeping_tags or (tags is not None and not self.sleeping_tags.issuperset(tags)):
            return
        yield from self.worker.wake_up(tags)
        if tags is None:
            self.sleeping_tags.clear()
            return
        for tag in tags:
            if tag not in self.sleeping_tags:
                raise EngineFailure(repr(tag))
            self.sleeping_tags.remove(tag)

    def release_kv_cache(self) -> Steps:
        """The KV pool of a resident engine is dropped and counts as asleep (0.31+, core.py:981)."""
        if self.sleeping_tags:
            raise EngineFailure("release_kv_cache_memory() requires all memory to be resident")
        yield from self.worker.discard_kv_cache()
        self.sleeping_tags = {KV_CACHE}

    def run_method(self, method: str, args: list[Any], kwargs: Mapping[str, Any]) -> Steps:
        """One worker method by name, past the executor's belief: no tag changes. Raises WorkerFailure."""
        if method == "reload_weights":
            strange = sorted(set(kwargs) - _RELOAD_ARGUMENTS)
            if strange:
                name = f"GPUModelRunner.{method}()"
                raise WorkerFailure(f"{name} got an unexpected keyword argument '{strange[0]}'")
            yield from self.worker.reload_weights(kwargs.get("weights_path"))
        elif method == "sleep":
            yield from self.worker.sleep(kwargs.get("level", args[0] if args else 1))
        elif method == "wake_up":
            tags = kwargs.get("tags", args[0] if args else None)
            yield from self.worker.wake_up(None if tags is None else tuple(tags))
        elif method != "check_health":
            raise WorkerFailure(f"Method '{method}' is not implemented.")  # vLLM: run_method()
