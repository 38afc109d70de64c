"""``agent-sessions migrate``, as an operator runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from agent_cores.session import SessionManager
from tests.servers.postgres import empty_store, shared_server

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sessions.db'}"
    return empty_store(shared_server().url())


def migrate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent_cores.session.cli", "migrate", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_it_makes_what_a_service_that_may_not_alter_tables_needs(url: str) -> None:
    behind = migrate("--check", "--storage", url)
    assert behind.returncode == 8
    assert "agent-sessions migrate" in " ".join(behind.stderr.split())
    assert migrate("--check", "--storage", url).returncode == 8  # it altered nothing
    done = migrate(SESSION_STORAGE_URL=url, SESSION_SCHEMA="check")
    assert done.returncode == 0, done.stderr
    assert migrate("--check", "--storage", url).returncode == 0
    async with SessionManager(url, schema="check") as manager:
        assert await manager.create_session("ann")
    assert migrate("--storage", url).returncode == 0  # and again does no harm
    async with SessionManager(url, schema="check") as manager:
        assert len(await manager.list_user_sessions("ann")) == 1


def test_the_url_of_the_service_may_say_that_the_service_only_checks() -> None:
    url = f"{empty_store(shared_server().url())}&schema=check"
    done = migrate("--storage", url)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_store_without_a_schema_says_so(arguments: tuple[str, ...]) -> None:
    done = migrate(*arguments, "--storage", "memory://")
    assert done.returncode == 0, done.stderr
    assert "no schema" in done.stdout
