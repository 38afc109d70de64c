"""The metrics, for Prometheus and for OpenTelemetry. No label ever holds an id or a caller's text.

What is recorded has the values of a metric's labels first, then values that only OpenTelemetry
shows; ``Instrument.attributes`` names all of them. OpenTelemetry's names are those of its semantic
conventions for HTTP servers and databases, else they begin with ``agent_sessions.``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of latencies."""
ITEMS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 500.0)
"""Upper bounds of batch sizes."""


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """A metric as OpenTelemetry has it."""

    name: str
    unit: str
    attributes: tuple[str, ...] = ()
    """A name for each value; an empty name, or an empty value, is left out."""
    sums: bool = False
    """A gauge whose values add up over processes: an up-down counter."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. Of several workers a counter or histogram is the sum, a gauge ``combined``."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    otel: Instrument | None = None
    """``None`` if another instrument shows it."""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    combined: Literal["livesum", "livemax"] = "livesum"
    lasts: bool = False
    """A gauge that keeps its value until it is set again, instead of falling to 0."""

    @property
    def exposed(self) -> tuple[str, ...]:
        """The names of its series, as Prometheus stores them."""
        if self.kind == "histogram":
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (f"{self.name}_total",) if self.kind == "counter" else (self.name,)


REQUESTS = Metric(
    name="agent_sessions_http_request_seconds",
    kind="histogram",
    text="From a request's arrival to the end of its response, by route template and status.",
    otel=Instrument(
        name="http.server.request.duration",
        unit="s",
        attributes=(
            "",
            "http.response.status_code",
            "http.route",
            "http.request.method",
            "url.scheme",
            "error.type",
        ),
    ),
    labels=("route", "status"),
    buckets=SECONDS,
)
REFUSALS = Metric(
    name="agent_sessions_http_refusals",
    kind="counter",
    text="Requests that were refused or failed, by the code of the error.",
    otel=Instrument(
        name="agent_sessions.http.refusals", unit="{request}", attributes=("error.type",)
    ),
    labels=("code",),
)
IN_FLIGHT = Metric(
    name="agent_sessions_http_requests_in_flight",
    kind="gauge",
    text="Requests being served.",
    otel=Instrument(
        name="http.server.active_requests",
        unit="{request}",
        attributes=("http.request.method", "url.scheme"),
        sums=True,
    ),
)
STORAGE = Metric(
    name="agent_sessions_storage_seconds",
    kind="histogram",
    text="Calls of the store by operation, the wait in a queue included.",
    otel=Instrument(
        name="db.client.operation.duration",
        unit="s",
        attributes=("db.operation.name", "db.system.name", "error.type"),
    ),
    labels=("operation",),
    buckets=SECONDS,
)
STORAGE_ERRORS = Metric(
    name="agent_sessions_storage_errors",
    kind="counter",
    text="Calls of the store that were refused or failed, by operation and code.",
    labels=("operation", "code"),
)
BATCHES = Metric(
    name="agent_sessions_batch_items",
    kind="histogram",
    text="Items that were sent to the store in one batch.",
    otel=Instrument(name="agent_sessions.batch.size", unit="{item}"),
    buckets=ITEMS,
)
QUEUED = Metric(
    name="agent_sessions_queued_items",
    kind="gauge",
    text="The most items that waited behind a batch, in the last second.",
    otel=Instrument(name="agent_sessions.queue.size", unit="{item}", sums=True),
)
RETRIES = Metric(
    name="agent_sessions_retries",
    kind="counter",
    text="Changes that were sent again after a conflict or a lost response.",
    otel=Instrument(name="agent_sessions.retries", unit="{retry}"),
)
HEADERS = Metric(
    name="agent_sessions_header_cache_lookups",
    kind="counter",
    text="Lookups in the header cache, by result: hit or miss.",
    otel=Instrument(
        name="agent_sessions.header_cache.lookups",
        unit="{lookup}",
        attributes=("agent_sessions.header_cache.result",),
    ),
    labels=("result",),
)
SWEEPS = Metric(
    name="agent_sessions_sweep_seconds",
    kind="histogram",
    text="Sweeps of expired sessions.",
    otel=Instrument(name="agent_sessions.sweep.duration", unit="s"),
    buckets=SECONDS,
)
SWEPT = Metric(
    name="agent_sessions_swept_sessions",
    kind="counter",
    text="Expired sessions that were removed.",
    otel=Instrument(name="agent_sessions.sweep.removed_sessions", unit="{session}"),
)
SWEEP_LAG = Metric(
    name="agent_sessions_sweep_lag_seconds",
    kind="gauge",
    text="How long the last sweep's oldest session had been expired when it was removed.",
    otel=Instrument(name="agent_sessions.sweep.lag", unit="s"),
    combined="livemax",
    lasts=True,
)
STORED = Metric(
    name="agent_sessions_stored_sessions",
    kind="gauge",
    text="Sessions in the store, of all namespaces, counted after a sweep.",
    otel=Instrument(name="agent_sessions.stored_sessions", unit="{session}"),
    combined="livemax",
    lasts=True,
)
DUE = Metric(
    name="agent_sessions_due_sessions",
    kind="gauge",
    text="Stored sessions that have expired, or that the sweeper must look at.",
    otel=Instrument(name="agent_sessions.due_sessions", unit="{session}"),
    combined="livemax",
    lasts=True,
)
SESSIONS = Metric(
    name="agent_sessions_sessions",
    kind="gauge",
    text="Stored sessions by status, counted after a sweep. All due ones count as expired; archived"
    " ones among them count twice.",
    otel=Instrument(
        name="agent_sessions.sessions",
        unit="{session}",
        attributes=("agent_sessions.session.status",),
    ),
    labels=("status",),
    combined="livemax",
    lasts=True,
)
POOL_SIZE = Metric(
    name="agent_sessions_pool_connections",
    kind="gauge",
    text="The most connections to the store, or threads that read from SQLite.",
    otel=Instrument(
        name="db.client.connection.max",
        unit="{connection}",
        attributes=("db.client.connection.pool.name",),
        sums=True,
    ),
)
POOL_IN_USE = Metric(
    name="agent_sessions_pool_in_use",
    kind="gauge",
    text="Connections of the pool that are in use.",
    otel=Instrument(
        name="db.client.connection.count",
        unit="{connection}",
        attributes=("db.client.connection.pool.name", "db.client.connection.state"),
        sums=True,
    ),
)
POOL_WAITING = Metric(
    name="agent_sessions_pool_waiting",
    kind="gauge",
    text="Calls that wait for a connection of the pool.",
    otel=Instrument(
        name="db.client.connection.pending_requests",
        unit="{request}",
        attributes=("db.client.connection.pool.name",),
        sums=True,
    ),
)
METRICS = (
    REQUESTS,
    REFUSALS,
    IN_FLIGHT,
    STORAGE,
    STORAGE_ERRORS,
    BATCHES,
    QUEUED,
    RETRIES,
    HEADERS,
    SWEEPS,
    SWEPT,
    SWEEP_LAG,
    STORED,
    DUE,
    SESSIONS,
    POOL_SIZE,
    POOL_IN_USE,
    POOL_WAITING,
)
