"""OpenTelemetry's metrics: which instruments get which values, and what no attribute ever holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
    Sum,
)

from agent_cores.session import SessionManager, SessionSettings, observing
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import (
    ApiKey,
    StoredKeys,
    hashed,
    key_text,
    new_secret,
)
from agent_cores.session.service.metrics.definitions import BATCHES, ITEMS, METRICS, SECONDS
from agent_cores.session.service.metrics.exporting import Exporter
from agent_cores.session.service.metrics.instruments import Measurement
from agent_cores.session.service.metrics.otel import Meters
from agent_cores.session.service.metrics.recorder import Recorder, hand_over
from agent_cores.session.testing.clock import ManualClock
from tests.service.wire import Caller

SECRET = "hunter2"
Point = HistogramDataPoint | NumberDataPoint
INSTRUMENTS = {one.otel.name for one in METRICS if one.otel is not None}


class Measured:
    """A service whose metrics an SDK keeps."""

    def __init__(self, manager: SessionManager, clock: ManualClock) -> None:
        self.manager = manager
        self.clock = clock
        self.losses = 0
        self._apply = manager.runtime.storage.apply
        manager.runtime.storage.apply = self._apply_or_lose  # type: ignore[method-assign]
        self.service = Service(manager, ServiceSettings())
        self.reader = InMemoryMetricReader()
        self._provider = MeterProvider([self.reader])
        self.meters = Meters(self._provider.get_meter("test"))
        self.registry = prometheus_client.CollectorRegistry()
        self._prometheus = Exporter(self.registry)
        self._recorder = Recorder()
        self._measurement = Measurement(self.service, self._recorder)

    async def _apply_or_lose(self, change: Change) -> Applied:
        if self.losses:
            self.losses -= 1
            raise StorageUnavailableError("lost", outcome_unknown=True)
        return await self._apply(change)

    async def caller(self, user_id: str) -> Caller:
        key_id, secret = new_secret()
        key = ApiKey(
            id=key_id,
            name="test",
            namespace="default",
            secret_hash=hashed(secret),
            rights=("read", "write", "act-as"),
            created_at=self.clock(),
        )
        await StoredKeys(self.manager.runtime.storage, self.manager.runtime.clock).add(key)
        return Caller(self.service, user_id, key_text(key_id, secret), {})

    async def hand_over(self) -> None:
        self._measurement.note_now()
        await hand_over(self._recorder, [self._prometheus, self.meters])

    async def found(self) -> dict[str, Any]:
        """Return the data of each instrument that has some."""
        await self.hand_over()
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        [resource] = data.resource_metrics
        [scope] = resource.scope_metrics
        return {metric.name: metric for metric in scope.metrics}

    async def points(self, name: str) -> list[tuple[dict[str, Any], Point]]:
        metric = (await self.found()).get(name)
        points = () if metric is None else metric.data.data_points
        return [(dict(point.attributes), point) for point in points]

    def end(self) -> None:
        self._provider.shutdown()


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    """Let listeners end with the test."""
    yield
    observing.on_batch.clear()
    observing.on_retry.clear()


@pytest.fixture(params=["memory", "sqlite"])
async def measured(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Measured]:
    url = "memory" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"
    clock = ManualClock()
    settings = SessionSettings(cleanup_interval=0, max_clock_skew=float("inf"))
    async with SessionManager(url, settings=settings, clock=clock) as manager:
        measured = Measured(manager, clock)
        yield measured
        measured.end()


async def everything_once(measured: Measured) -> str:
    """Make every instrument get a value; return the id of a session."""
    ann, bob = await measured.caller("ann"), await measured.caller("bob")
    session_id = await ann.new_session(title=SECRET)
    said = await asyncio.gather(*(ann.say(session_id, SECRET) for _ in range(3)))
    assert {one.status for one in said} == {201}
    assert (await bob.say(session_id, SECRET)).status == 404
    assert (await ann("BREW", f"/nowhere/{SECRET}", scheme="https")).status == 404
    assert (await ann("GET", f"/v1/sessions/{session_id}/messages")).status == 200
    measured.losses = 1
    assert (await ann.say(session_id)).status == 201
    await measured.manager.create_session("ann", ttl_hours=1)
    measured.clock.advance(3600 + 90)
    await measured.manager.clean_expired_sessions()
    return session_id


async def test_every_instrument_gets_a_value_from_requests(
    measured: Measured,
) -> None:
    await everything_once(measured)
    pools = {"db.client.connection.count", "db.client.connection.max"}
    batched = {"agent_sessions.batch.size", "agent_sessions.queue.size"}
    only_with_a_queue = {*pools, *batched, "db.client.connection.pending_requests"}
    is_memory = measured.manager.runtime.storage.pool_use() is None
    assert (await measured.found()).keys() == INSTRUMENTS - (
        only_with_a_queue if is_memory else set()
    )
    units = {one.otel.name: one.otel.unit for one in METRICS if one.otel is not None}
    assert {metric.name: metric.unit for metric in (await measured.found()).values()}.items() <= (
        units.items()
    )


async def test_requests_have_the_attributes_of_the_conventions_and_no_more(
    measured: Measured,
) -> None:
    await everything_once(measured)
    route = "/v1/sessions/{id}/messages"
    appended = {"http.request.method": "POST", "http.route": route, "url.scheme": "http"}
    points = await measured.points("http.server.request.duration")
    told = [
        (attributes, point.count)
        for attributes, point in points
        if isinstance(point, HistogramDataPoint)
    ]
    assert ({**appended, "http.response.status_code": 201}, 4) in told
    assert ({**appended, "http.response.status_code": 404}, 1) in told
    unrouted = {"http.request.method": "_OTHER", "url.scheme": "https"}
    assert ({**unrouted, "http.response.status_code": 404}, 1) in told
    [bounds] = {tuple(getattr(point, "explicit_bounds", ())) for _, point in points}
    assert bounds == SECONDS
    active = {
        (one["http.request.method"], one["url.scheme"]): getattr(point, "value", None)
        for one, point in await measured.points("http.server.active_requests")
    }
    assert active == {("POST", "http"): 0, ("GET", "http"): 0, ("_OTHER", "https"): 0}


async def test_a_request_that_failed_names_the_code_and_one_being_served_counts(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await measured.caller("ann")
    session_id = await ann.new_session()
    held, release = asyncio.Event(), asyncio.Event()

    async def lost(change: Change) -> Applied:
        held.set()
        await release.wait()
        raise StorageUnavailableError(SECRET)

    monkeypatch.setattr(measured.manager.runtime.storage, "apply", lost)
    asked = asyncio.create_task(ann.say(session_id))
    await held.wait()
    active = await measured.points("http.server.active_requests")
    served = {"http.request.method": "POST", "url.scheme": "http"}
    assert [getattr(point, "value", None) for one, point in active if one == served] == [1]
    release.set()
    assert (await asked).status == 503
    failed = [
        one
        for one, _ in await measured.points("http.server.request.duration")
        if one["http.response.status_code"] == 503
    ]
    assert [one["error.type"] for one in failed] == ["storage_unavailable"]
    refusals = [one for one, _ in await measured.points("agent_sessions.http.refusals")]
    assert refusals == [{"error.type": "storage_unavailable"}]


async def test_calls_of_the_store_and_its_connections_are_told_by_the_conventions(
    measured: Measured,
) -> None:
    ann, bob = await measured.caller("ann"), await measured.caller("bob")
    session_id = await ann.new_session()
    measured.losses = 1
    assert (await ann.say(session_id)).status == 201
    assert (await bob.say(session_id)).status == 404
    is_memory = measured.manager.runtime.storage.pool_use() is None
    system = "memory" if is_memory else "sqlite"
    calls = [one for one, _ in await measured.points("db.client.operation.duration")]
    assert {"db.system.name": system, "db.operation.name": "apply"} in calls
    assert {"db.system.name": system, "db.operation.name": "read"} in calls
    lost = {"db.system.name": system, "db.operation.name": "apply"}
    assert {**lost, "error.type": "storage_unavailable"} in calls
    if not is_memory:
        [(attributes, point)] = await measured.points("db.client.connection.max")
        assert attributes == {"db.client.connection.pool.name": "sqlite"}
        assert getattr(point, "value", 0) > 0
        [(attributes, _)] = await measured.points("db.client.connection.count")
        assert attributes == {
            "db.client.connection.pool.name": "sqlite",
            "db.client.connection.state": "used",
        }
        [(_, batch)] = await measured.points("agent_sessions.batch.size")
        assert tuple(getattr(batch, "explicit_bounds", ())) == ITEMS
        assert getattr(batch, "sum", 0) >= 2


async def test_both_exporters_count_the_same(
    measured: Measured,
) -> None:
    await everything_once(measured)
    requests = await measured.points("http.server.request.duration")

    def prometheus(name: str, **labels: str) -> float:
        return sum(
            sample.value
            for family in measured.registry.collect()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    for status in (200, 201, 404):
        counted = [
            getattr(point, "count", 0)
            for one, point in requests
            if one["http.response.status_code"] == status
        ]
        shown = prometheus("agent_sessions_http_request_seconds_count", status=str(status))
        assert sum(counted) == shown > 0
    for ours, theirs in (
        ("agent_sessions.retries", "agent_sessions_retries_total"),
        ("agent_sessions.sweep.removed_sessions", "agent_sessions_swept_sessions_total"),
        ("agent_sessions.sweep.lag", "agent_sessions_sweep_lag_seconds"),
        ("agent_sessions.stored_sessions", "agent_sessions_stored_sessions"),
    ):
        [(_, point)] = await measured.points(ours)
        assert getattr(point, "value", None) == prometheus(theirs) > 0
    failed = [
        getattr(point, "count", 0)
        for one, point in await measured.points("db.client.operation.duration")
        if "error.type" in one
    ]
    assert sum(failed) == prometheus("agent_sessions_storage_errors_total") > 0


async def test_no_attribute_holds_a_text_or_an_id(
    measured: Measured,
) -> None:
    session_id = await everything_once(measured)
    await measured.hand_over()
    data = measured.reader.get_metrics_data()
    assert data is not None
    everything = data.to_json()
    assert "http.route" in everything
    for private in (SECRET, session_id, '"ann"', '"bob"', "BREW"):
        assert private not in everything


async def test_no_gauge_is_shown_once_the_service_has_stopped(measured: Measured) -> None:
    ann = await measured.caller("ann")
    await ann.new_session()
    assert "http.server.active_requests" in (await measured.found())
    measured.meters.close()
    data = measured.reader.get_metrics_data()
    assert data is not None
    assert "http.server.active_requests" not in data.to_json()


async def test_what_adds_up_over_processes_is_a_sum_that_may_fall(measured: Measured) -> None:
    ann = await measured.caller("ann")
    await ann.new_session()
    data = (await measured.found())["http.server.active_requests"].data
    assert isinstance(data, Sum)
    assert not data.is_monotonic


async def test_an_older_api_takes_no_bounds_of_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    create = meter.create_histogram

    def older(name: str, unit: str = "", description: str = "") -> Histogram:
        return create(name, unit, description)

    monkeypatch.setattr(meter, "create_histogram", older)
    recorder = Recorder()
    recorder.values(BATCHES).append(3)
    await hand_over(recorder, [Meters(meter)])
    data = reader.get_metrics_data()
    assert data is not None
    assert '"sum": 3' in data.to_json()
