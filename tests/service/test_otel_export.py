"""``agent-sessions serve`` exports OpenTelemetry's metrics if asked, each process its own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.service import processes
from tests.service.processes import get, run, serve_without, serving

CONFIGURED = """
import os
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
out = open(os.path.join(os.environ["METRICS_TO"], f"{os.getpid()}.json"), "a", buffering=1)
exporter = ConsoleMetricExporter(out=out, formatter=lambda data: data.to_json(indent=None) + "\\n")
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=200)
metrics.set_meter_provider(MeterProvider([reader]))
"""
"""Configures the SDK of each Python process, as ``opentelemetry-instrument`` does."""


def exported(folder: Path) -> list[dict[str, Any]]:
    """Return the last metrics of each process that has exported some, by their names."""
    found = []
    for file in folder.glob("*.json"):
        whole, _, _ = file.read_text().rpartition("\n")  # the last line may be half written
        lines = whole.splitlines()
        last = json.loads(lines[-1]) if lines else {"resource_metrics": []}
        metrics = {
            metric["name"]: metric["data"]["data_points"]
            for resource in last["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
        }
        if metrics:
            found.append(metrics)
    return found


def answered(folder: Path) -> int:
    """Return how many requests the processes have reported together."""
    return sum(
        point["count"]
        for metrics in exported(folder)
        for point in metrics.get("http.server.request.duration", ())
        if point["attributes"]["http.route"] == "/v1/me"
    )


def test_a_line_that_is_half_written_is_not_read(tmp_path: Path) -> None:
    point = {"name": "n", "data": {"data_points": [1]}}
    line = json.dumps({"resource_metrics": [{"scope_metrics": [{"metrics": [point]}]}]})
    for number, text in enumerate((f"{line}\n{line[:20]}", f"{line}\n", line[:20], "")):
        (tmp_path / f"{number}.json").write_text(text)
    assert exported(tmp_path) == [{"n": [1]}] * 2


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("on", [True, False])
def test_each_process_exports_its_own_metrics_and_none_unless_asked(
    tmp_path: Path, workers: int, *, on: bool
) -> None:
    site, told = tmp_path / "site", tmp_path / "told"
    site.mkdir()
    told.mkdir()
    (site / "sitecustomize.py").write_text(CONFIGURED)
    more = {
        "PYTHONPATH": str(site),
        "METRICS_TO": str(told),
        "SESSION_SERVICE_OTEL_METRICS": "true" if on else "",
        "SESSION_CLEANUP_INTERVAL": "0.2",
    }
    key = run(tmp_path, "keys", "create", "test").stdout.strip()
    asked = 40
    with serving(tmp_path, "--workers", str(workers), first_run=False, **more) as (_, address, _):
        for _ in range(asked):  # a connection each, so that both workers get some
            assert get(f"{address}/v1/me", {"Authorization": f"Bearer {key}"})[0] == 200
        until = time.monotonic() + (processes.SECONDS if on else 2)
        while answered(told) < asked and time.monotonic() < until:
            time.sleep(0.1)
        assert answered(told) == (asked if on else 0)
        assert len([*told.iterdir()]) >= workers, "the SDK is configured, also if nothing is told"
        if not on:
            return
        while not by_status(told) or len(swept(told)) < workers:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert len(by_status(told)) == 1, "one process counts the archived sessions"


def by_status(folder: Path) -> list[Any]:
    return [one for one in exported(folder) if "agent_sessions.sessions" in one]


def swept(folder: Path) -> list[Any]:
    return [one for one in exported(folder) if "agent_sessions.stored_sessions" in one]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_without_the_api_the_extra_is_named(tmp_path: Path, workers: str) -> None:
    more = {"SESSION_SERVICE_OTEL_METRICS": "true", "SESSION_SERVICE_WORKERS": workers}
    done = serve_without("opentelemetry", tmp_path, **more)
    assert done.returncode == 9
    assert "agent-cores-session[otel]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
