"""Servers and poolers that die under writers: nothing answered is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from tests.postgres.support import consecutive_ids
from tests.servers.postgres import PgBouncer, PostgresServer, empty_store
from tests.sql_stores import append, create

if TYPE_CHECKING:
    from agent_cores.session.models import SessionMetadata

pytestmark = pytest.mark.anyio

SESSIONS = 3
CALLERS = 12
SOME = 60
"""How many messages are acknowledged before the failure, and after it."""


class Writers:
    """Callers that append, each the same message again until it is acknowledged."""

    def __init__(self, provider: PostgresProvider) -> None:
        self.acknowledged: list[str] = []
        self._provider = provider
        self._done = False

    async def run(self, header: SessionMetadata, name: str) -> None:
        number = 0
        while not self._done:
            await self._write(header, f"{name}-{number}")
            number += 1

    async def _write(self, header: SessionMetadata, message_id: str) -> None:
        message = append(header, message_id)
        while True:
            try:
                await self._provider.apply(message)
            except StorageUnavailableError:
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.append(message_id)
                return

    async def go_on(self) -> None:
        """Return once some more were acknowledged."""
        wanted = len(self.acknowledged) + SOME
        while len(self.acknowledged) < wanted:  # noqa: ASYNC110 - written by many
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        self._done = True


@pytest.mark.parametrize(
    ("killed", "pooled"), [("server", False), ("server", True), ("pooler", True)]
)
async def test_what_dies_under_writers_loses_and_doubles_nothing(killed: str, pooled: bool) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(PostgresServer())
        pooler = stack.enter_context(PgBouncer(server))
        address = pooler.url() if pooled else server.url()
        provider = PostgresProvider.from_url(empty_store(address), timeout=2)
        await provider.initialize()
        headers = [await create(provider, f"s{number}") for number in range(SESSIONS)]
        writers = Writers(provider)
        running = [
            asyncio.ensure_future(writers.run(headers[number % SESSIONS], f"c{number}"))
            for number in range(CALLERS)
        ]
        await writers.go_on()
        if killed == "server":
            await asyncio.to_thread(server.stop, at_once=True)
            await asyncio.to_thread(server.start)
        else:
            await asyncio.to_thread(pooler.stop)
            await asyncio.to_thread(pooler.start)
        await writers.go_on()
        writers.stop()
        await asyncio.gather(*running)
        stored: list[str] = []
        for header in headers:
            stored += await consecutive_ids(provider, header.session_id)
        assert sorted(stored) == sorted(writers.acknowledged)
        await provider.shutdown()
