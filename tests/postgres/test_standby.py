"""Standbys: what they answer, what they refuse, and reads that recovery cancels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql.dialect import Statement, Step
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgres import PostgresServer, empty_store
from tests.sql_stores import append, change, create, message_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.anyio

WAITING_SINCE = "SELECT max(query_start) FROM pg_stat_activity WHERE wait_event = 'advisory'"


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def url(primary: PostgresServer) -> str:
    """Return the address, on the primary, of a store with one message."""
    url = empty_store(f"{primary.url()}?table_prefix=")
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    await provider.apply(append(await create(provider), "m"))
    await provider.shutdown()
    return url


async def test_a_standby_reads_and_refuses_writes_until_it_is_promoted(
    primary: PostgresServer, url: str
) -> None:
    with PostgresServer(copy_of=primary) as standby:
        reader = PostgresProvider.from_url(standby.moved(url, primary))
        await reader.initialize()
        assert await message_ids(reader) == ["m"]
        look = await reader.read("default", "talk")
        assert look is not None
        for write in (append(look.header, "n"), change(look.header, metadata={"title": "t"})):
            with pytest.raises(StorageUnavailableError, match="standby") as caught:
                await reader.apply(write)
            assert not caught.value.outcome_unknown
        with pytest.raises(StorageUnavailableError, match="standby") as caught:
            await reader.check()
        assert caught.value.why == "unwritable"
        standby.sql("SELECT pg_promote()")
        await reader.apply(append(look.header, "n"))
        assert await message_ids(reader) == ["m", "n"]
        await reader.shutdown()


async def test_a_service_that_wants_a_primary_finds_a_standby_unavailable(
    primary: PostgresServer, url: str
) -> None:
    with PostgresServer(copy_of=primary) as standby:
        address = standby.moved(url, primary)
        writer = PostgresProvider.from_url(f"{address}&target_session_attrs=read-write")
        with pytest.raises(StorageUnavailableError, match="target_session_attrs"):
            await writer.initialize()


async def test_a_read_that_recovery_cancels_is_made_again(
    primary: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PostgresServer(copy_of=primary) as standby:
        standby.sql("ALTER SYSTEM SET max_standby_streaming_delay = 0")
        standby.sql("SELECT pg_reload_conf()")
        address = standby.moved(url, primary)
        reader = PostgresProvider.from_url(address)
        await reader.initialize()
        gate = await asyncpg.connect(standby.url())
        await gate.execute("SELECT pg_advisory_lock(1)")
        texts = reader.database.queries.texts
        slow = 'SELECT pg_advisory_xact_lock_shared(1) FROM {schema}."{prefix}sessions"'
        monkeypatch.setitem(texts, Statement.ANY_DELETED, slow)
        reader.database.use(reader.database.names)  # forgets the text that it has filled in
        reading = asyncio.ensure_future(reader.database.run(Step(Statement.ANY_DELETED)))
        while not (first := await gate.fetchval(WAITING_SINCE)):
            pass
        schema = url.rpartition("=")[2]
        primary.sql(f"BEGIN; LOCK TABLE {schema}.sessions; COMMIT")
        while await gate.fetchval(WAITING_SINCE) in {None, first}:
            pass
        await gate.close()
        assert len(await reading) == 1
        await reader.shutdown()


async def test_after_a_failover_the_next_write_but_one_finds_the_new_primary(
    primary: PostgresServer, url: str
) -> None:
    with PostgresServer(copy_of=primary) as standby:
        async with CuttingProxy(standby.port) as proxy:
            address = url.replace(f":{primary.port}/", f":{proxy.port}/")
            writer = PostgresProvider.from_url(f"{address}&sslmode=disable")
            await writer.initialize()
            look = await writer.read("default", "talk")
            assert look is not None
            proxy.lead_to(primary.port)
            with pytest.raises(StorageUnavailableError, match="standby"):
                await writer.apply(append(look.header, "n"))
            await writer.apply(append(look.header, "n"))
            assert await message_ids(writer) == ["m", "n"]
            await writer.shutdown()
