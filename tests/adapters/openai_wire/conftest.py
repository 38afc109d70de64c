"""A service on each store, and OpenAI's clients for it.

The environment of the oldest client has neither the Agents SDK nor Node's packages: what needs them
is left out there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest
from openai import AsyncOpenAI, DefaultHttpxClient, OpenAI

from agent_cores.session.client import SessionClient
from tests.adapters.serving import serving

HTTP: Any = import_module(DefaultHttpxClient.__base__.__module__.partition(".")[0])
"""``httpx2``, or the ``httpx`` of clients before 3.0."""

if find_spec("agents") is None:
    collect_ignore = [
        "test_agents_session.py",
        "test_node.py",
        "test_openai_agents_adapter.py",
        "test_page.py",
    ]


class Served(NamedTuple):
    """Where a service listens, and keys for it: one that acts for any user, one that only reads."""

    address: str
    key: str
    reading_key: str

    @property
    def base_url(self) -> str:
        """What OpenAI's clients call."""
        return f"{self.address}/v1"

    def client(self, user_id: str = "ann", http_client: Any = None) -> OpenAI:  # noqa: ANN401
        """Return a blocking client of one user."""
        return OpenAI(
            base_url=self.base_url,
            api_key=self.key,
            default_headers={"X-User-Id": user_id},
            http_client=http_client,
        )

    def async_client(self, user_id: str = "ann") -> AsyncOpenAI:
        """Return a client of one user."""
        return AsyncOpenAI(
            base_url=self.base_url, api_key=self.key, default_headers={"X-User-Id": user_id}
        )


@pytest.fixture
def served(store_url: str) -> Iterator[Served]:
    """Serve each of the stores."""
    with serving(store_url) as found:
        yield Served(*found)


@pytest.fixture
def client(served: Served) -> Iterator[OpenAI]:
    """Return OpenAI's blocking client, for the user ann."""
    with served.client() as client:
        yield client


@pytest.fixture
async def async_client(served: Served) -> AsyncIterator[AsyncOpenAI]:
    """Return OpenAI's asynchronous client, for the user ann."""
    async with served.async_client() as client:
        yield client


@pytest.fixture
async def native(served: Served) -> AsyncIterator[SessionClient]:
    """Return a client of the service's own interface."""
    async with SessionClient(served.address, served.key) as client:
        yield client
