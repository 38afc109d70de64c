"""Metrics: what is counted over one process and several, and what no label ever holds."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import prometheus_client
import pytest

from agent_cores.session import SessionManager, SessionSettings, observing
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models.change import Applied, Change
from agent_cores.session.models.query import Ended
from agent_cores.session.models.snapshot import Window
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.metrics import definitions as metrics
from agent_cores.session.service.metrics import instruments
from agent_cores.session.service.metrics.definitions import METRICS
from agent_cores.session.service.metrics.exporting import Exporter
from agent_cores.session.service.metrics.instruments import Measurement
from agent_cores.session.service.metrics.recorder import Recorder, hand_over
from agent_cores.session.service.store_calls import operations_of
from agent_cores.session.storage.base import Counts
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from tests.servers import mariadb, postgres, redis
from tests.service.measured import Measured, value
from tests.service.processes import SECONDS, get, run, serve_without, serving
from tests.service.wire import Wire

SECRET = "hunter2"
POOL = metrics.POOL_SIZE, metrics.POOL_IN_USE, metrics.POOL_WAITING


@pytest.fixture(autouse=True)
def nobody_listens() -> Iterator[None]:
    """Let listeners end with the test."""
    yield
    observing.on_batch.clear()
    observing.on_retry.clear()


@pytest.mark.parametrize("bounds", [(1.0, 2.0), metrics.SECONDS, metrics.ITEMS])
async def test_values_that_are_added_together_count_as_if_each_was_observed(
    bounds: tuple[float, ...],
) -> None:
    values = [0.0, bounds[0], bounds[0] * 1.5, bounds[-1], bounds[-1] * 2, bounds[1]]
    metric = metrics.Metric(name="seconds", kind="histogram", text="", buckets=bounds)
    one, other = prometheus_client.CollectorRegistry(), prometheus_client.CollectorRegistry()
    observed = prometheus_client.Histogram("seconds", "", buckets=bounds, registry=one)
    exporter = Exporter(other, (metric,))
    recorder = Recorder()
    for each in values:
        observed.observe(each)
        recorder.values(metric).append(each)
    await hand_over(recorder, [exporter])
    await hand_over(recorder, [exporter])  # nothing is counted twice

    def lines(registry: prometheus_client.CollectorRegistry) -> list[str]:
        text = prometheus_client.generate_latest(registry).decode()
        return [line for line in text.splitlines() if "_created" not in line]

    assert lines(other) == lines(one)


async def test_requests_and_calls_of_the_store_are_counted_by_template_and_operation(
    wire: Wire,
) -> None:
    measured = Measured(wire.service)
    ann, bob = await wire.caller("ann"), await wire.caller("bob")
    session_id = await ann.new_session(title=SECRET)
    for _ in range(3):
        assert (await ann.say(session_id, SECRET)).status == 201
    assert (await bob.say(session_id, SECRET)).status == 404
    assert (await ann("GET", f"/nowhere/{SECRET}")).status == 404
    text = await measured.exposed()
    appended = 'route="POST /v1/sessions/{id}/messages",status="201"'
    assert value(text, f"agent_sessions_http_request_seconds_count{{{appended}}}") == 3
    unrouted = 'route="none",status="404"'
    assert value(text, f"agent_sessions_http_request_seconds_count{{{unrouted}}}") == 1
    assert value(text, 'agent_sessions_http_refusals_total{code="session_not_found"}') == 1
    assert value(text, 'agent_sessions_storage_seconds_count{operation="apply"}') >= 4
    assert value(text, 'agent_sessions_header_cache_lookups_total{result="hit"}') >= 3
    for private in (SECRET, session_id, "ann", "bob"):
        assert private not in text


async def test_only_declared_labels_are_used_and_none_holds_an_id() -> None:
    names = {name for metric in METRICS for name in metric.labels}
    assert names == {"route", "status", "code", "operation", "result"}


async def test_failed_calls_of_the_store_and_retries_are_counted(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, failures = wire.manager.runtime.storage.apply, ["append", "append", "create"]

    async def lost(change: Change) -> Applied:
        kind = "create" if change.create else "append"
        if kind in failures:
            failures.remove(kind)
            raise StorageUnavailableError("lost", outcome_unknown=True)
        return await apply(change)

    monkeypatch.setattr(wire.manager.runtime.storage, "apply", lost)
    measured = Measured(wire.service)
    session_id = await wire.manager.create_session("ann")
    await wire.manager.add_message(session_id, "ann", "user", "Hi")
    text = await measured.exposed()
    errors = 'agent_sessions_storage_errors_total{code="storage_unavailable",operation="apply"}'
    assert value(text, errors) == 3
    assert value(text, "agent_sessions_retries_total") == 3


async def test_sweeps_their_lag_and_what_they_removed_are_counted(wire: Wire) -> None:
    measured = Measured(wire.service)
    await wire.manager.create_session("ann", ttl_hours=1)
    wire.clock.advance(3600 + 90)
    await wire.manager.clean_expired_sessions()
    text = await measured.exposed()
    assert value(text, "agent_sessions_sweep_seconds_count") == 1
    assert value(text, "agent_sessions_swept_sessions_total") == 1
    assert value(text, "agent_sessions_sweep_lag_seconds") == 90


async def test_sessions_are_counted_after_a_sweep_and_after_a_slow_count_not_soon_again(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = wire.manager.runtime.storage.count

    async def slow(namespace: str | None, at: datetime) -> Counts:
        await asyncio.sleep(0.1)  # the next one may then begin in 10 seconds
        return await count(namespace, at)

    monkeypatch.setattr(wire.manager.runtime.storage, "count", slow)
    measured = Measured(wire.service)
    await wire.manager.create_session("ann", ttl_hours=1)
    wire.clock.advance(3600 + 90)
    await wire.manager.create_session("ann")
    await wire.manager.clean_expired_sessions()
    text = await measured.exposed()
    assert value(text, "agent_sessions_stored_sessions") == 1
    assert value(text, "agent_sessions_due_sessions") == 0
    await wire.manager.create_session("ann")
    await wire.manager.clean_expired_sessions()
    assert value(await measured.exposed(), "agent_sessions_stored_sessions") == 1


async def test_sessions_are_counted_by_status_and_by_one_process_only(wire: Wire) -> None:
    first = Measured(wire.service)
    for number in range(5):
        await wire.manager.create_session("ann", session_id=f"s{number}")
    for session_id in ("s0", "s1"):
        await wire.manager.archive_session(session_id, "ann")
    await wire.manager.create_session("ann", ttl_hours=1)
    await wire.manager.clean_expired_sessions()
    assert by_status(await first.exposed()) == {"active": 4, "archived": 2, "expired": 0}
    other = Measured(wire.another(), by_status=False)
    await wire.manager.clean_expired_sessions()
    text = await other.exposed()
    assert value(text, "agent_sessions_stored_sessions") == 6
    assert by_status(text) == {}


def by_status(text: str) -> dict[str, float]:
    found = re.findall(r'^agent_sessions_sessions{status="(\w+)"} (\S+)$', text, re.MULTILINE)
    return {status: float(number) for status, number in found}


async def test_what_expired_after_the_sweep_is_no_active_session(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(wire.service)
    await wire.manager.create_session("ann")
    await wire.manager.create_session("ann", ttl_hours=1)

    async def nothing(at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        return []

    monkeypatch.setattr(wire.manager.runtime.storage, "due", nothing)
    wire.clock.advance(3600)
    await wire.manager.clean_expired_sessions()
    assert by_status(await measured.exposed()) == {"active": 1, "archived": 0, "expired": 1}


async def test_a_count_that_takes_too_long_is_given_up(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> int:
        await asyncio.Event().wait()
        return 0

    monkeypatch.setattr(instruments, "_LONGEST_COUNT", 0.01)
    monkeypatch.setattr(wire.manager.runtime.storage, "count_archived", never)
    measured = Measured(wire.service)
    await wire.manager.create_session("ann")
    await wire.manager.clean_expired_sessions()
    text = await measured.exposed()
    assert value(text, "agent_sessions_stored_sessions") == 1
    assert by_status(text) == {}


async def test_batches_and_what_waits_behind_them_are_counted(tmp_path: Path) -> None:
    settings = SessionSettings(cleanup_interval=0)
    async with SessionManager(f"sqlite:///{tmp_path}/sessions.db", settings=settings) as manager:
        measured = Measured(Service(manager, ServiceSettings()))
        session_id = await manager.create_session("ann")
        await asyncio.gather(
            *(manager.add_message(session_id, "ann", "user", "Hi") for _ in range(200))
        )
        text = await measured.exposed()
    assert value(text, "agent_sessions_batch_items_sum") == 201
    assert 2 <= value(text, "agent_sessions_batch_items_count") < 100
    assert value(text, "agent_sessions_queued_items") > 0


@pytest.mark.parametrize("store", ["sqlite", "valkey", "postgres", "mariadb"])
async def test_the_use_of_each_pool_is_shown_and_ends_with_the_calls(
    store: str, tmp_path: Path
) -> None:
    url = {
        "sqlite": lambda: f"sqlite:///{tmp_path}/sessions.db?pool_size=2",
        "valkey": lambda: f"{redis.empty_store(redis.shared_valkey().url)}&pool_size=2",
        "postgres": lambda: f"{postgres.reused_store(postgres.shared_server().url())}&pool_size=2",
        "mariadb": lambda: f"{mariadb.reused_store()}?pool_size=2",
    }[store]()
    settings = SessionSettings(cleanup_interval=0)
    async with SessionManager(url, settings=settings) as manager:
        recorder, storage = Recorder(), manager.runtime.storage
        measured = Measurement(Service(manager, ServiceSettings()), recorder)

        def used() -> list[float]:
            measured.note_now()
            gauges = {name: value for (name, _), value in recorder.take().gauges.items()}
            return [gauges[one.name] for one in POOL]

        large = Window(limit=500, max_bytes=1 << 30)
        reads = [asyncio.create_task(storage.read("n", "s", window=large)) for _ in range(9)]
        most = []
        while not all(read.done() for read in reads):
            await asyncio.sleep(0)
            most.append(used())
        assert {size for size, _, _ in most} == {2}
        assert 1 <= max(in_use for _, in_use, _ in most) <= 2
        if store != "valkey":  # which sends all nine in one flight
            assert max(waiting for _, _, waiting in most) >= 1
        async with asyncio.timeout(SECONDS):  # the store itself may still read something
            while used()[1]:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def read_metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.parametrize("workers", [1, 2])
def test_the_listener_gives_the_sum_over_all_workers(tmp_path: Path, workers: int) -> None:
    port = free_port()
    more = {"SESSION_SERVICE_METRICS_PORT": str(port)}
    key = run(tmp_path, "keys", "create", "test").stdout.strip()
    asked = 40
    with serving(tmp_path, "--workers", str(workers), first_run=False, **more) as (_, address, _):
        for _ in range(asked):  # a connection each, so that both workers get some
            status, _ = get(f"{address}/v1/me", {"Authorization": f"Bearer {key}"})
            assert status == 200
        series = 'agent_sessions_http_request_seconds_count{route="GET /v1/me",status="200"}'
        until = time.monotonic() + SECONDS
        while value(text := read_metrics(port), series) < asked and time.monotonic() < until:
            time.sleep(0.1)
        assert value(text, series) == asked
        assert get_refused(f"{address}/metrics") == 404  # never at the service's own port


def get_refused(url: str) -> int:
    return get(url)[0]


def test_without_prometheus_client_the_extra_is_named(tmp_path: Path) -> None:
    done = serve_without("prometheus_client", tmp_path, SESSION_SERVICE_METRICS_PORT="9")
    assert done.returncode == 9
    assert "agent-cores-session[metrics]" in done.stderr


def test_a_taken_port_is_refused_in_a_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run(tmp_path, "serve", "--port", "0", SESSION_SERVICE_METRICS_PORT=port)
    assert done.returncode == 2
    assert done.stderr.startswith("agent-sessions: SESSION_SERVICE_METRICS_PORT: cannot listen")


# ── the dashboard and the page ───────────────────────────────────────────────────────────────────

ROOT = Path(__file__).parents[2]
SERIES = re.compile(r"\bagent_sessions_\w+")


def test_the_dashboard_shows_every_metric_and_none_that_there_is_not() -> None:
    text = (ROOT / "deploy/grafana/agent-sessions.json").read_text(encoding="utf-8")
    dashboard = json.loads(text)
    told = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in SERIES.findall(target["expr"])
    }
    known = {name: metric.name for metric in METRICS for name in metric.exposed}
    assert told <= known.keys()
    assert {known[name] for name in told} == {metric.name for metric in METRICS}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_labels_in_the_dashboard_are_those_of_the_metrics() -> None:
    text = (ROOT / "deploy/grafana/agent-sessions.json").read_text(encoding="utf-8")
    grouped = re.findall(r"\w+ by \(([^)]*)\)", text)
    labels = {name for metric in METRICS for name in metric.labels}
    assert {one.strip() for each in grouped for one in each.split(",")} <= labels | {"le"}


def test_the_page_names_no_metric_that_there_is_not() -> None:
    page = (ROOT / "docs/observability.md").read_text(encoding="utf-8")
    known = {name for metric in METRICS for name in (metric.name, *metric.exposed)}
    assert set(SERIES.findall(page)) <= known


def test_a_read_of_several_sessions_is_measured_where_a_store_has_one_of_its_own(
    tmp_path: Path,
) -> None:
    by_default = operations_of(MemoryProvider())
    own = operations_of(SQLiteProvider(tmp_path / "sessions.db"))
    assert set(own) - set(by_default) == {"read_several"}
