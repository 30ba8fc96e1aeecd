"""The engine core: scheduler, executor and one worker behind utility calls, each of which is work for its one thread.

A drain that nobody waits for any more still ends in a sleep. Source: vLLM v1/engine/core.py, v1/executor/abstract.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_batch import Batch
from sleepd.sim.vllm_calls import LATER, Done, UtilityCalls, Work
from sleepd.sim.vllm_executor import Executor
from sleepd.sim.vllm_faults import FaultQueue
from sleepd.sim.vllm_generation import Generation
from sleepd.sim.vllm_types import EngineFailure, EngineSpec, Scheduler
from sleepd.sim.vllm_worker import KV_CACHE, Worker


class EngineCore:
    """Scheduler, executor and one worker. `on_death` is called once, when a step touched what is not there."""

    def __init__(
        self,
        spec: EngineSpec,
        dialect: Dialect,
        scheduler: Scheduler,
        worker: Worker,
        faults: FaultQueue,
        on_death: Callable[[], None],
    ) -> None:
        self._dialect, self._scheduler, self._faults = dialect, scheduler, faults
        self.worker, self._executor = worker, Executor(dialect, worker)
        self._on_death = on_death
        self.alive = True
        self.pause: Literal["new", "all"] | None = None
        """What the scheduler leaves alone: new requests (a drain), everything, or nothing."""
        self.batch = Batch(scheduler, spec.max_num_seqs, self._step)
        self._idle_callbacks: list[tuple[int | None, Done]] = []
        self._calls = UtilityCalls(scheduler, self.batch.freeze, self._schedule)
        self.lost = False
        """It was killed and its server does not know: whoever asks it something waits for ever."""
        self.frontend_pause: str | None = None
        """The mode of a `/pause` that the API process holds (0.12-0.16): the engine knows nothing of it."""
        self._held: list[Generation] = []
        self._cached: set[str] = set()
        self._stale: set[str] = set()
        self.refuses_new = False
        """`/pause` with abort or wait turns new requests away (0.33); the pause inside `/sleep` does not."""

    # what can be seen

    @property
    def sleeping_tags(self) -> set[str]:
        """What the executor believes asleep."""
        return self._executor.sleeping_tags

    @property
    def is_sleeping(self) -> bool:
        """As `/is_sleeping` says it: from 0.17 a scheduler that merely pauses counts."""
        paused = self._dialect.pauses_scheduler_on_sleep and self.pause is not None
        return paused or bool(self.sleeping_tags)

    @property
    def busy(self) -> bool:
        """A utility call runs (or hangs) and everything else waits."""
        return self._calls.busy

    def gauges(self) -> tuple[int, int]:
        """(running, waiting) as of the last step: frozen while nothing steps."""
        if self.alive and not self.busy and self.batch.running and self.pause != "all":
            self.batch.record_gauges()
        return self.batch.gauges

    # requests

    def submit(self, generation: Generation) -> None:
        """The request waits for its turn, which may be now; under a frontend's pause it does not reach the engine."""
        if self.frontend_pause is not None:
            self._held.append(generation)
            return
        if not self._dialect.sleep_resets_prefix_cache:
            generation.reads_stale = generation.prompt in self._stale
            self._cached.add(generation.prompt)
        self.batch.waiting.append(generation)
        self._step()

    def abort(self, generation: Generation, *, tell: bool = False) -> None:
        """The request is gone; `tell` says so to its client, who otherwise was first to go."""
        if generation in self._held:
            self._held.remove(generation)
            return
        if generation in self.batch.everything():
            self.batch.end(generation, "abort", tell=tell)
            self._step()

    # utility calls: each answers through `done`, in order

    def call(self, work: Work, done: Done, delay_s: float = 0.0) -> None:
        """`work` runs when everything asked before it has ended, `delay_s` late (HANG_S: not before release_hang)."""
        self._calls.call(work, done, delay_s)

    def release_hang(self) -> None:
        """A hanging call goes on."""
        self._calls.release_hang()

    def ask(self, question: Callable[[], object]) -> Work:
        """Work: the answer as it is when every earlier call has ended."""
        yield 0.0
        return question()

    def sleep(self, level: int, mode: str, done: Done) -> Work:
        """Work: pause as `mode` says, then release memory. With `wait` it ends at the next idle moment, whoever may
        have left or woken the engine meanwhile: idle callbacks are never cancelled (0.17-0.33)."""
        if not self._dialect.pauses_scheduler_on_sleep:
            try:
                yield from self._executor.sleep(level)
            finally:
                mapped, blocks = self.worker.mapped_blocks()[KV_CACHE]
                if mapped < blocks and not self._dialect.sleep_resets_prefix_cache:
                    self._stale |= self._cached  # their KV is gone, and the cache goes on naming it
            return None
        drains = self._pause_scheduler(mode, clear_cache=level >= 1)
        if drains:
            self._idle_callbacks.append((level if level >= 1 else None, done))
            return LATER
        if level >= 1:
            yield from self._executor.sleep(level)
        return None

    def wake_up(self, tags: list[str]) -> Work:
        """Work: map what `tags` name (none: all) and let the scheduler run, under the release's conditions."""
        named = tags
        if self._dialect.pauses_scheduler_on_sleep:
            named = [tag for tag in tags if tag != "scheduling"]
        if named or not tags:
            yield from self._executor.wake_up(tuple(named) or None)
        if self._dialect.pauses_scheduler_on_sleep and (self._dialect.any_wake_resumes or not self.sleeping_tags):
            self._unpause()
        return None

    def pause_requests(self, mode: str, done: Done) -> Work:
        """Work: `/pause`."""
        yield 0.0
        if self._dialect.pause == "frontend":
            return self._pause_frontend(mode, done)
        drains = self._pause_scheduler(mode, clear_cache=True)
        self.refuses_new = self._dialect.pause_refuses_new and mode != "keep"
        if drains:
            self._idle_callbacks.append((None, done))
            return LATER
        return None

    def resume(self) -> Work:
        """Work: `/resume`, which asks nobody whether the memory is there."""
        yield 0.0
        held, self._held, self.frontend_pause = self._held, [], None
        self._unpause()
        for generation in held:
            self.submit(generation)
        return None

    def _pause_frontend(self, mode: str, done: Done) -> object:
        """New requests are kept in the API process; running ones end, are ended, or (`keep`) stand still."""
        self.frontend_pause = mode
        if mode == "abort":
            for generation in self.batch.everything():
                self.batch.end(generation, "abort")
        elif mode == "keep":
            self.pause = "all"
            self.batch.freeze()
        elif self.batch.running:
            self._idle_callbacks.append((None, done))
            return LATER
        return None

    @property
    def is_paused(self) -> bool:
        """As `/is_paused` says it."""
        return self.frontend_pause is not None or (self.pause is not None and self._dialect.pause == "engine")

    @property
    def cache_is_stale(self) -> bool:
        """The prefix cache names memory that went away in a sleep (up to 0.10.1)."""
        return bool(self._stale)

    def collective_rpc(self, method: str, args: list[Any], kwargs: Mapping[str, Any], timeout_s: float | None) -> Work:
        """Work: one worker method. A timeout that passes leaves a reply in the queue, which the next step reads."""
        steps = self._executor.run_method(method, args, kwargs)
        if timeout_s is None:
            yield from steps
            return [None]
        started = self._scheduler.now()
        yield from steps
        if self._scheduler.now() - started > timeout_s:
            self.worker.desynced = True
            raise EngineFailure(f"RPC call to {method} timed out.")
        return [None]

    def weight_checksums(self) -> Work:
        """Work: the checksums of all ranks, by worker."""
        sums = yield from self.worker.checksums()
        return sums

    def zero_weights(self) -> Work:
        """Work: the parameters of all ranks are zero."""
        yield from self.worker.zero_weights()
        return None

    def reset_prefix_cache(self) -> Work:
        """Work: True when the cache is empty, False while a request holds blocks."""
        yield 0.0
        emptied = not self._faults.take("fail_reset_cache") and not self.batch.running
        if emptied:
            self._cached.clear()
            self._stale.clear()
        return emptied

    def release_kv_cache(self) -> Work:
        """Work: drop the KV pool of a paused, resident engine (0.31+, core.py:981)."""
        if self.pause is None or self.batch.running:
            raise EngineFailure("release_kv_cache_memory() requires a completed pause first")
        yield from self._executor.release_kv_cache()
        return None

    # ends

    def die(self) -> None:
        """The core is gone: its requests end in an error, its callers wait for ever."""
        if not self.alive:
            return
        self._end_everything()
        self._on_death()

    def shut_down(self) -> None:
        """SIGTERM: running requests end in an error, queued ones as aborted (recorded from 0.32)."""
        for generation in tuple(self.batch.waiting):
            self.batch.end(generation, "abort")
        self._end_everything()

    def silence(self) -> None:
        """SIGKILL: nothing more is done or said."""
        self.alive = False
        self._calls.stop()
        self._idle_callbacks.clear()
        self.batch.freeze()

    def _end_everything(self) -> None:
        self.silence()
        for generation in self.batch.everything():
            self.batch.end(generation, "error")

    # scheduler

    def _step(self) -> None:
        self._calls.step()

    def _schedule(self) -> None:
        if self.pause is None:
            self.batch.admit()
        if self.batch.running and self.pause != "all":
            if not self.worker.computes:
                self.die()
                return
            self.batch.thaw()
        elif self._idle_callbacks and (self.pause is not None or not self.batch.waiting):
            for level, done in self._idle_callbacks:
                work = self.ask(lambda: None) if level is None else self._executor.sleep(level)
                self._calls.queue(work, done)
            self._idle_callbacks.clear()

    def _pause_scheduler(self, mode: str, *, clear_cache: bool) -> bool:
        """True when running requests must end first."""
        if mode not in ("abort", "wait", "keep"):
            raise EngineFailure(f"Unknown pause mode: {mode}")
        if mode == "keep":
            self.pause = "all"
            self.batch.freeze()
            if clear_cache:  # their KV goes, so they are preempted and computed again
                self.batch.preempt()
            return False
        self.pause = "new"
        if mode == "abort":
            for generation in self.batch.everything():
                self.batch.end(generation, "abort")
        return bool(self.batch.running)

    def _unpause(self) -> None:
        self.pause, self.refuses_new = None, False
