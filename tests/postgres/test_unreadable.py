"""A session that cannot be read, as one of a newer release, stops nothing but itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models import AccessRole, Grant, Query
from agent_cores.session.models.times import utc_now
from agent_cores.session.testing.samples import creation, new_header
from tests.postgres.support import connected
from tests.sql_stores import append, change, create, message_ids

if TYPE_CHECKING:
    from agent_cores.session.storage.postgres.provider import PostgresProvider

pytestmark = pytest.mark.anyio

UNREADABLE = ["format = 99", "tags = 'no list'", "grants = '[1]'", "created_at = 9000000000000000"]
PAST = timedelta(hours=2)
LEASE = 60.0


async def spoil(url: str, session_id: str, how: str = UNREADABLE[0]) -> None:
    async with connected(url) as connection:
        update = f"UPDATE sessions SET {how} WHERE session_id = $1"  # noqa: S608 - written here
        assert await connection.execute(update, session_id) == "UPDATE 1"


async def ended_ids(provider: PostgresProvider, at: datetime, limit: int = 100) -> list[str]:
    return sorted(ended.session_id for ended in await provider.due(at, limit, LEASE))


@pytest.mark.parametrize("how", UNREADABLE)
async def test_sweeping_goes_on_past_what_it_cannot_read(
    provider: PostgresProvider, url: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "bad-1", "z"):
        await create(provider, name, created=utc_now() - PAST)
    await spoil(url, "bad-1", how)
    assert await provider.clean_expired_sessions() == 2
    assert await provider.clean_expired_sessions() == 0
    assert (await provider.count("default", utc_now())).sessions == 1
    assert caplog.text.count("'bad-1'") == 1


async def test_what_cannot_be_read_is_put_off_and_starves_no_other(
    provider: PostgresProvider, url: str
) -> None:
    for name in ("bad-1", "bad-2", "bad-3"):
        await create(provider, name, created=utc_now() - 2 * PAST)
        await spoil(url, name)
    await create(provider, "good", created=utc_now() - PAST)
    at = utc_now()
    assert await ended_ids(provider, at, limit=1) == ["good"]
    assert (await provider.count(None, at)).due == 0
    later = at + timedelta(seconds=LEASE)
    assert (await provider.count(None, later)).due == 4
    assert await ended_ids(provider, later, limit=2) == ["good"]


async def test_an_older_program_neither_removes_nor_replaces_nor_appends_to_a_newer_session(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider, "newer", created=utc_now() - timedelta(minutes=5))
    appended = (await provider.apply(append(header, "m"))).header
    await spoil(url, "newer")
    with pytest.raises(CorruptRecordError, match="newer"):
        await provider.apply(append(appended, "n"))
    with pytest.raises(CorruptRecordError, match="newer"):
        await provider.apply(change(appended, delete=True))
    async with connected(url) as connection:
        await connection.execute("UPDATE sessions SET expires_at = 1, due_at = 1")
    await provider.clean_expired_sessions()
    with pytest.raises(CorruptRecordError, match="newer"):
        await provider.apply(creation(new_header("newer", at=utc_now(), incarnation=8)))
    async with connected(url) as connection:
        end = "UPDATE sessions SET format = 1, expires_at = NULL, due_at = NULL"
        await connection.execute(end)
    assert await message_ids(provider, "newer") == ["m"]


async def test_listings_leave_out_what_they_cannot_read(
    provider: PostgresProvider, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=utc_now())
    for name in ("a", "bad-1", "z"):
        await create(provider, name, grants={"bob": grant}, tags=("x",))
    await spoil(url, "bad-1")
    at = utc_now()
    queries = [
        Query(namespace="default", at=at, owner_id="ann"),
        Query(namespace="default", at=at, owner_id="ann", tags=("x",)),
        Query(namespace="default", at=at, subjects=("bob",)),
        Query(namespace=None, at=at),
    ]
    for query in queries:
        found = await provider.find(query)
        assert sorted(header.session_id for header in found.headers) == ["a", "z"]
    assert caplog.text.count("'bad-1'") == 1
