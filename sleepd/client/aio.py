"""The asynchronous client, on aiohttp: the same methods as `sleepd.client.Client`, to be awaited."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from sleepd.client import asks
from sleepd.client.answers import ApiProblem, DaemonUnreachable, Reply, read_reply, say_unreachable, why
from sleepd.client.asks import BEAT_LIMIT_S, DEFAULT_SOCKET, RETRY_S, Request
from sleepd.client.reserving import refusal
from sleepd.client.sse import EventLines
from sleepd.wire import answers, history_shapes, reservation_shapes, shapes


class AsyncClient:
    """One daemon at one socket: `async with AsyncClient() as client:`. Cancelling a call withdraws its wish.

    Every method raises ApiProblem for a refusal and DaemonUnreachable where no answer comes in time.
    """

    def __init__(self, socket_path: str | os.PathLike[str] | None = None, timeout_s: float = 30.0) -> None:
        """`socket_path` None: $SLEEPD_SOCKET, else the daemon's default. `timeout_s` bounds each ordinary answer."""
        self.socket_path = os.fspath(socket_path or os.environ.get("SLEEPD_SOCKET") or DEFAULT_SOCKET)
        self.timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # looking

    async def status(self) -> Reply[answers.Status]:
        """Return everything there is to see: version, models, gpus, host, tasks, notes."""
        return await self.request("GET", "/v1/status")

    async def models(self) -> Reply[answers.Models]:
        return await self.request("GET", "/v1/models")

    async def model(self, name: str) -> Reply[shapes.Model]:
        return await self.request("GET", asks.of_model(name))

    async def explain(self, name: str) -> Reply[answers.Explanation]:
        return await self.request("GET", asks.of_model(name, "explain"))

    async def tasks(self) -> Reply[answers.Tasks]:
        """Return the tasks that run and the last 1,000 that ended, the newest first."""
        return await self.request("GET", "/v1/tasks")

    async def task(self, task_id: int) -> Reply[shapes.Task]:
        return await self.request("GET", f"/v1/tasks/{task_id}")

    async def holds(self) -> Reply[answers.Holds]:
        return await self.request("GET", "/v1/holds")

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

    async def report(
        self, models: Iterable[str] = (), *, since: str | None = None, until: str | None = None
    ) -> Reply[history_shapes.HistoryReport]:
        """Return a span added up, by model and by what put models to sleep; without `since` the last week."""
        return await self.send(asks.history("report", models=models, since=since, until=until))

    async def healthz(self) -> Reply[answers.Health]:
        return await self.request("GET", "/healthz")

    async def readyz(self) -> Reply[answers.Readiness]:
        """Return whether every model was looked at: `status` is 200 or 503, `body["waiting_for"]` says for which."""
        return await self.request("GET", "/readyz")

    async def openapi(self) -> Reply[dict[str, Any]]:
        return await self.request("GET", "/openapi.json")

    # acting

    async def wake(
        self, name: str, *, wait: bool = True, timeout_s: float = 600.0, force: bool = False
    ) -> Reply[answers.Outcome]:
        """Wake the model; with `wait` return once it is awake, `timeout_s` later at most (kind `timeout`)."""
        return await self.send(asks.wake(name, wait=wait, timeout_s=timeout_s, force=force))

    async def plan_wake(self, name: str) -> Reply[answers.Outcome]:
        """Return what a wake asked now would do, as `body["plan"]`; nothing is done."""
        return await self.send(asks.plan_wake(name))

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

    async def reload(self) -> Reply[answers.Reloaded]:
        """Read the configuration anew. A wrong one raises ApiProblem with `errors`; the running settings stay."""
        return await self.request("POST", "/v1/reload", {})

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

    @asynccontextmanager
    async def holding(
        self,
        model: str,
        hold_id: str | None = None,
        *,
        reason: str = "",
        wake: bool = True,
        timeout_s: float = 600.0,
        on_lost: Callable[[str], None] | None = None,
    ) -> AsyncIterator[shapes.Hold]:
        """Keep the model awake while an `async with` block runs, over broken lines and restarts of the daemon.

        It is woken first. `on_lost` is told why where the hold is over although the block is not.
        """
        hold_id = hold_id or f"{model}-{secrets.token_hex(6)}"
        lost: list[str] = []

        def lose(reason: str) -> None:
            lost.append(reason)
            if on_lost is not None:
                on_lost(reason)

        def attach(wait: bool) -> Request:
            return asks.attach(hold_id, model, reason=reason, wake=wake, wait=wait, timeout_s=timeout_s)

        try:
            stream = await self._open_stream(attach(True))
            try:
                first: shapes.Hold = json.loads(await stream.content.readline())
                keeper = asyncio.create_task(self._keep(stream, lambda: self._open_stream(attach(False)), lose))
                try:
                    yield first
                finally:
                    keeper.cancel()
                    with suppress(asyncio.CancelledError):
                        await keeper
            finally:
                stream.close()
        finally:
            if not lost:
                with suppress(ApiProblem, DaemonUnreachable):
                    await self.release(hold_id)

    async def _keep(
        self,
        stream: aiohttp.ClientResponse,
        open_again: Callable[[], Awaitable[aiohttp.ClientResponse]],
        lose: Callable[[str], None],
    ) -> None:
        """Read beats; a stream that breaks is asked for again until cancelled, or until the daemon says no."""
        while True:
            with suppress(aiohttp.ClientError, TimeoutError, ValueError):
                async for line in stream.content:
                    if ended := json.loads(line).get("ended"):
                        return lose(ended)
            stream.close()
            while stream.closed:
                await asyncio.sleep(RETRY_S)
                try:
                    stream = await open_again()
                except ApiProblem as problem:
                    return lose(str(problem))
                except DaemonUnreachable:
                    continue

    # reserving

    async def reservations(self) -> Reply[reservation_shapes.Reservations]:
        return await self.request("GET", "/v1/reservations")

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

    @asynccontextmanager
    async def reserve(
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
    ) -> AsyncIterator[reservation_shapes.Reservation]:
        """Reserve bytes on each of the GPUs while an `async with` block runs, over broken lines and restarts.

        Models step aside first; `on_progress` is told what that waits for. `pid` None: this process. `on_lost` is told
        why where the reservation is over although the block is not.
        """
        reservation_id = reservation_id or f"job-{secrets.token_hex(6)}"
        own = os.getpid() if pid is None else pid
        lost: list[str] = []

        def lose(reason: str) -> None:
            lost.append(reason)
            if on_lost is not None:
                on_lost(reason)

        request = asks.attach_reservation(reservation_id, gpus, bytes_per_gpu, own, reason=reason, timeout_s=timeout_s)
        try:
            stream = await self._open_stream(request)
            try:
                line = json.loads(await self._read_line(stream))
                while not line.get("granted"):
                    if "ended" in line:
                        lost.append(line["ended"])
                        raise refusal(line)
                    if "id" in line and on_progress is not None:
                        on_progress(line)
                    line = json.loads(await self._read_line(stream))
                keeper = asyncio.create_task(self._keep(stream, lambda: self._open_stream(request), lose))
                try:
                    yield line
                finally:
                    keeper.cancel()
                    with suppress(asyncio.CancelledError):
                        await keeper
            finally:
                stream.close()
        finally:
            if not lost:
                with suppress(ApiProblem, DaemonUnreachable):
                    await self.give_back(reservation_id)

    async def _read_line(self, stream: aiohttp.ClientResponse) -> bytes:
        try:
            line = await stream.content.readline()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._silent(error) from None
        if not line:
            raise DaemonUnreachable(f"the daemon at {self.socket_path} broke off")
        return line

    # streams

    async def events(
        self, since: str | None = None, *, follow: bool = True, resume_for_s: float = 0.0
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield events as they come, those on record first; `{"kind": "gap", …}` where some after `since` were lost.

        Ends where the daemon ends the stream: after those on record without `follow`, else when it stops. A stream that
        began, and then ended or broke, is asked for again for `resume_for_s`, from where it was.
        """
        lines = EventLines(since)
        stream = await self._open_stream(asks.events(since, follow=follow))
        while True:
            try:
                async for raw in stream.content:
                    event = lines.take(raw.rstrip(b"\n"))
                    if event is not None:
                        yield event
            except (aiohttp.ClientError, TimeoutError) as error:
                if not follow or resume_for_s <= 0:
                    raise DaemonUnreachable(f"the daemon at {self.socket_path} broke off: {why(error)}") from None
            finally:
                stream.close()
            if not follow or resume_for_s <= 0:
                return
            stream = await self._open_again(lines, asyncio.get_running_loop().time() + resume_for_s)

    async def _open_again(self, lines: EventLines, deadline_s: float) -> aiohttp.ClientResponse:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                return await self._open_stream(asks.events(lines.last_id, follow=True))
            except DaemonUnreachable:
                if asyncio.get_running_loop().time() >= deadline_s:
                    raise

    async def _open_stream(self, request: Request) -> aiohttp.ClientResponse:
        between_s = max(BEAT_LIMIT_S, request.limit_s(self.timeout_s))
        response = await self._ask(request, aiohttp.ClientTimeout(total=None, sock_read=between_s))
        if response.status >= 400:
            async with response:
                read_reply(response.status, await response.read())
        return response

    # the wire

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Reply[Any]:
        """Return the answer to any request."""
        return await self.send(Request(method, path, body))

    async def send(self, request: Request) -> Reply[Any]:
        try:
            async with await self._ask(request, aiohttp.ClientTimeout(total=request.limit_s(self.timeout_s))) as found:
                return read_reply(found.status, await found.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._silent(error) from None

    async def _ask(self, request: Request, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        if self._session is None:
            # A connection for each call: one that a restarted daemon has closed must not fail the next call.
            connector = aiohttp.UnixConnector(self.socket_path, limit=0, force_close=True)
            self._session = aiohttp.ClientSession(connector=connector, read_bufsize=1 << 20)
        body = None if request.body is None else json.dumps(request.body).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        url = f"http://localhost{request.path}"
        try:
            return await self._session.request(
                request.method, URL(url, encoded=True), data=body, headers=headers, timeout=limits
            )
        except aiohttp.ClientConnectorError as error:
            raise DaemonUnreachable(say_unreachable(self.socket_path, error.os_error)) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> DaemonUnreachable:
        return DaemonUnreachable(f"the daemon at {self.socket_path} did not answer: {why(error)}")
