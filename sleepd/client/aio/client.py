"""Every call of the asynchronous client."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any

from sleepd.client import asks
from sleepd.client.aio.attached import attached
from sleepd.client.aio.events import read_events
from sleepd.client.aio.wire import Stream, Wire
from sleepd.client.answers import Reply
from sleepd.client.asks import DEFAULT_SOCKET, Request
from sleepd.client.attached_lines import new_id
from sleepd.wire import answers, history_shapes, reservation_shapes, shapes


class AsyncClient:
    """One daemon at one socket: `async with AsyncClient() as client:`. Cancelling a call withdraws its wish.

    Every method raises ApiProblem for a refusal and DaemonUnreachable where no answer comes in time.
    """

    def __init__(self, socket_path: str | os.PathLike[str] | None = None, timeout_s: float = 30.0) -> None:
        """`socket_path` None: $SLEEPD_SOCKET, else the daemon's default. `timeout_s` bounds each ordinary answer."""
        self.socket_path = os.fspath(socket_path or os.environ.get("SLEEPD_SOCKET") or DEFAULT_SOCKET)
        self.timeout_s = timeout_s
        self._wire = Wire(self.socket_path)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection."""
        await self._wire.close()

    # looking

    async def status(self) -> Reply[answers.Status]:
        """Return everything there is to see: version, models, gpus, host, tasks, notes."""
        return await self.send(asks.STATUS)

    async def models(self) -> Reply[answers.Models]:
        return await self.send(asks.MODELS)

    async def model(self, name: str) -> Reply[shapes.Model]:
        return await self.send(asks.model(name))

    async def explain(self, name: str) -> Reply[answers.Explanation]:
        return await self.send(asks.explain(name))

    async def tasks(self) -> Reply[answers.Tasks]:
        """Return the tasks that run and the last 1,000 that ended, the newest first."""
        return await self.send(asks.TASKS)

    async def task(self, task_id: int) -> Reply[shapes.Task]:
        return await self.send(asks.task(task_id))

    async def holds(self) -> Reply[answers.Holds]:
        return await self.send(asks.HOLDS)

    async def history(
        self,
        models: Iterable[str] = (),
        *,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> Reply[history_shapes.History]:
        """Return states, requests, wakes, other tasks and VRAM of a span; `after`: the `next` of the page before.

        `models`: names or globs, none for all; `since` and `until` are RFC 3339, without them the last day.
        """
        return await self.send(asks.history(models=models, since=since, until=until, limit=limit, after=after))

    async def history_buckets(
        self,
        models: Iterable[str] = (),
        *,
        since: str | None = None,
        until: str | None = None,
        step_s: int | None = None,
    ) -> Reply[history_shapes.HistoryBuckets]:
        """Return a span in steps of whole hours; without `since` the last week."""
        return await self.send(asks.history("buckets", models=models, since=since, until=until, step_s=step_s))

    async def timeline(
        self,
        models: Iterable[str] = (),
        *,
        since: str | None = None,
        until: str | None = None,
        step_s: int | None = None,
    ) -> Reply[history_shapes.Timeline]:
        """Return states and bytes in use as they are drawn, in steps of `step_s`; without `since` the last hour."""
        return await self.send(asks.history("timeline", models=models, since=since, until=until, step_s=step_s))

    async def report(
        self, models: Iterable[str] = (), *, since: str | None = None, until: str | None = None
    ) -> Reply[history_shapes.HistoryReport]:
        """Return a span added up, by model and by what put models to sleep; without `since` the last week."""
        return await self.send(asks.history("report", models=models, since=since, until=until))

    async def healthz(self) -> Reply[answers.Health]:
        return await self.send(asks.HEALTHZ)

    async def readyz(self) -> Reply[answers.Readiness]:
        """Return whether every model was looked at: `status` is 200 or 503, `body["waiting_for"]` says for which."""
        return await self.send(asks.READYZ)

    async def openapi(self) -> Reply[dict[str, Any]]:
        return await self.send(asks.OPENAPI)

    # acting

    async def wake(
        self, name: str, *, wait: bool = True, timeout_s: float = 600.0, force: bool = False
    ) -> Reply[answers.Outcome]:
        """Wake the model; with `wait` return once it is awake, `timeout_s` later at most (kind `timeout`)."""
        return await self.send(asks.wake(name, wait=wait, timeout_s=timeout_s, force=force))

    async def plan_wake(self, name: str) -> Reply[answers.Outcome]:
        """Return what a wake asked now would do, as `body["plan"]`; nothing is done."""
        return await self.send(asks.plan_wake(name))

    async def gate(self, name: str, *, wait_s: int = 50) -> Reply[None]:
        """Wake the model, and return once it is awake and held so for 30 s; ApiProblem (503) `wait_s` later at most.

        For who sends requests past the gateway: asked before each, the model stays awake between them.
        """
        return await self.send(asks.gate(name, wait_s))

    async def sleep(
        self,
        name: str,
        *,
        level: int = 1,
        drain_s: float = 0.0,
        force: bool = False,
        via_wake: bool = False,
        wait: bool = True,
        timeout_s: float = 600.0,
    ) -> Reply[answers.Outcome]:
        """Put the model to sleep; a busy one has `drain_s` to finish (kind `busy`).

        `via_wake`: one that sleeps less deeply is woken for it first (else kind `needs_wake`).
        """
        return await self.send(
            asks.sleep(
                name, level=level, drain_s=drain_s, force=force, via_wake=via_wake, wait=wait, timeout_s=timeout_s
            )
        )

    async def stop(self, name: str, *, wait: bool = True, timeout_s: float = 600.0) -> Reply[answers.Outcome]:
        """Stop the model's unit; only a person starts it again."""
        return await self.send(asks.stop(name, wait=wait, timeout_s=timeout_s))

    async def start(self, name: str, *, wait: bool = True, timeout_s: float = 600.0) -> Reply[answers.Outcome]:
        """Start the model's unit; answered once the model serves."""
        return await self.send(asks.start(name, wait=wait, timeout_s=timeout_s))

    async def reset(self, name: str) -> Reply[answers.Outcome]:
        """Take a failed model back into service: it is looked at anew."""
        return await self.send(asks.simple(name, "reset"))

    async def pin(self, name: str) -> Reply[answers.Outcome]:
        """Let nothing but force put the model to sleep, until it is unpinned."""
        return await self.send(asks.simple(name, "pin"))

    async def unpin(self, name: str) -> Reply[answers.Outcome]:
        return await self.send(asks.simple(name, "unpin"))

    async def ui_token(self, *, role: str = "", ttl_s: float = 300.0) -> Reply[answers.UiToken]:
        """Return a token that lets a browser in at the page, once; `role` "": as you, but not admin."""
        return await self.send(asks.ui_token(role, ttl_s))

    async def doctor(self) -> Reply[answers.Examination]:
        """Return what the daemon finds wrong, and right, of itself, its host and its models."""
        return await self.send(asks.DOCTOR)

    async def reload(self) -> Reply[answers.Reloaded]:
        """Read the configuration anew. A wrong one raises ApiProblem with `errors`; the running settings stay."""
        return await self.send(asks.RELOAD)

    # holding

    async def hold(
        self,
        hold_id: str,
        model: str,
        *,
        ttl_s: float,
        reason: str = "",
        wake: bool = True,
        wait: bool = True,
        timeout_s: float = 600.0,
    ) -> Reply[shapes.Hold]:
        """Keep the model awake for `ttl_s` from now; the same id again renews. With `wake` and `wait`: once awake."""
        return await self.send(
            asks.hold(hold_id, model, ttl_s=ttl_s, reason=reason, wake=wake, wait=wait, timeout_s=timeout_s)
        )

    async def release(self, hold_id: str) -> Reply[answers.Released]:
        """Let go of a hold; one that is not there any more is let go of already."""
        return await self.send(asks.release(hold_id))

    def holding(
        self,
        model: str,
        hold_id: str | None = None,
        *,
        reason: str = "",
        wake: bool = True,
        timeout_s: float = 600.0,
        on_lost: Callable[[str], None] | None = None,
    ) -> AbstractAsyncContextManager[shapes.Hold]:
        """Keep the model awake while an `async with` block runs, over broken lines and restarts of the daemon.

        It is woken first. `on_lost` is told why where the hold is over although the block is not.
        """
        own_id = hold_id or new_id(model)

        def attach(wait: bool) -> Awaitable[Stream]:
            return self._open_stream(
                asks.attach(own_id, model, reason=reason, wake=wake, wait=wait, timeout_s=timeout_s)
            )

        return attached(attach, lambda: self.release(own_id), on_lost)

    # reserving

    async def reservations(self) -> Reply[reservation_shapes.Reservations]:
        return await self.send(asks.RESERVATIONS)

    async def reserve_for(
        self,
        reservation_id: str,
        gpus: Sequence[int | str],
        bytes_per_gpu: int,
        *,
        ttl_s: float,
        reason: str = "",
        wait: bool = True,
        timeout_s: float = 600.0,
        pid: int | None = None,
    ) -> Reply[reservation_shapes.Reservation]:
        """Reserve bytes on each of the GPUs for `ttl_s` from the grant on; the same id again renews.

        With `wait`: once they are free. `pid`: what its process tree holds already is the job's own.
        """
        return await self.send(
            asks.reserve(
                *(reservation_id, gpus, bytes_per_gpu),
                ttl_s=ttl_s,
                reason=reason,
                wait=wait,
                timeout_s=timeout_s,
                pid=pid,
            )
        )

    async def give_back(self, reservation_id: str) -> Reply[answers.Released]:
        """End a reservation; one that is not there any more is ended already."""
        return await self.send(asks.give_back(reservation_id))

    def reserve(
        self,
        gpus: Sequence[int | str],
        bytes_per_gpu: int,
        reservation_id: str | None = None,
        *,
        reason: str = "",
        timeout_s: float = 600.0,
        pid: int | None = None,
        on_progress: Callable[[reservation_shapes.Reservation], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> AbstractAsyncContextManager[reservation_shapes.Reservation]:
        """Reserve bytes on each of the GPUs while an `async with` block runs, over broken lines and restarts.

        Models step aside first; `on_progress` is told what that waits for. `pid` None: this process. `on_lost` is told
        why where the reservation is over although the block is not.
        """
        own_id = reservation_id or new_id("job")
        request = asks.attach_reservation(own_id, gpus, bytes_per_gpu, pid, reason=reason, timeout_s=timeout_s)
        return attached(lambda _: self._open_stream(request), lambda: self.give_back(own_id), on_lost, on_progress)

    # streams

    def events(
        self, since: str | None = None, *, follow: bool = True, resume_for_s: float = 0.0, last: int | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield events as they come, those on record first; `{"kind": "gap", …}` where some after `since` were lost.

        `last`: of those on record only the newest, so many at most. Ends where the daemon ends the stream: after those
        on record without `follow`, else when it stops. A stream that began, and then ended or broke, is asked for again
        for `resume_for_s`, from where it was.
        """
        return read_events(self._open_stream, since, follow=follow, resume_for_s=resume_for_s, last=last)

    async def _open_stream(self, request: Request) -> Stream:
        return await self._wire.open_stream(request, self.timeout_s)

    # the wire

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply[Any]:
        """Return the answer to any request."""
        return await self.send(Request(method, path, body))

    async def send(self, request: Request) -> Reply[Any]:
        return await self._wire.send(request, self.timeout_s)
