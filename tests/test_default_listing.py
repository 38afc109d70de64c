"""Listings made of ``list_sessions`` alone, while sessions change, and of capped answers."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING

import msgspec
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import UnsupportedError
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.models import Query
from agent_cores.session.testing import ManualClock, suite_settings
from agent_cores.session.testing.provider.seven import whole_session
from agent_cores.session.testing.samples import new_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent_cores.session import Session, SessionStatus
    from agent_cores.session.models import SessionMetadata

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


# ── stores that cap their answers ────────────────────────────────────────────────────────────────


class Capped(CustomStorageProvider):
    """Returns at most ``cap`` sessions a call. Runs ``before_page`` before each."""

    def __init__(self, cap: int) -> None:
        super().__init__()
        self.cap = cap
        self.calls = 0
        self.before_page: Callable[[], None] = lambda: None

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        self.calls += 1
        self.before_page()
        return await super().list_sessions(owner_id, status, tags, min(limit, self.cap), offset)

    def touch(self, session_id: str, at: datetime) -> None:
        """Make a session the one with the newest activity."""
        session = self._sessions[session_id]
        header = msgspec.structs.replace(session.metadata, last_active_at=at)
        self._sessions[session_id] = msgspec.structs.replace(session, metadata=header)

    def put(self, header: SessionMetadata) -> None:
        self._sessions[header.session_id] = whole_session(header)

    def drop(self, session_id: str) -> None:
        del self._sessions[session_id]


async def filled(cap: int, number: int) -> Capped:
    store = Capped(cap)
    for index in range(number):
        at = ManualClock()() + timedelta(seconds=index)
        await store.save_session(whole_session(new_header(f"s{index}", at=at)))
    return store


async def listed(store: Capped, owner_id: str | None = None) -> list[str]:
    query = Query(namespace="default", at=ManualClock()(), owner_id=owner_id, limit=1_000)
    return [header.session_id for header in (await store.find(query)).headers]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 7, 10, 99, 100, 101])
@pytest.mark.parametrize("cap", [1, 2, 3, 10, 50, 100])
async def test_a_store_that_caps_its_answers_is_read_in_pages(cap: int, number: int) -> None:
    store = await filled(cap, number)
    expected = [f"s{index}" for index in reversed(range(number))]
    for _ in range(2):
        store.calls = 0
        assert await listed(store) == expected
        assert await listed(store, "ann") == expected
        assert (await store.count(None, ManualClock()())).sessions == number
        assert store.calls <= 3 * (2 * number // cap + 8)
    assert await listed(store, "nobody") == []


async def test_answers_of_different_lengths_are_no_end() -> None:
    store = await filled(30, 100)
    caps = cycle((30, 4, 17, 1, 9))
    store.before_page = lambda: setattr(store, "cap", next(caps))
    assert len(await listed(store)) == 100


@pytest.mark.parametrize("cap", [1, 2, 10, 25])
async def test_sessions_that_are_created_between_pages_hide_no_other(cap: int) -> None:
    store = await filled(cap, 60)
    store._defaults._every_session._is_capped = True  # noqa: SLF001 - so that each page counts
    numbers = iter(range(60, 90))

    def create() -> None:
        number = next(numbers, None)
        if number is not None:
            at = ManualClock()() + timedelta(seconds=number)
            store.put(new_header(f"s{number}", at=at))

    store.before_page = create
    found = await listed(store)
    assert len(found) == len(set(found))
    assert {f"s{index}" for index in range(60)} <= set(found)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cap", [4, 10, 25])
async def test_sessions_that_move_and_go_between_pages_hide_no_other(cap: int, seed: int) -> None:
    random = Random(seed)
    store = await filled(cap, 120)
    clock = ManualClock()
    clock.advance(1_000)
    passing = [f"s{index}" for index in range(0, 120, 3)]
    staying = {f"s{index}" for index in range(120)} - set(passing)

    def disturb() -> None:
        store.touch(random.choice(sorted(staying)), clock.advance(1))
        if passing and random.random() < 0.5:
            store.drop(passing.pop(random.randrange(len(passing))))

    store.before_page = disturb
    found = await listed(store)
    assert len(found) == len(set(found))
    assert staying <= set(found)


@pytest.mark.parametrize("cap", [1, 2, 10, 1_000])
async def test_a_store_that_contradicts_itself_is_refused_by_name(cap: int) -> None:
    class Circular(Capped):
        async def list_sessions(
            self,
            owner_id: str | None = None,
            status: SessionStatus | str | None = None,
            tags: list[str] | None = None,
            limit: int = 10,
            offset: int = 0,
        ) -> list[Session]:
            return await super().list_sessions(owner_id, status, tags, limit, 0)

    store = Circular(cap)
    for index in range(3):
        await store.save_session(whole_session(new_header(f"s{index}", at=ManualClock()())))
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=r"Circular.list_sessions contradicts itself"):
            await listed(store)
