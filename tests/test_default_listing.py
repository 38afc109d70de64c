"""What ``StorageProvider`` makes of ``list_sessions``, in a store that never stands still."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import UnsupportedError
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.models import Query
from agent_cores.session.testing import ManualClock, suite_settings

if TYPE_CHECKING:
    from agent_cores.session import Session, SessionStatus

SESSIONS = 400


class Restless(CustomStorageProvider):
    """Between any two calls the session that was last becomes the first, and others come and go.

    ``calls`` counts what was asked, ``listed`` how many sessions went out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moving = False
        self.calls = self.listed = 0
        self._order: list[str] = []

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        await asyncio.sleep(0)
        self.calls += 1
        known = [session_id for session_id in self._order if session_id in self._sessions]
        self._order = known + [name for name in self._sessions if name not in set(known)]
        if self.moving:
            self._move()
        found = [self._sessions[session_id] for session_id in self._order]
        found = [session for session in found if owner_id in {None, session.owner_id}]
        page = found[offset : offset + limit]
        self.listed += len(page)
        return page

    def _move(self) -> None:
        for _ in range(3):
            self._order.insert(0, self._order.pop())
        passing = [name for name in self._order if name.startswith("passing")]
        self._order.remove(passing[0])
        self._order.insert(self.calls % 7, passing[0])
        del self._sessions[passing[-1]]
        self._order.remove(passing[-1])


@pytest.fixture
async def store() -> Restless:
    store, clock = Restless(), ManualClock()
    async with SessionManager(store, settings=suite_settings(), clock=clock) as sessions:
        for number in range(SESSIONS):
            await sessions.create_session("ann", session_id=f"s{number}", ttl_hours=1)
        for number in range(50):
            await sessions.create_session("bob", session_id=f"passing{number}")
    store.calls = store.listed = 0
    store.moving = True
    return store


def staying(names: list[str]) -> list[str]:
    return sorted(name for name in names if name.startswith("s"))


EVERY = sorted(f"s{number}" for number in range(SESSIONS))


async def test_a_listing_of_a_store_that_moves_ends_and_misses_nothing(store: Restless) -> None:
    for _ in range(10):
        store.calls = store.listed = 0
        query = Query(namespace="default", at=ManualClock()(), limit=10 * SESSIONS)
        found = await asyncio.wait_for(store.find(query), 10)
        assert staying([header.session_id for header in found.headers]) == EVERY
        assert store.calls <= 8
        assert store.listed <= 4 * (SESSIONS + 50)


async def test_a_store_that_moves_is_counted_swept_and_erased(store: Restless) -> None:
    clock = ManualClock()
    async with SessionManager(store, settings=suite_settings(), clock=clock) as sessions:
        assert (await sessions.get_statistics())["sessions"] >= SESSIONS
        for number in range(100, SESSIONS):
            await sessions.renew_session(f"s{number}", "ann", ttl_hours=None)
        clock.advance(3_601)
        assert await sessions.clean_expired_sessions() == 100
        receipt = await sessions.erase_user("ann")
        assert (receipt.sessions, receipt.complete) == (SESSIONS - 100, True)
        assert await sessions.list_user_sessions("ann", limit=1_000) == []


async def test_a_store_that_gives_less_than_it_has_is_refused_by_name() -> None:
    class Capped(CustomStorageProvider):
        async def list_sessions(
            self,
            owner_id: str | None = None,
            status: SessionStatus | str | None = None,
            tags: list[str] | None = None,
            limit: int = 10,
            offset: int = 0,
        ) -> list[Session]:
            return await super().list_sessions(owner_id, status, tags, min(limit, 2), offset)

    async with SessionManager(Capped) as sessions:
        for _ in range(2):
            await sessions.create_session("ann")
        assert (await sessions.get_statistics())["sessions"] == 2
        await sessions.create_session("ann")
        with pytest.raises(UnsupportedError, match="gives 2 of"):
            await sessions.get_statistics()
