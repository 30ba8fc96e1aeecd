"""Traces of wakes, where a collector is configured; nothing is imported, made or kept otherwise."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Protocol

from sleepd.core.model import Now
from sleepd.core.turn import Note
from sleepd.core.units import Seconds
from sleepd.engine.published import Published
from sleepd.engine.runner import cancelled
from sleepd.gateway.daemon import Held
from sleepd.obs.spans import Span
from sleepd.obs.wake_spans import WakeSpans

LOOK_EVERY_S = 1.0
QUIET_S: Seconds = 600.0
"""A collector that does not take traces is told of this often at most."""
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Exporter(Protocol):
    def send(self, tree: Span) -> bool: ...

    async def close(self) -> None: ...


class TracingPart:
    """Hears of turns and waits once `start` found where traces go."""

    def __init__(self, tell: Callable[[Note], None], now: Callable[[], Now]) -> None:
        self._tell, self._now = tell, now
        self._spans: WakeSpans | None = None
        self._exporter: Exporter | None = None
        self._sending: asyncio.Task[None] | None = None
        self._told_s = float("-inf")

    def start(self, endpoint: str, environ: Mapping[str, str] = os.environ) -> None:
        """Begin to trace where `[tracing] endpoint` or the environment names a collector."""
        if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            return
        if not endpoint and not any(environ.get(name) for name in _ENDPOINTS):
            return
        try:
            # Only now: a daemon without traces does without the packages, their memory and their start.
            self._exporter = import_module("sleepd.adapters.otel").OtelExporter(endpoint, self._complain)
        except ImportError as error:
            hint = "install them: pip install -r requirements-otel.txt, or sleepd[otel]"
            self._inform("missing", f"no traces: wanted the OpenTelemetry packages, found {error}; {hint}")
            return
        except Exception as error:  # the SDK reads OTEL_… of the environment, and raises what it likes
            found = f"{type(error).__name__} {error}"[:200]
            self._inform(
                "unusable", f"no traces: the OpenTelemetry SDK does not begin: {found}; check OTEL_… variables"
            )
            return
        self._spans = WakeSpans()
        self._sending = asyncio.create_task(self._send(self._spans, self._exporter), name="tracing")

    def turned(self, published: Published) -> None:
        if self._spans is not None:
            self._spans.turned(published)

    def waited(self, held: Held) -> None:
        if self._spans is not None:
            self._spans.waited(held, self._now())

    async def stop(self) -> None:
        """Send what is over; takes a few seconds at most."""
        if self._sending is not None:
            await cancelled(self._sending)
        if self._exporter is not None and self._spans is not None:
            later = self._now()
            for tree in self._spans.finished(Now(later.mono_s + 60, later.wall_s)):
                self._exporter.send(tree)
            with contextlib.suppress(Exception):
                await self._exporter.close()

    async def _send(self, spans: WakeSpans, exporter: Exporter) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            for tree in spans.finished(self._now()):
                if not exporter.send(tree):
                    self._inform("dropped", "traces of wakes are dropped: too many wait to be sent")

    def _complain(self, what: str) -> None:
        self._inform("failing", f"traces do not get through: {what}")

    def _inform(self, code: str, text: str) -> None:
        if self._now().mono_s - self._told_s >= QUIET_S:
            self._told_s = self._now().mono_s
            self._tell(Note("tracing", "", text, {"code": code}))
