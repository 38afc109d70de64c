"""Spans of requests and of calls of the store, by OpenTelemetry's API.

Names and attributes follow the semantic conventions for HTTP servers and databases. Paths, ids,
texts and messages of errors are left out: a span names the route's template instead. The caller's
trace is continued if it sends a W3C ``traceparent``. What becomes of the spans is up to the SDK
that the process is configured with; without one they cost a little and go nowhere.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import MissingDependencyError, SessionError, StorageError
from agent_cores.session.service.observers import OTHER_METHOD, method_of
from agent_cores.session.service.store_calls import operations_of, system_of

try:
    from opentelemetry import trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _error:
    raise MissingDependencyError("opentelemetry-api", "otel") from _error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opentelemetry.context import Context
    from starlette.types import Receive, Scope, Send

    from agent_cores.session.service.app import Service
    from agent_cores.session.service.observers import Answered, Respond
    from agent_cores.session.storage.base import StorageProvider

_CONTEXT_HEADERS = (b"traceparent", b"tracestate")
_UNKNOWN = "HTTP"
"""The name of a span whose method the conventions do not know."""
_propagator = TraceContextTextMapPropagator()


class Tracing:
    """Puts each request of a service, and each call of its store, into a span."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("agent_cores.session")

    def around(self, respond: Respond) -> Respond:
        """Return what responds within a span, which ``answered`` completes."""

        async def respond_within_span(scope: Scope, receive: Receive, send: Send) -> None:
            method = method_of(scope)
            attributes = {
                "http.request.method": method,
                "url.scheme": scope.get("scheme", "http"),
                "network.protocol.version": scope.get("http_version", "1.1"),
            }
            with self._tracer.start_as_current_span(
                _UNKNOWN if method == OTHER_METHOD else method,
                context=_context_of(scope),
                kind=SpanKind.SERVER,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ):
                await respond(scope, receive, send)

        return respond_within_span

    def answered(self, answer: Answered) -> None:
        """Complete the span of the request that was answered."""
        span = trace.get_current_span()
        if answer.route is not None:
            span.update_name(answer.route.name)
            span.set_attribute("http.route", answer.route.path)
        span.set_attribute("http.response.status_code", answer.status)
        if answer.code is not None:
            span.set_attribute("error.type", answer.code)
        if answer.failed:
            span.set_status(Status(StatusCode.ERROR))

    def trace_storage(self, storage: StorageProvider) -> None:
        """Put each call of the store into a span of its own."""
        system = system_of(storage)
        for operation in operations_of(storage):
            setattr(
                storage, operation, self._traced(getattr(storage, operation), operation, system)
            )

    def _traced(
        self, call: Callable[..., Awaitable[Any]], operation: str, system: str
    ) -> Callable[..., Awaitable[Any]]:
        attributes = {"db.system.name": system, "db.operation.name": operation}

        @wraps(call)
        async def traced(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the operation's own
            with self._tracer.start_as_current_span(
                f"{operation} {system}",
                kind=SpanKind.CLIENT,
                attributes=attributes,
                record_exception=False,
                set_status_on_exception=False,
            ) as span:
                try:
                    return await call(*args, **kwargs)
                except SessionError as error:
                    span.set_attribute("error.type", error.code)
                    if isinstance(error, StorageError):
                        span.set_status(Status(StatusCode.ERROR))
                    raise

        return traced


def start_tracing(service: Service) -> None:
    """Trace the requests and the store of a service from now on."""
    tracing = Tracing()
    service.respond = tracing.around(service.respond)
    service.observers.append(tracing.answered)
    tracing.trace_storage(service.manager.runtime.storage)


def _context_of(scope: Scope) -> Context | None:
    """Return the caller's trace, if the request names one."""
    carrier = {
        name.decode(): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in _CONTEXT_HEADERS
    }
    return _propagator.extract(carrier) if carrier else None
