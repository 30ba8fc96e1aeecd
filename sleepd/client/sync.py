"""The synchronous client, on the standard library alone, so that sleepctl starts fast."""

from __future__ import annotations

import json
import os

from sleepd.client import asks
from sleepd.client.answers import ApiProblem, DaemonUnreachable, Reply, read_reply, say_unreachable, silent
from sleepd.client.asks import BEAT_LIMIT_S, DEFAULT_SOCKET, Request
from sleepd.client.http1 import Answer, BrokenAnswer, connect, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from sleepd.client.holding import Holding
    from sleepd.client.reserving import Reserving
    from sleepd.wire import answers, history_shapes, reservation_shapes, shapes


class Client:
    """One daemon at one socket. Every call is its own connection, so calls may be made from several threads.

    Every method raises ApiProblem for a refusal and DaemonUnreachable where no answer comes in time.
    """

    def __init__(self, socket_path: str | os.PathLike[str] | None = None, timeout_s: float = 30.0) -> None:
        """`socket_path` None: $SLEEPD_SOCKET, else the daemon's default. `timeout_s` bounds each ordinary answer."""
        self.socket_path = os.fspath(socket_path or os.environ.get("SLEEPD_SOCKET") or DEFAULT_SOCKET)
        self.timeout_s = timeout_s

    # looking

    def status(self) -> Reply[answers.Status]:
        """Return everything there is to see: version, models, gpus, host, tasks, notes."""
        return self.send(asks.STATUS)

    def models(self) -> Reply[answers.Models]:
        return self.send(asks.MODELS)

    def model(self, name: str) -> Reply[shapes.Model]:
        return self.send(asks.model(name))

    def explain(self, name: str) -> Reply[answers.Explanation]:
        return self.send(asks.explain(name))

    def tasks(self) -> Reply[answers.Tasks]:
        """Return the tasks that run and the last 1,000 that ended, the newest first."""
        return self.send(asks.TASKS)

    def task(self, task_id: int) -> Reply[shapes.Task]:
        return self.send(asks.task(task_id))

    def holds(self) -> Reply[answers.Holds]:
        return self.send(asks.HOLDS)

    def history(
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
        return self.send(asks.history(models=models, since=since, until=until, limit=limit, after=after))

    def history_buckets(
        self,
        models: Iterable[str] = (),
        *,
        since: str | None = None,
        until: str | None = None,
        step_s: int | None = None,
    ) -> Reply[history_shapes.HistoryBuckets]:
        """Return a span in steps of whole hours; without `since` the last week."""
        return self.send(asks.history("buckets", models=models, since=since, until=until, step_s=step_s))

    def timeline(
        self,
        models: Iterable[str] = (),
        *,
        since: str | None = None,
        until: str | None = None,
        step_s: int | None = None,
    ) -> Reply[history_shapes.Timeline]:
        """Return states and bytes in use as they are drawn, in steps of `step_s`; without `since` the last hour."""
        return self.send(asks.history("timeline", models=models, since=since, until=until, step_s=step_s))

    def report(
        self, models: Iterable[str] = (), *, since: str | None = None, until: str | None = None
    ) -> Reply[history_shapes.HistoryReport]:
        """Return a span added up, by model and by what put models to sleep; without `since` the last week."""
        return self.send(asks.history("report", models=models, since=since, until=until))

    def healthz(self) -> Reply[answers.Health]:
        return self.send(asks.HEALTHZ)

    def readyz(self) -> Reply[answers.Readiness]:
        """Return whether every model was looked at: `status` is 200 or 503, `body["waiting_for"]` says for which."""
        return self.send(asks.READYZ)

    def openapi(self) -> Reply[dict[str, Any]]:
        return self.send(asks.OPENAPI)

    # acting

    def wake(
        self, name: str, *, wait: bool = True, timeout_s: float = 600.0, force: bool = False
    ) -> Reply[answers.Outcome]:
        """Wake the model; with `wait` return once it is awake, `timeout_s` later at most (kind `timeout`)."""
        return self.send(asks.wake(name, wait=wait, timeout_s=timeout_s, force=force))

    def plan_wake(self, name: str) -> Reply[answers.Outcome]:
        """Return what a wake asked now would do, as `body["plan"]`; nothing is done."""
        return self.send(asks.plan_wake(name))

    def gate(self, name: str, *, wait_s: int = 50) -> Reply[None]:
        """Wake the model, and return once it is awake and held so for 30 s; ApiProblem (503) `wait_s` later at most.

        For who sends requests past the gateway: asked before each, the model stays awake between them.
        """
        return self.send(asks.gate(name, wait_s))

    def sleep(
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
        return self.send(
            asks.sleep(
                name, level=level, drain_s=drain_s, force=force, via_wake=via_wake, wait=wait, timeout_s=timeout_s
            )
        )

    def stop(self, name: str, *, wait: bool = True, timeout_s: float = 600.0) -> Reply[answers.Outcome]:
        """Stop the model's unit; only a person starts it again."""
        return self.send(asks.stop(name, wait=wait, timeout_s=timeout_s))

    def start(self, name: str, *, wait: bool = True, timeout_s: float = 600.0) -> Reply[answers.Outcome]:
        """Start the model's unit; answered once the model serves."""
        return self.send(asks.start(name, wait=wait, timeout_s=timeout_s))

    def reset(self, name: str) -> Reply[answers.Outcome]:
        """Take a failed model back into service: it is looked at anew."""
        return self.send(asks.simple(name, "reset"))

    def pin(self, name: str) -> Reply[answers.Outcome]:
        """Let nothing but force put the model to sleep, until it is unpinned."""
        return self.send(asks.simple(name, "pin"))

    def unpin(self, name: str) -> Reply[answers.Outcome]:
        return self.send(asks.simple(name, "unpin"))

    def ui_token(self, *, role: str = "", ttl_s: float = 300.0) -> Reply[answers.UiToken]:
        """Return a token that lets a browser in at the page, once; `role` "": as you, but not admin."""
        return self.send(asks.ui_token(role, ttl_s))

    def doctor(self) -> Reply[answers.Examination]:
        """Return what the daemon finds wrong, and right, of itself, its host and its models."""
        return self.send(asks.DOCTOR)

    def reload(self) -> Reply[answers.Reloaded]:
        """Read the configuration anew. A wrong one raises ApiProblem with `errors`; the running settings stay."""
        return self.send(asks.RELOAD)

    # holding

    def hold(
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
        return self.send(
            asks.hold(hold_id, model, ttl_s=ttl_s, reason=reason, wake=wake, wait=wait, timeout_s=timeout_s)
        )

    def release(self, hold_id: str) -> Reply[answers.Released]:
        """Let go of a hold; one that is not there any more is let go of already."""
        return self.send(asks.release(hold_id))

    def holding(
        self,
        model: str,
        hold_id: str | None = None,
        *,
        reason: str = "",
        wake: bool = True,
        timeout_s: float = 600.0,
        on_lost: Callable[[str], None] | None = None,
    ) -> Holding:
        """Keep the model awake while a `with` block runs; see Holding. `hold_id` None: one nobody else has.

        `timeout_s` bounds the wake; `on_lost` is told, in another thread, when the Holding's `lost` is set.
        """
        from sleepd.client.attached_lines import new_id
        from sleepd.client.holding import Holding

        own_id = hold_id or new_id(model)

        def ask(wait: bool) -> Request:
            return asks.attach(own_id, model, reason=reason, wake=wake, wait=wait, timeout_s=timeout_s)

        return Holding(self, own_id, model, ask, on_lost)

    # reserving

    def reservations(self) -> Reply[reservation_shapes.Reservations]:
        return self.send(asks.RESERVATIONS)

    def reserve_for(
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
        return self.send(
            asks.reserve(
                *(reservation_id, gpus, bytes_per_gpu),
                ttl_s=ttl_s,
                reason=reason,
                wait=wait,
                timeout_s=timeout_s,
                pid=pid,
            )
        )

    def give_back(self, reservation_id: str) -> Reply[answers.Released]:
        """End a reservation; one that is not there any more is ended already."""
        return self.send(asks.give_back(reservation_id))

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
    ) -> Reserving:
        """Reserve bytes on each of the GPUs while a `with` block runs; see Reserving.

        `pid`: whose processes hold what is the job's own already; None: this process. `timeout_s` bounds the wait for
        the room; `on_progress` is told meanwhile what it waits for. `on_lost` is told, in another thread, when the
        Reserving's `lost` is set.
        """
        from sleepd.client.attached_lines import new_id
        from sleepd.client.reserving import Reserving

        own_id = reservation_id or new_id("job")
        request = asks.attach_reservation(own_id, gpus, bytes_per_gpu, pid, reason=reason, timeout_s=timeout_s)
        return Reserving(self, own_id, request, on_progress, on_lost)

    # streams

    def events(
        self, since: str | None = None, *, follow: bool = True, resume_for_s: float = 0.0, last: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield events as they come, those on record first; `{"kind": "gap", …}` where some after `since` were lost.

        `last`: of those on record only the newest, so many at most. Ends where the daemon ends the stream: after those
        on record without `follow`, else when it stops. A stream that began, and then ended or broke, is asked for again
        for `resume_for_s`, from where it was.
        """
        from sleepd.client.events import read_events

        return read_events(self, since, follow=follow, resume_for_s=resume_for_s, last=last)

    def open_stream(self, request: Request) -> Answer:
        """Return the head of an answer that has no end of its own; its pieces may come BEAT_LIMIT_S apart."""
        answer = self._ask(request, max(BEAT_LIMIT_S, request.limit_s(self.timeout_s)))
        if answer.status >= 400:
            try:
                read_reply(answer.status, answer.read())
            finally:
                answer.close()
        return answer

    # the wire

    def request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> Reply[Any]:
        """Return the answer to any request."""
        return self.send(Request(method, path, body), timeout_s)

    def send(self, request: Request, timeout_s: float | None = None) -> Reply[Any]:
        limit_s = request.limit_s(self.timeout_s) if timeout_s is None else timeout_s
        answer = self._ask(request, limit_s)
        try:
            return read_reply(answer.status, answer.read())
        except (OSError, BrokenAnswer) as error:
            raise silent(self.socket_path, error) from None
        finally:
            answer.close()

    def _ask(self, request: Request, limit_s: float) -> Answer:
        try:
            connected = connect(self.socket_path, limit_s)
        except OSError as error:
            raise DaemonUnreachable(say_unreachable(self.socket_path, error)) from None
        body = None if request.body is None else json.dumps(request.body).encode()
        try:
            return send(connected, request.method, request.path, body)
        except (OSError, BrokenAnswer) as error:
            raise silent(self.socket_path, error) from None


__all__ = ["ApiProblem", "Client", "DaemonUnreachable", "Reply"]
