"""A session that cannot be read, as one of a newer release, stops nothing but itself."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

import apsw
import pytest

from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models import AccessRole, Grant, Query, SessionStatus
from agent_cores.session.testing.samples import change_of, creation, new_header
from tests.sqlite_stores import NOON, all_of, append, create, opened, rows

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from agent_cores.session.storage.sqlite.provider import SQLiteProvider

pytestmark = pytest.mark.anyio

UNREADABLE = ["format = 99", "tags = x'7b'", "grants = x'5b315d'", "created_at = 9000000000000000"]
HOUR = timedelta(hours=1)
LEASE = 60.0


def execute(path: Path, statement: str) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(statement).fetchall()
        assert connection.changes() > 0


def spoil(path: Path, session_id: str, how: str = UNREADABLE[0]) -> None:
    execute(path, f"UPDATE sessions SET {how} WHERE session_id = '{session_id}'")  # noqa: S608


async def ended_ids(provider: SQLiteProvider, at: datetime, limit: int = 100) -> list[str]:
    return sorted(ended.session_id for ended in await provider.due(at, limit, LEASE))


@pytest.mark.parametrize("how", UNREADABLE)
async def test_sweeping_goes_on_past_what_it_cannot_read(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        for name in ("a", "bad-1", "z"):
            await create(provider, name, expires_at=NOON + HOUR)
        spoil(path, "bad-1", how)
        later = NOON + 2 * HOUR
        assert await ended_ids(provider, later) == ["a", "z"]
        assert await ended_ids(provider, later) == []
        assert (await provider.count("default", later)).sessions == 3
        assert await ended_ids(provider, later + timedelta(seconds=LEASE)) == ["a", "z"]
    assert caplog.text.count("'bad-1'") == 1


async def test_what_cannot_be_read_is_put_off_and_starves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        for number, name in enumerate(("bad-1", "bad-2", "bad-3", "good")):
            await create(provider, name, expires_at=NOON + HOUR + timedelta(seconds=number))
            if name != "good":
                spoil(path, name)
        later = NOON + 2 * HOUR
        assert await ended_ids(provider, later, limit=1) == ["good"]
        assert (await provider.count(None, later)).due == 0
        again = later + timedelta(seconds=LEASE)
        assert (await provider.count(None, again)).due == 4
        assert await ended_ids(provider, again, limit=2) == ["good"]


async def test_an_older_program_neither_removes_nor_replaces_nor_appends_to_a_newer_session(
    tmp_path: Path,
) -> None:
    """Neither by its guarded statement nor by a run."""
    path = tmp_path / "sessions.db"
    async with opened(path) as provider:
        header = await create(provider, "newer", expires_at=NOON + HOUR)
        other = await create(provider, "other")
        header = (await provider.apply(append(header, "m"))).header
        spoil(path, "newer")
        for attempt in range(2):
            refused, written = await all_of(
                provider, append(header, f"n{attempt}"), append(other, f"o{attempt}")
            )
            assert isinstance(refused, CorruptRecordError)
            assert not isinstance(written, BaseException)
        with pytest.raises(CorruptRecordError, match="newer"):
            await provider.apply(change_of(header, NOON, delete=True))
        anew = new_header("newer", at=NOON + 2 * HOUR, incarnation=8)
        with pytest.raises(CorruptRecordError, match="newer"):
            await provider.apply(creation(anew))
    assert [row["id"] for row in rows(path)["messages"] if row["session_key"] == 1] == ["m"]


async def test_listings_leave_out_what_they_cannot_read_and_name_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sessions.db"
    grants = {
        subject: Grant(subject=subject, role=AccessRole.VIEWER, granted_by="ann", granted_at=at)
        for subject, at in (("bob", NOON), ("group:team", NOON - HOUR))
    }
    async with opened(path) as provider:
        for name in ("a", "bad-1", "z"):
            await create(provider, name, grants=grants, tags=("x",))
        spoil(path, "bad-1")
        for query in (
            Query(namespace="default", at=NOON, owner_id="ann"),
            Query(namespace="default", at=NOON, owner_id="ann", status=SessionStatus.ACTIVE),
            Query(namespace="default", at=NOON, owner_id="ann", tags=("x",)),
            Query(namespace="default", at=NOON, subjects=("bob", "group:team")),
            Query(namespace=None, at=NOON),
        ):
            found = await provider.find(query)
            assert sorted(header.session_id for header in found.headers) == ["a", "z"]
            assert found.unreadable == ("bad-1",)
        with pytest.raises(CorruptRecordError, match="bad-1"):
            await provider.read("default", "bad-1")
    assert caplog.text.count("'bad-1'") == 1
