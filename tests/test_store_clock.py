"""Whose clock decides: the store's, where it has one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import (
    SessionExistsError,
    StorageUnavailableError,
    TurnHeldError,
)
from agent_cores.session.lifecycle import store_clock
from agent_cores.session.models.times import utc_now
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.memory.provider import MemoryProvider

HOUR = 3600.0
SETTINGS = SessionSettings(cleanup_interval=0, timeout=1)


class Timed(MemoryProvider):
    """A store with a clock of its own, ``seconds`` ahead of this machine's."""

    seconds = 0.0
    away = False

    async def store_time(self) -> datetime:
        if self.away:
            detail = "the store is away"
            raise StorageUnavailableError(detail)
        return utc_now() + timedelta(seconds=self.seconds)


class Wrong:
    """A clock that is ``seconds`` ahead of this machine's."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.seconds)


@asynccontextmanager
async def two_hosts(store: Timed, seconds: float) -> AsyncIterator[tuple[SessionManager, ...]]:
    """Managers of one store: one on time, one on a host whose clock is wrong."""
    async with (
        SessionManager(store, settings=SETTINGS, clock=lambda: datetime.now(UTC)) as right,
        SessionManager(store, settings=SETTINGS, clock=Wrong(seconds)) as wrong,
    ):
        yield right, wrong


async def test_a_host_whose_clock_is_ahead_replaces_and_sweeps_nothing_that_lives() -> None:
    async with two_hosts(Timed(), 2 * HOUR) as (right, wrong):
        await right.create_session("ann", session_id="s", ttl_hours=1)
        await right.add_message("s", "ann", "user", "kept")
        assert await wrong.create_session("ann", session_id="s", if_exists="return") == "s"
        assert await wrong.clean_expired_sessions() == 0
        assert [m.content for m in await right.get_session_messages("s", "ann")] == ["kept"]


async def test_a_turn_taken_on_a_host_whose_clock_is_ahead_ends_in_time() -> None:
    async with two_hosts(Timed(), 2 * HOUR) as (right, wrong):
        await right.create_session("ann", session_id="s")
        turn = await wrong.take_turn("s", "ann", lease_seconds=30)
        assert turn.expires_at <= utc_now() + timedelta(seconds=31)
        with pytest.raises(TurnHeldError):
            await right.take_turn("s", "ann")


async def test_a_host_whose_clock_is_behind_lets_a_session_end_in_time() -> None:
    store = Timed()
    async with two_hosts(store, -2 * HOUR) as (_, wrong):
        session_id = await wrong.create_session("ann", ttl_hours=1)
        session = await wrong.get_session(session_id, "ann")
        ends = session.metadata.expires_at
        assert ends is not None
        assert abs((ends - utc_now()).total_seconds() - HOUR) < 5


async def test_a_clock_that_is_set_after_the_start_replaces_and_sweeps_nothing() -> None:
    clock = Wrong(0)
    async with SessionManager(Timed(), settings=SETTINGS, clock=clock) as manager:
        await manager.create_session("ann", session_id="s", ttl_hours=1)
        clock.seconds = 2 * HOUR
        with pytest.raises(SessionExistsError):
            await manager.create_session("bob", session_id="s")
        assert await manager.clean_expired_sessions() == 0
        assert (await manager.get_session("s", "ann")).owner_id == "ann"


async def test_nothing_is_replaced_while_the_store_cannot_tell_the_time() -> None:
    store, clock = Timed(), Wrong(0)
    async with SessionManager(store, settings=SETTINGS, clock=clock) as manager:
        await manager.create_session("ann", session_id="s", ttl_hours=1)
        clock.seconds = 2 * HOUR
        store.away = True
        with pytest.raises(StorageUnavailableError) as refusal:
            await manager.create_session("bob", session_id="s")
        assert not refusal.value.outcome_unknown
        with pytest.raises(StorageUnavailableError):
            await manager.clean_expired_sessions()


async def test_a_store_whose_clock_jumps_removes_nothing_until_it_has_held(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Timed()
    async with SessionManager(store, settings=SETTINGS) as manager:
        await manager.create_session("ann", session_id="s", ttl_hours=1)
        store.seconds = 2 * HOUR
        assert await manager.clean_expired_sessions() == 0
        assert "has jumped by 7200.0 s" in caplog.text
        assert await manager.clean_expired_sessions() == 0
        assert (await manager.get_session("s", "ann")).owner_id == "ann"
        monkeypatch.setattr(store_clock, "DOUBT_SECONDS", 0.0)
        assert await manager.clean_expired_sessions() == 1


async def test_an_ended_session_is_not_replaced_while_the_clock_is_in_doubt() -> None:
    store = Timed()
    async with SessionManager(store, settings=SETTINGS) as manager:
        await manager.create_session("ann", session_id="s", ttl_hours=0.001 / HOUR)
        await asyncio.sleep(0.005)
        store.seconds = 2 * HOUR
        with pytest.raises(StorageUnavailableError, match="jumped"):
            await manager.create_session("bob", session_id="s")


@pytest.mark.parametrize("seconds", [60.0, -60.0])
async def test_clocks_that_are_apart_are_told_once(
    caplog: pytest.LogCaptureFixture, seconds: float
) -> None:
    store = Timed()
    async with SessionManager(store, settings=SETTINGS, clock=Wrong(seconds)) as manager:
        await manager.clean_expired_sessions()
        assert caplog.text.count("differs from the store's") == 1
        assert f"by {seconds:.1f} s" in caplog.text


async def test_an_infinite_skew_leaves_the_clock_as_it_was_given() -> None:
    settings = SessionSettings(cleanup_interval=0, max_clock_skew=float("inf"))
    clock = Wrong(2 * HOUR)
    async with SessionManager(Timed(), settings=settings, clock=clock) as manager:
        session = await manager.get_session(await manager.create_session("ann"), "ann")
        assert session.metadata.created_at > utc_now() + timedelta(seconds=HOUR)
