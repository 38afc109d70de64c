"""A service on each store, in a thread of its own, so that blocking clients can call it too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2
import pytest
from openai import AsyncOpenAI, OpenAI

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.client import SessionClient
from agent_cores.session.models.times import utc_now
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret
from tests.service.served import Live


class Served(NamedTuple):
    """Where a service listens, and keys for it: one that acts for any user, one that only reads."""

    address: str
    key: str
    reading_key: str

    @property
    def base_url(self) -> str:
        """What OpenAI's clients call."""
        return f"{self.address}/v1"

    def client(self, user_id: str = "ann", http_client: httpx2.Client | None = None) -> OpenAI:
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


@contextmanager
def serving(store_url: str) -> Iterator[Served]:
    """Serve a store from another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    full, reads = (_key(*rights, "act-as") for rights in (("read", "write"), ("read",)))
    manager = SessionManager(store_url, settings=SessionSettings())
    live = Live(Service(manager, ServiceSettings(), keys=[full[0], reads[0]]))
    try:
        address = asyncio.run_coroutine_threadsafe(live.start(), loop).result(30)
        yield Served(address, full[1], reads[1])
        asyncio.run_coroutine_threadsafe(live.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _key(*rights: str) -> tuple[ApiKey, str]:
    key_id, secret = new_secret()
    key = ApiKey(
        id=key_id,
        name="test",
        namespace="default",
        secret_hash=hashed(secret),
        rights=rights,
        created_at=utc_now(),
    )
    return key, key_text(key_id, secret)


@pytest.fixture
def served(store_url: str) -> Iterator[Served]:
    """Serve each of the stores."""
    with serving(store_url) as served:
        yield served


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
