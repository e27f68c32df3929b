"""What can be seen of a running service? A JSON log, RED metrics, and spans that follow a request across hops.

Everything belongs to a Telemetry record made at start; importing this module configures nothing. Spans
go to a file of JSON lines or to an OTLP collector; trace context travels as W3C `traceparent`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, TextIO

import stamina.instrumentation
import structlog
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_value, set_value
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from workloads.resilience import STATES, monotonic_ns
from workloads.settings import Settings

log = structlog.get_logger()

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
AGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0)
EXPORT_EVERY_MS = 500
"""A killed process loses at most the spans of this long."""
QUEUE_MAX = 8192
"""Spans waiting for the exporter; beyond it new ones are dropped, never the request."""

REQUEST_ID = "x-request-id"
CARRIED = ("traceparent", REQUEST_ID)
"""Headers of a request that go on with every call made for it."""
_REQUEST_ID = re.compile(r"[!-~]{1,128}")

_propagator = TraceContextTextMapPropagator()


class TelemetryError(RuntimeError):
    """Spans cannot go where they were asked to; the message says what is missing."""


class JsonLinesExporter(SpanExporter):
    """Appends each span to a file, one JSON object per line: small enough to read with `grep`."""

    def __init__(self, out: TextIO, service: str) -> None:
        """`out` is closed by `shutdown`."""
        self._out = out
        self._service = service

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write a batch; times are nanoseconds since the epoch, as OpenTelemetry has them."""
        self._out.writelines(json.dumps(self._line(span), separators=(",", ":")) + "\n" for span in spans)
        self._out.flush()
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self._out.close()

    def _line(self, span: ReadableSpan) -> dict[str, Any]:
        context = span.get_span_context()
        assert context is not None  # every span of the SDK has one
        return {
            "trace_id": f"{context.trace_id:032x}",
            "span_id": f"{context.span_id:016x}",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else None,
            "service": self._service,
            "name": span.name,
            "kind": span.kind.name.lower(),
            "start_ns": span.start_time,
            "end_ns": span.end_time,
            "attributes": dict(span.attributes or {}),
        }


