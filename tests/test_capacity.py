"""``bench`` measures a store and leaves nothing in it; ``plan`` counts by what was measured."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from agent_cores.session.cli.bench import NAMESPACE, bench
from agent_cores.session.cli.figures import FIGURES as STORED
from agent_cores.session.cli.figures import StoreFigures
from agent_cores.session.cli.latencies import Latencies
from agent_cores.session.cli.opening import Where
from agent_cores.session.cli.plan import plan
from agent_cores.session.cli.planning import GIGABYTE, Load, Node, plan_for
from agent_cores.session.cli.upkeep import stats
from agent_cores.session.errors import ConfigurationError, InvalidInputError

FIGURES = StoreFigures(
    session_bytes=500,
    message_bytes=100,
    text_factor=1.5,
    library_micros={"append": 100, "read": 200, "list": 300},
    http_micros={"append": 100, "read": 100, "list": 100},
    store_micros={"append": 50, "read": 60, "list": 70},
)
LOAD = Load(
    sessions=1_000_000, messages=20, message_bytes=400, append=3000.0, read=2000.0, list=1000.0
)


@pytest.fixture
def url(nothing_set: Path) -> str:
    return f"sqlite:///{nothing_set / 'sessions.db'}"


def test_a_store_is_measured_and_nothing_stays_in_it(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(where=Where(storage=url), seconds=0.05, callers=[1, 5], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["store"] == "sqlite"
    assert [(rate["operation"], rate["callers"]) for rate in found["rates"]] == [
        (operation, callers) for operation in ("append", "read", "list") for callers in (1, 5)
    ]
    for rate in found["rates"]:
        assert rate["per_second"] > 0
        assert 0 < rate["median_ms"] <= rate["p99_ms"]
    busiest = {rate["operation"]: rate["micros"] for rate in found["rates"] if rate["callers"] == 5}
    assert found["library_micros"] == busiest
    stats(where=Where(storage=url, namespace=NAMESPACE), as_json=True)
    assert json.loads(capsys.readouterr().out)["sessions"] == 0


def test_a_measurement_has_a_call_of_each_caller_however_short_it_is(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench(where=Where(storage=url), seconds=1e-9, callers=[2], as_json=True)
    assert len(json.loads(capsys.readouterr().out)["rates"]) == 3


def test_percentiles_are_half_a_percent_off_at_most_in_bounded_memory() -> None:
    chance, latencies = random.Random(1), Latencies()
    drawn = [chance.lognormvariate(-7, 2) for _ in range(100_000)]
    for latency in drawn:
        latencies.add(latency)
    drawn.sort()
    for part in (0, 0.5, 0.99, 1):
        exact = drawn[min(int(len(drawn) * part), len(drawn) - 1)]
        assert latencies.percentile(part) == pytest.approx(exact, rel=0.0051)
    assert latencies.count == len(drawn)
    assert len(latencies._buckets) < 2_500  # noqa: SLF001 - what takes the memory
    assert Latencies().percentile(0.5) == 0


def test_wrong_use_of_bench_is_refused_before_anything_is_opened(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="what users do"):
        bench(where=Where(storage=url, as_operator="ops"))
    for wrong in ({"seconds": 0.0}, {"callers": [0]}, {"message_bytes": 0}):
        with pytest.raises((ConfigurationError, InvalidInputError)):
            bench(where=Where(storage=url), **wrong)
    assert not (tmp_path / "sessions.db").exists()


def test_a_plan_shows_the_arithmetic_by_which_it_counted() -> None:
    node = Node(cores=4, memory=4 * GIGABYTE)
    redis = plan_for("redis", LOAD, node, FIGURES)
    assert redis.data_bytes == 1_000_000 * (500 + 20 * (100 + 1.5 * 400))
    assert redis.store_bytes == redis.data_bytes * 1.5
    assert redis.service_workers == 3  # (3000 x 200 + 2000 x 300 + 1000 x 400) us = 1.6 cores / 0.6
    assert redis.service_nodes == 2
    assert redis.store_nodes == 12  # 21.75 GB on nodes of 4: six primaries, each with a replica
    assert redis.lines[0] == "a message: 100 + 1.5 x 400 = 700 bytes"
    assert "3000 append x 200 + 2000 read x 300 + 1000 list x 400 us a second" in redis.lines[3]
    for store in ("postgres", "mysql"):
        database = plan_for(store, LOAD, node, FIGURES)
        assert (database.store_nodes, database.store_cores) == (2, 1)
    assert plan_for("sqlite", LOAD, node, FIGURES).fits
    assert not plan_for("sqlite", LOAD, Node(2, node.memory), FIGURES).fits


def test_what_bench_printed_replaces_what_was_measured_for_the_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*stores: str, **more: str) -> list[dict[str, object]]:
        plan(sessions=10**6, requests=1000, store=list(stores), as_json=True, **more)  # type: ignore[arg-type]
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
        return found

    bench_json = tmp_path / "bench.json"
    slow = {"append": 10_000.0, "read": 1.0, "list": 1.0}
    bench_json.write_text(json.dumps({"store": "redis", "rates": [], "library_micros": slow}))
    usual, slower = planned("redis", "mysql"), planned("redis", "mysql", figures=str(bench_json))
    assert usual[1] == slower[1]
    assert slower[0]["service_workers"] > usual[0]["service_workers"]  # type: ignore[operator]
    bench_json.write_text(json.dumps({"store": "service", "library_micros": None}))
    with pytest.raises(ConfigurationError, match="of a storage"):
        planned("redis", figures=str(bench_json))
    for text in (
        json.dumps({"store": "redis", "library_micros": {"append": 1e308}}).encode(),
        b'{"store":"\xff"}',
        b'{"rates":' + b"[" * 9_000,
    ):
        bench_json.write_bytes(text)
        with pytest.raises(ConfigurationError, match="not what bench"):
            planned("redis", figures=str(bench_json))
    with pytest.raises(InvalidInputError, match="at most 1"):
        plan(sessions=1, requests=1, appends=0.9, reads=0.2)
    for memory in (0, 1e-12, float("inf"), float("nan")):
        with pytest.raises(InvalidInputError, match="node_memory"):
            plan(sessions=1, requests=1, node_memory=memory)
    plan(sessions=1, requests=1e9, appends=0.9, reads=0.1)
    assert "and 0 listings" in capsys.readouterr().out


def test_each_node_has_room_for_its_workers() -> None:
    needed = plan_for("redis", LOAD, Node(8, GIGABYTE // 3), FIGURES)
    assert (needed.service_workers, needed.service_nodes) == (3, 3)


def test_the_page_has_the_figures_by_which_plan_counts() -> None:
    page = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    for number in (
        number
        for one in STORED.values()
        for number in (one.session_bytes, one.message_bytes, one.text_factor)
    ):
        assert f"{number:,}" in page
    for one in STORED.values():
        for kind, micros in one.library_micros.items():
            assert f"{micros + one.http_micros[kind]:,} µs" in page
