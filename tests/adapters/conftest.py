"""What the tests of every adapter share: the stores, each empty.

``make test-adapters`` runs each folder in an environment of its own, with its framework. Elsewhere
a folder whose framework is not installed is left out. ``ADAPTER_STORES`` names the stores to test.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from agent_cores.session import SessionManager, SessionSettings
from tests.servers import mariadb, postgres, redis

FRAMEWORKS = {
    "claude_agent_sdk": "claude_agent_sdk",
    "google_adk": "google.adk",
    "imports": "strands",
    "langgraph": "langgraph",
    "openai_agents": "agents",
    "openai_wire": "openai",
    "pydantic_ai": "pydantic_ai",
}
"""The folder of an adapter's tests, and the module that they need."""


def _is_missing(module: str) -> bool:
    try:
        return find_spec(module) is None
    except ModuleNotFoundError:  # the package that would hold it is missing too
        return True


collect_ignore = [folder for folder, module in FRAMEWORKS.items() if _is_missing(module)]

STORES = os.environ.get("ADAPTER_STORES", "memory,sqlite,valkey,postgres,mariadb").split(",")


@pytest.fixture(params=STORES)
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store."""
    return url_of(request.param, tmp_path)


def url_of(store: str, folder: Path) -> str:
    """Return the URL of an empty store of that kind."""
    if store == "memory":
        return "memory://"
    if store == "sqlite":
        return f"sqlite:///{folder / 'sessions.db'}"
    if store == "valkey":
        return redis.empty_store(redis.shared_valkey().url)
    if store == "mariadb":
        return mariadb.reused_store()
    assert store == "postgres", f"ADAPTER_STORES names {store}"
    return postgres.reused_store(postgres.shared_server().url())


@pytest.fixture
async def manager(store_url: str) -> AsyncIterator[SessionManager]:
    """Return a manager for any event loop, on an empty store."""
    async with SessionManager(store_url, settings=SessionSettings(), any_loop=True) as manager:
        yield manager


@pytest.fixture(params=["sqlite"])
async def target(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionManager]:
    """Return a manager whose storage can be called from the test's loop, on an empty store."""
    url = url_of(request.param, tmp_path)
    async with SessionManager(url, settings=SessionSettings()) as manager:
        yield manager


@pytest.fixture
async def client() -> AsyncIterator[SessionManager]:
    """Return a client for any event loop, of a service on an empty store."""
    from agent_cores.session.client import SessionClient
    from tests.adapters.serving import serving

    with serving("memory://") as (address, key, _):
        async with SessionClient(address, key, any_loop=True) as client:
            yield client
