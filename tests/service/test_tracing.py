"""Traces: which spans there are, whose trace they continue, and what they never hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agent_cores.session.client.session_client import SessionClient
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.service.tracing import start_tracing
from tests.service.processes import serve_without
from tests.service.served import Live
from tests.service.wire import Wire

SECRET = "hunter2"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    """Configure the SDK, which a process can do once."""
    provider = TracerProvider()
    trace.set_tracer_provider(provider)
    return provider


@pytest.fixture
def spans(provider: TracerProvider) -> Iterator[InMemorySpanExporter]:
    """Keep the spans of one test."""
    exporter = InMemorySpanExporter()
    processor = SimpleSpanProcessor(exporter)
    provider.add_span_processor(processor)
    yield exporter
    processor.shutdown()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_a_request_is_a_span_that_continues_the_callers_trace(
    wire: Wire, spans: InMemorySpanExporter
) -> None:
    start_tracing(wire.service)
    ann = await wire.caller("ann", traceparent=f"00-{TRACE}-{PARENT}-01")
    session_id = await ann.new_session(title=SECRET)
    assert (await ann.say(session_id, SECRET)).status == 201
    [span] = named(spans, "POST /v1/sessions/{id}/messages")
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.route": "/v1/sessions/{id}/messages",
        "http.response.status_code": 201,
    }
    [applied] = [
        one
        for one in named(spans, "apply memory")
        if one.parent is not None and one.parent.span_id == span.context.span_id
    ]
    assert applied.kind is SpanKind.CLIENT
    assert dict(applied.attributes or {}) == {
        "db.system.name": "memory",
        "db.operation.name": "apply",
    }


async def test_a_method_that_is_none_of_http_is_not_told(
    wire: Wire, spans: InMemorySpanExporter
) -> None:
    start_tracing(wire.service)
    ann = await wire.caller("ann")
    assert (await ann("BREW", "/nowhere")).status == 404
    [span] = named(spans, "HTTP")
    assert (span.attributes or {})["http.request.method"] == "_OTHER"
    assert "BREW" not in span.to_json()
    assert (await ann("GET", "/nowhere")).status == 404
    [known] = named(spans, "GET")
    assert (known.attributes or {})["http.request.method"] == "GET"


async def test_no_span_holds_a_text_or_an_id(wire: Wire, spans: InMemorySpanExporter) -> None:
    start_tracing(wire.service)
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    session_id = await ann.new_session(title=SECRET)
    await ann.say(session_id, SECRET)
    await bob.say(session_id, SECRET)
    await ann("POST", f"/v1/sessions/{session_id}/messages", {"messages": [{"role": SECRET}]})
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    assert "http.route" in everything
    for private in (SECRET, session_id, '"ann"', '"bob"'):
        assert private not in everything


async def test_a_failure_is_told_by_its_code(
    wire: Wire, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await wire.caller("ann")
    session_id = await ann.new_session()

    async def lost(change: Change) -> Applied:
        raise StorageUnavailableError(SECRET)

    monkeypatch.setattr(wire.manager.runtime.storage, "apply", lost)
    start_tracing(wire.service)
    assert (await ann.say(session_id)).status == 503
    [span] = named(spans, "POST /v1/sessions/{id}/messages")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "storage_unavailable"
    [applied] = named(spans, "apply memory")
    assert applied.status.status_code is StatusCode.ERROR
    assert SECRET not in span.to_json() + applied.to_json()


async def test_the_client_sends_the_trace_that_it_is_in(
    wire: Wire, spans: InMemorySpanExporter
) -> None:
    start_tracing(wire.service)
    live = Live(wire.service)
    address = await live.start()
    client: Any = SessionClient(address, await wire.key())
    try:
        with trace.get_tracer("caller").start_as_current_span("turn") as turn:
            await client.create_session("ann")
        [span] = named(spans, "POST /v1/sessions")
        assert span.context is not None
        assert span.context.trace_id == turn.get_span_context().trace_id
    finally:
        await client.shutdown()
        await live.stop()


def test_without_the_api_the_extra_is_named(tmp_path: Path) -> None:
    done = serve_without("opentelemetry", tmp_path, SESSION_SERVICE_TRACING="true")
    assert done.returncode == 9
    assert "agent-cores-session[otel]" in done.stderr
