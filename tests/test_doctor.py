"""``agent-sessions doctor``: what it finds, and what it says is to mend."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.cli import examining
from agent_cores.session.cli.examining import examine
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.findings import Finding
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.servers import mariadb, postgres
from tests.servers.redis import RedisServer, empty_store, shared_cluster, shared_valkey

pytestmark = pytest.mark.usefixtures("nothing_set")

SECRET = "hunter2"
URL = "sqlite:///sessions.db"


def found(storage: str | None = URL) -> dict[str, Finding]:
    """Examine; return the findings by what they are about."""
    return {one.about: one for one in asyncio.run(examine(storage))}


def made(url: str = URL) -> None:
    """Make the tables of a store."""

    async def start() -> None:
        async with SessionManager(url):
            pass

    asyncio.run(start())


def doctor(*arguments: str, without: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as if a package were not installed."""
    program = f"""
import sys
if {without!r}:
    sys.modules[{without!r}] = None
from agent_cores.session.cli.main import main
sys.argv[1:] = {["doctor", *arguments]!r}
main()
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **more},
    )


def test_a_store_in_order_needs_nothing() -> None:
    made()
    done = doctor("--storage", URL)
    assert done.returncode == 0
    assert "Nothing must be mended." in done.stdout
    assert "problem" not in done.stdout


def test_every_setting_is_listed_with_its_source_and_without_secrets() -> None:
    made()
    Path(".env").write_text("SESSION_POOL_SIZE=7\nSESSION_CONFIG=ours.toml\n")
    Path("ours.toml").write_text(
        "SESSION_TIMEOUT = 4\n[[SESSION_SERVICE_JWT_ISSUERS]]\nissuer = 'https://login.example'\n"
        "audience = 'a'\nalgorithms = ['HS256']\nnamespaces = ['default']\n"
        f"secret = '{SECRET * 5}'\n"
    )
    done = doctor(
        "--storage",
        URL,
        "--json",
        REDIS_URL=f"redis://:{SECRET}@localhost",
        SESSION_POOL_SIZE="8",
        SESSION_SERVICE_LOG_KEY=SECRET * 3,
    )
    assert SECRET not in done.stdout
    told = json.loads(done.stdout)
    assert told["healthy"] is True
    settings = {one["name"]: (one["value"], one["source"]) for one in told["settings"]}
    assert settings["SESSION_POOL_SIZE"] == (8, "environment")
    assert settings["SESSION_TIMEOUT"] == (4, "ours.toml")
    assert settings["REDIS_URL"] == ("redis:…", "environment")
    assert settings["SESSION_SERVICE_PORT"] == (8080, "default")
    assert settings["SESSION_SERVICE_JWT_ISSUERS"] == (["https://login.example"], "ours.toml")


def test_a_misspelt_name_is_a_problem_and_fails() -> None:
    done = doctor("--json", SESSION_STORAGE_ULR="x", SESSION_STORE="y")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["healthy"] is False
    [misspelt, other] = [one for one in told["findings"] if one["about"] == "unknown name"]
    assert (misspelt["mend"], misspelt["is_problem"]) == ("write SESSION_STORAGE_URL", True)
    assert "SESSION_STORE " in other["found"]
    assert not other["is_problem"]


def test_the_address_of_a_kubernetes_service_is_a_problem() -> None:
    done = doctor(SESSION_PORT="tcp://10.0.0.7:80", SESSION_SERVICE_HOST="10.0.0.7")
    assert done.returncode == 1
    assert "enableServiceLinks" in done.stdout


@pytest.mark.parametrize("wrong", ["SESSION_TIMEOUT", "SESSION_SERVICE_PORT"])
def test_a_value_that_cannot_be_read_is_a_problem(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wrong, "abc")
    finding = found()["settings"]
    assert finding.is_problem
    assert wrong in finding.found


def test_a_store_that_cannot_be_reached_is_a_problem_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SESSION_TIMEOUT", "0.2")
    finding = found(f"redis://:{SECRET}@127.0.0.1:9")["storage"]
    assert finding.is_problem
    assert SECRET not in str(finding)


def test_a_driver_that_is_missing_is_named_with_its_extra() -> None:
    done = doctor("--storage", "postgresql://localhost:9/db", without="asyncpg")
    assert done.returncode == 1
    assert "agent-cores-session[postgres]" in done.stdout


@pytest.mark.parametrize("schema", ["apply", "check"])
def test_missing_tables_are_a_problem_only_where_nobody_may_make_them(
    schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_SCHEMA", schema)
    finding = found(f"{URL}?schema=apply")["storage"]
    assert finding.is_problem is (schema == "check")
    assert finding.mend is not None
    assert not Path("sessions.db").exists()


def test_what_is_switched_on_and_not_installed_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacks(package: str) -> str:
        if package in {"prometheus-client", "opentelemetry-api"}:
            raise PackageNotFoundError(package)
        return version(package)

    made()
    monkeypatch.setattr(examining, "version", lacks)
    monkeypatch.setenv("SESSION_SERVICE_TRACING", "true")
    monkeypatch.setenv("SESSION_SERVICE_OTEL_METRICS", "true")
    monkeypatch.setenv("SESSION_SERVICE_METRICS_PORT", "9464")
    problems = [one for one in asyncio.run(examine(URL)) if one.is_problem]
    assert [one.mend for one in problems] == [
        "pip install 'agent-cores-session[metrics]'",
        "pip install 'agent-cores-session[otel]'",
        "pip install 'agent-cores-session[otel]'",
    ]


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_that_is_nearly_full_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    assert not found()["disk"].is_problem
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(1 << 40, 0, 200 << 20))
    assert found()["disk"].is_problem


@pytest.mark.parametrize(("seconds", "is_problem"), [(-60, True), (60, True), (3, False)])
def test_a_clock_that_differs_from_the_stores_is_a_problem(
    seconds: int, is_problem: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Apart(MemoryProvider):
        async def store_time(self) -> datetime:
            return datetime.now(UTC) + timedelta(seconds=seconds)

    registered: Any = StorageFactory._registered  # noqa: SLF001 - so that it is gone afterwards
    monkeypatch.setitem(registered, "apart", Apart)
    assert found("apart")["clock"].is_problem is is_problem


def test_a_store_that_forgets_is_advised_against() -> None:
    finding = found("memory")["storage"]
    assert finding.mend is not None
    assert not finding.is_problem


def test_who_can_call_the_service_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made()
    assert found()["keys"].mend == "agent-sessions keys create NAME"
    monkeypatch.setenv("SESSION_SERVICE_KEYS_FILE", "keys.json")
    Path("keys.json").write_text("no JSON")
    assert found()["storage"].is_problem


def test_the_address_of_a_service_is_not_examined_from_afar() -> None:
    assert found("https://sessions.example")["storage"].mend is not None


@pytest.mark.parametrize(
    ("options", "about", "word"),
    [
        (("--maxmemory-policy", "allkeys-lru"), "eviction", "noeviction"),
        (("--maxmemory", "1mb"), "memory", "maxmemory"),
    ],
)
def test_a_redis_that_endangers_sessions_is_a_problem(
    options: tuple[str, ...], about: str, word: str
) -> None:
    with RedisServer(*options) as server:
        finding = found(server.url)[about]
    assert finding.is_problem
    assert finding.mend is not None
    assert word in finding.mend


@pytest.mark.parametrize(("appendonly", "advised"), [("yes", False), ("no", True)])
def test_a_redis_without_a_log_is_advised_to_keep_one(appendonly: str, advised: bool) -> None:
    with RedisServer("--appendonly", appendonly) as server:
        finding = found(server.url)["persistence"]
    assert (finding.mend is not None) is advised
    assert not finding.is_problem


@pytest.mark.parametrize("kind", ["valkey", "cluster", "postgres", "mariadb"])
def test_every_server_is_found_in_order_with_its_version(kind: str) -> None:
    urls = {
        "valkey": lambda: empty_store(shared_valkey().url),
        "cluster": lambda: empty_store(shared_cluster().url),
        "postgres": lambda: postgres.empty_store(postgres.shared_server().url()),
        "mariadb": mariadb.empty_store,
    }
    url = urls[kind]()
    made(url)
    findings = found(url)
    assert not [one for one in findings.values() if one.is_problem]
    assert any(digit.isdigit() for digit in findings["server version"].found)
    if kind in {"postgres", "mariadb"}:
        assert "this program knows" in findings["schema"].found
