"""What is shared with many of a caller's groups: listed once, and looked at once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from agent_cores.session.models import AccessRole, Grant, Query
from agent_cores.session.models.session import Subjects
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.redis import indexes as redis_indexes
from agent_cores.session.storage.redis import listings as redis_listings
from agent_cores.session.storage.redis.headers import Headers
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import creation, new_header

GROUPS, SESSIONS = 20, 30


@pytest.fixture
def headers_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many headers each flight read."""
    numbers: list[int] = []
    read = Headers.read

    async def counted(self: Headers, namespace: str, session_ids: Iterable[str]) -> Any:  # noqa: ANN401 - handed on
        names = list(session_ids)
        numbers.append(len(names))
        return await read(self, namespace, names)

    monkeypatch.setattr(Headers, "read", counted)
    return numbers


@pytest.mark.parametrize("limit", [4, 100])
async def test_a_session_of_many_groups_is_listed_and_looked_at_once(
    provider: RedisProvider,
    headers_read: list[int],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
) -> None:
    at = utc_now()
    groups = [f"group:g{number}" for number in range(GROUPS)]
    for number in range(SESSIONS):
        grants = {
            group: Grant(
                subject=group,
                role=AccessRole.VIEWER,
                granted_by="ann",
                granted_at=at - timedelta(milliseconds=number),
            )
            for group in groups
        }
        await provider.apply(creation(new_header(f"s{number:02}", at=at, grants=grants)))
    all_places: list[str] = []
    monkeypatch.setattr(redis_listings, "_ENTRIES_TOGETHER", 2 * GROUPS)
    monkeypatch.setattr(
        redis_indexes.Indexes, "entries", lambda _, header: all_places.append(header.session_id)
    )
    query = Query(namespace="default", at=at, subjects=Subjects.of(("bob", *groups)), limit=limit)
    listed: list[str] = []
    while True:
        found = await provider.find(query)
        listed += [header.session_id for header in found.headers]
        if found.next is None:
            break
        query = msgspec.structs.replace(query, after=found.next)
    assert listed == [f"s{number:02}" for number in range(SESSIONS)]
    assert max(headers_read) <= SESSIONS, "each once, not once for each of its groups"
    assert all_places == [], "no entry costs as much as its session has grants"
