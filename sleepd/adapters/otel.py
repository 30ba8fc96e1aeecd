"""Spans to an OpenTelemetry collector, by OTLP over HTTP. Imported only where a collector is configured.

Sources: opentelemetry.io/docs/specs/otlp (path /v1/traces), specs/otel/configuration/sdk-environment-variables,
w3.org/TR/trace-context section 3.2. The SDK sends in a thread of its own, from a queue of 2,048 spans; what does not
fit is dropped there.
"""

import asyncio
import logging
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sleepd import __version__
from sleepd.adapters.threads import WorkThread
from sleepd.obs.spans import Span

QUEUE_SPANS, BATCH_SPANS, DELAY_MS = 2048, 256, 1000
TREES_LIMIT = 100
"""Wakes that wait to become spans; one more is dropped."""
STOP_S = 3.0
TIMEOUT_S = 5.0


class OtelExporter:
    """Where traces go. `complain` is told, on the loop, what the SDK has to say when they do not get through."""

    def __init__(self, endpoint: str, complain: Callable[[str], None]) -> None:
        """`endpoint` is a collector's base address; empty: as the SDK's own environment variables say."""
        url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint else None
        resource = Resource.create({"service.name": "sleepd", "service.version": __version__})
        # Nothing at exit: the daemon ends it, within a limit.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=TIMEOUT_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, QUEUE_SPANS, schedule_delay_millis=DELAY_MS, max_export_batch_size=BATCH_SPANS)
        )
        self._tracer = self._provider.get_tracer("sleepd", __version__)
        self._thread, self._waiting = WorkThread("tracing"), 0
        self._words = _Words(asyncio.get_running_loop(), complain)
        logging.getLogger("opentelemetry").addHandler(self._words)
        logging.getLogger("opentelemetry").propagate = False

    def send(self, tree: Span) -> bool:
        """Queue a trace, or drop it and return False where too many wait. Never waits."""
        if self._waiting >= TREES_LIMIT:
            return False
        self._waiting += 1
        self._thread.do(lambda: self._emit(tree, None)).add_done_callback(self._done)
        return True

    async def close(self) -> None:
        """Send what is left within `STOP_S`; a collector that hangs is left behind."""
        ended = self._thread.do(self._provider.shutdown)  # after what waits to become spans
        self._thread.end()
        try:
            async with asyncio.timeout(STOP_S):
                await asyncio.shield(ended)
        except TimeoutError:
            return
        finally:
            logging.getLogger("opentelemetry").removeHandler(self._words)

    def _done(self, _: object) -> None:
        self._waiting -= 1

    def _emit(self, span: Span, parent: Context | None) -> None:
        if span.traceparent:
            parent = TraceContextTextMapPropagator().extract({"traceparent": span.traceparent}, parent)
        made = self._tracer.start_span(
            span.name, context=parent, attributes=dict(span.attributes), start_time=_ns(span.begin_wall_s)
        )
        if span.error:
            made.set_status(trace.Status(trace.StatusCode.ERROR, span.error))
        inside = trace.set_span_in_context(made, Context())
        for child in span.children:
            # A request of a trace of its own stays in that; it is told which wake it waited for.
            self._emit(child, inside)
        made.end(_ns(span.end_wall_s))


class _Words(logging.Handler):
    """Hands the SDK's warnings to the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, complain: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._loop, self._complain = loop, complain

    def emit(self, record: logging.LogRecord) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._complain, record.getMessage()[:300])


def _ns(wall_s: float) -> int:
    return round(wall_s * 1e9)
