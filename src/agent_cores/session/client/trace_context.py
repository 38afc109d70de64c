"""The W3C trace context of a request that the client sends, if the program uses OpenTelemetry."""

from __future__ import annotations

try:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    _propagator = None
else:
    _propagator = TraceContextTextMapPropagator()


def add_trace_context(headers: dict[str, str]) -> None:
    """Add ``traceparent`` and ``tracestate`` of the current span, if there is one."""
    if _propagator is not None:
        _propagator.inject(headers)