class Telemetry:
    """One service's log, metrics and tracer."""

    def __init__(self, settings: Settings) -> None:
        """Opens the trace file and starts its exporter. Raise TelemetryError or OSError if that fails."""
        self.service = settings.service
        self.version = settings.version
        self.registry = CollectorRegistry()
        self._provider = _provider(settings)
        self._tracer = self._provider.get_tracer("workloads")
        self._requests = Histogram(
            "shop_request_seconds",
            "Requests answered, by route and status; the count is the rate, 5xx are the errors.",
            ("method", "route", "status"),
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("shop_in_flight", "Requests being worked on.", registry=self.registry)
        self._calls = Counter(
            "shop_calls",
            "Attempts at other services by what they came to.",
            ("callee", "result"),
            registry=self.registry,
        )
        self._breakers = Gauge(
            "shop_breaker_state",
            "0 closed, 1 half-open (one call tries), 2 open (calls are refused).",
            ("callee",),
            registry=self.registry,
        )
        self._transitions = Counter(
            "shop_breaker_transitions", "Changes of a breaker's state.", ("callee", "state"), registry=self.registry
        )
        self._messages = Counter(
            "shop_messages",
            "Messages by what became of them; one may be counted under several.",
            ("result",),
            registry=self.registry,
        )
        self._ages = Histogram(
            "shop_message_age_seconds",
            "From sending a message to handling it, by type.",
            ("type",),
            buckets=AGES_S,
            registry=self.registry,
        )
        self.backlog = Gauge("shop_undo_backlog", "Orders or accounts still to be undone.", registry=self.registry)
        version = Gauge("shop_version", "Always 1; the label tells it.", ("version",), registry=self.registry)
        version.labels(settings.version).set(1)
        self._children: dict[tuple[str, ...], Any] = {}

    def close(self) -> None:
        """Write the spans that wait, then stop the exporter."""
        self._provider.shutdown()

    @contextmanager
    def span(self, name: str, kind: SpanKind, attributes: Mapping[str, str]) -> Iterator[Span]:
        """A span around a block, child of the one at work."""
        with self._tracer.start_as_current_span(
            name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    @contextmanager
    def serving(self, name: str, carrier: Mapping[str, str]) -> Iterator[Span]:
        """A span around a request, child of the caller's span if it sent one.

        `carrier`: the request's headers that are CARRIED.
        """
        request_id = carrier.get(REQUEST_ID, "")
        token = attach(set_value(REQUEST_ID, request_id)) if _REQUEST_ID.fullmatch(request_id) else None
        try:
            with self._tracer.start_as_current_span(
                name,
                context=_propagator.extract(carrier),
                kind=SpanKind.SERVER,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                yield span
        finally:
            if token is not None:
                detach(token)

    @contextmanager
    def consuming(self, name: str, traceparent: str, sent_ns: int) -> Iterator[Callable[[], str]]:
        """A span around the handling of a message, child of the one that sent it; counts its age.

        Yields what gives the trace context for the messages that follow from it.
        """
        key = ("age", name)
        child = self._children.get(key) or self._children.setdefault(key, self._ages.labels(name))
        child.observe(max(0.0, (monotonic_ns() - sent_ns) / 1e9))
        with self._tracer.start_as_current_span(
            f"handle {name}",
            context=_propagator.extract({"traceparent": traceparent}),
            kind=SpanKind.CONSUMER,
            record_exception=False,
            set_status_on_exception=False,
        ):
            yield self.traceparent

    def traceparent(self) -> str:
        """The trace context at work, for a message; '' outside of a trace."""
        carrier: dict[str, str] = {}
        _propagator.inject(carrier)
        return carrier.get("traceparent", "")

    def messages(self, result: str, count: int = 1) -> None:
        """Count messages by what became of them."""
        key = ("messages", result)
        child = self._children.get(key) or self._children.setdefault(key, self._messages.labels(result))
        child.inc(count)

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Add the trace context, and the id of the request at work, to another request's headers."""
        _propagator.inject(headers)
        if request_id := get_value(REQUEST_ID):
            headers[REQUEST_ID] = str(request_id)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request of ours."""
        key = ("request", method, route, str(status))
        child = self._children.get(key) or self._children.setdefault(key, self._requests.labels(*key[1:]))
        child.observe(seconds)

    def called(self, callee: str, result: str) -> None:
        """Count one attempt at another service."""
        key = ("call", callee, result)
        child = self._children.get(key) or self._children.setdefault(key, self._calls.labels(*key[1:]))
        child.inc()

    def breaker(self, callee: str, state: str) -> None:
        """Show a breaker's state; a breaker is shown from its first change on, and at start as closed."""
        self._breakers.labels(callee).set(STATES[state])
        self._transitions.labels(callee, state).inc()
        log.warning("breaker", callee=callee, state=state)

    def breaker_exists(self, callee: str) -> None:
        """Show a breaker that has not changed yet."""
        self._breakers.labels(callee).set(STATES["closed"])

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self.registry)


def _provider(settings: Settings) -> TracerProvider:
    resource = Resource(
        {
            "service.name": settings.service,
            "service.namespace": "shop",
            "service.version": settings.version,
            "shop.stage": settings.stage,
            "shop.run_id": settings.run_id,
        }
    )
    kept = ParentBased(TraceIdRatioBased(settings.traces_share)) if settings.traces else ALWAYS_OFF
    provider = TracerProvider(sampler=kept, resource=resource, shutdown_on_exit=False)
    if settings.traces:
        provider.add_span_processor(
            BatchSpanProcessor(_exporter(settings), schedule_delay_millis=EXPORT_EVERY_MS, max_queue_size=QUEUE_MAX)
        )
    return provider


def _exporter(settings: Settings) -> SpanExporter:
    if not settings.traces.startswith(("http://", "https://")):
        return JsonLinesExporter(open(settings.traces, "a", encoding="utf-8"), settings.service)
    try:
        exporter_module = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise TelemetryError(
            f"SHOP_TRACES is {settings.traces!r}, but opentelemetry-exporter-otlp-proto-http is not installed"
        ) from error
    exporter: SpanExporter = exporter_module.OTLPSpanExporter(endpoint=settings.traces)
    return exporter


def start_logging(settings: Settings) -> None:
    """From here on the process logs JSON lines to stderr, each with service, run and, in a request, trace id."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_origin(settings),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(default=str)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(default=str),
            ],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    stamina.instrumentation.set_on_retry_hooks([])  # a retry is in the metrics and spans; a log line each would flood


def _with_origin(settings: Settings) -> Any:
    def add(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = settings.service
        event["version"] = settings.version
        event["run_id"] = settings.run_id
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            event["trace_id"] = f"{context.trace_id:032x}"
        if request_id := get_value(REQUEST_ID):
            event["request_id"] = request_id
        return event

    return add
