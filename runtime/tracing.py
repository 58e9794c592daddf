"""Traces (OpenTelemetry), where `WINNOW_OTLP_ENDPOINT` says so; otherwise nothing, at no cost.

One trace goes from a request to its last verdict. Its context travels as W3C
`traceparent`: in a request's head, in RPCs' metadata, and in the payload of a job, so
that whoever takes the job up, in whichever process, goes on with the trace.

A span is begun where the work begins and ended where it ends, and needs no block
around it: calls end in callbacks of gRPC's. Attributes are ids, counts and names of
ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any, Literal

HEADER = "traceparent"
Kind = Literal["SERVER", "CLIENT", "CONSUMER", "INTERNAL"]

_EXPORT_SECONDS = 5

# OpenTelemetry's tracer and provider; None as long as nothing is traced.
_tracer: Any = None
_provider: Any = None
_current: ContextVar[Span | None] = ContextVar("span", default=None)


class Span:
    """Work that is under way, as traces see it; made by `begin`."""

    def __init__(self, span: Any) -> None:
        self._span = span
        self._before = _current.get()

    def end(self, outcome: str = "ok", name: str = "", **attributes: str | int) -> None:
        """Says how the work ended.

        Args:
            outcome: of `runtime.metrics.OUTCOMES`.
            name: a better one than it was begun with.
            attributes: what is known by now.
        """
        if _current.get() is self:
            _current.set(self._before)
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        if name:
            self._span.update_name(name)
        for key, value in {**attributes, "outcome": outcome}.items():
            self._span.set_attribute(f"winnow.{key}", value)
        if outcome == "failed":
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    @property
    def traceparent(self) -> str:
        """The span as whoever goes on with its trace names it; "" if nothing is traced."""
        if self._span is None:
            return ""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @property
    def trace_id(self) -> str:
        """The trace's id in hexadecimal, if the trace is kept."""
        if self._span is None or not self._span.is_recording():
            return ""
        return f"{self._span.get_span_context().trace_id:032x}"


# What is not traced.
NOTHING = Span(None)


def begin(
    name: str,
    kind: Kind = "INTERNAL",
    *,
    parent: str = "",
    links: Iterable[str] = (),
    **attributes: str | int,
) -> Span:
    """A new span, which is the current one of this task until it ends.

    Args:
        name: few different ones: a method, a route, a kind of work.
        parent: the `traceparent` that it goes on from; the current span if "".
        links: `traceparent`s of other work that led to it.
        attributes: ids and counts.
    """
    if _tracer is None:
        return NOTHING
    from opentelemetry import trace

    now = _current.get()
    span = _tracer.start_span(
        name,
        context=_context(parent or (now.traceparent if now else "")),
        kind=trace.SpanKind[kind],
        links=[
            trace.Link(trace.get_current_span(_context(link)).get_span_context()) for link in links
        ],
        attributes={f"winnow.{key}": value for key, value in attributes.items()},
    )
    begun = Span(span)
    _current.set(begun)
    return begun


def traceparent() -> str:
    """The current span, for whoever goes on with its trace; "" if there is none."""
    now = _current.get()
    return now.traceparent if now else ""


def carrier() -> dict[str, str]:
    """The current span as a header, an entry of metadata, or of a job's payload."""
    now = traceparent()
    return {HEADER: now} if now else {}


def trace_id() -> str:
    """The current trace's id in hexadecimal; "" if there is none, or it is not kept."""
    now = _current.get()
    return now.trace_id if now else ""


def configure(service: str, endpoint: str) -> None:
    """Traces this process from now on.

    Args:
        service: name of the process in traces.
        endpoint: where an OTLP collector takes HTTP, `http://host:4318`.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    global _tracer, _provider
    from runtime.config import ConfigError

    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise ConfigError(
            "WINNOW_OTLP_ENDPOINT: traces need more packages: pip install 'winnow[tracing]'"
        ) from None
    resource = Resource.create(
        {
            "service.namespace": "winnow",
            "service.name": service,
            "service.version": version("winnow"),
        }
    )
    _provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_SECONDS
    )
    _provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = _provider.get_tracer("winnow")


def stop() -> None:
    """Sends what is left, and traces no more."""
    global _tracer, _provider
    if _provider is not None:
        _provider.shutdown()
    _tracer = _provider = None


def _context(given: str) -> Any:
    """OpenTelemetry's context of a `traceparent`; an empty one where it is none."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carried: Mapping[str, str] = {HEADER: given}
    return TraceContextTextMapPropagator().extract(carried, Context())
