"""``get_session_manager``: one manager for equal arguments, until it is shut down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

import agent_cores.session.session_manager as module
from agent_cores.session import SessionManager, SessionSettings, StorageFactory, get_session_manager
from agent_cores.session.errors import ConfigurationError, WrongContextError
from agent_cores.session.storage.memory.provider import MemoryProvider

pytestmark = pytest.mark.usefixtures("nothing_set", "no_managers")


@pytest.fixture
def no_managers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_managers", [])


@pytest.fixture
def first() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def second() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


# ── the same and others ──────────────────────────────────────────────────────────────────────────


def test_equal_arguments_give_the_same_manager() -> None:
    manager = get_session_manager("memory://", max_sessions=3)
    assert get_session_manager("memory://", max_sessions=3) is manager
    assert get_session_manager(storage_type="memory://", max_sessions=3) is manager
    assert get_session_manager(storage="memory://", max_sessions=3) is manager


def test_other_arguments_give_another_manager() -> None:
    settings = SessionSettings(timeout=3)
    managers = [
        get_session_manager("memory://"),
        get_session_manager("memory"),
        get_session_manager("memory://", max_sessions=3),
        get_session_manager("memory://", namespace="acme"),
        get_session_manager("memory://", settings=settings),
        get_session_manager(MemoryProvider),
        get_session_manager(MemoryProvider()),
        get_session_manager(MemoryProvider()),
    ]
    assert len(set(map(id, managers))) == len(managers)
    assert managers[3].namespace == "acme"


def test_a_changed_environment_gives_another_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_session_manager("memory://")
    monkeypatch.setenv("SESSION_TIMEOUT", "3")
    assert get_session_manager("memory://") is not before


def test_the_constructor_always_makes_a_new_manager() -> None:
    manager = get_session_manager("memory://")
    assert SessionManager("memory://") is not manager
    assert get_session_manager("memory://") is manager


def test_two_names_for_the_storage_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="storage_type and storage"):
        get_session_manager("memory://", storage="memory://")


# ── which storage ────────────────────────────────────────────────────────────────────────────────


class NamedByUrl(MemoryProvider):
    """Stands for Redis, and tells by what URL it was made."""

    def __init__(self, url: str = "") -> None:
        super().__init__()
        self.url = url

    @classmethod
    def from_url(cls, url: str, **_options: object) -> Self:
        return cls(url)

    def describe(self) -> str:
        return self.url


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StorageFactory, "_registered", {"redis": NamedByUrl})


@pytest.mark.usefixtures("redis")
@pytest.mark.parametrize(
    ("storage", "storage_url", "redis_url", "used"),
    [
        (None, None, "redis://by-redis-url", "redis://by-redis-url"),
        (None, "redis://by-storage-url", "redis://by-redis-url", "redis://by-storage-url"),
        ("redis", "memory://", "redis://by-redis-url", "redis://by-redis-url"),
        (None, "redis", "redis://by-redis-url", "redis://by-redis-url"),
        (None, "redis", None, ""),
        ("redis", "memory://", None, ""),
        ("redis://given", "memory://", "redis://by-redis-url", "redis://given"),
    ],
)
async def test_the_storage_is_chosen_by_argument_then_storage_url_then_redis_url(
    storage: str | None,
    storage_url: str | None,
    redis_url: str | None,
    used: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = SessionSettings(storage_url=storage_url, redis_url=redis_url)
    with caplog.at_level("INFO", "agent_cores.session"):
        async with get_session_manager(storage, settings=settings):
            pass
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"sessions are kept in {used}"
    ]


async def test_the_default_lies_in_the_users_data_folder(nothing_set: Path) -> None:
    async with get_session_manager() as sessions:
        await sessions.create_session("ann")
    found = list(nothing_set.rglob("*.db"))  # noqa: ASYNC240 - nothing else runs
    assert found == [nothing_set / "home" / "agent-cores-session" / "sessions.db"]


# ── how long it lasts ────────────────────────────────────────────────────────────────────────────


async def test_a_manager_lasts_until_its_last_shutdown() -> None:
    manager = get_session_manager("memory://")
    await manager.initialize()
    await get_session_manager("memory://").initialize()
    await manager.shutdown()
    assert get_session_manager("memory://") is manager
    await manager.shutdown()
    assert get_session_manager("memory://") is not manager


def test_a_manager_in_use_by_another_event_loop_says_so(
    first: asyncio.Runner, second: asyncio.Runner
) -> None:
    manager = get_session_manager("memory://")
    session_id = first.run(manager.create_session("ann"))
    other = get_session_manager("memory://")
    assert other is manager
    for attempt in (other.initialize, other.get_statistics, other.shutdown):
        with pytest.raises(WrongContextError, match="event loop"):
            second.run(attempt())
    assert first.run(manager.get_session(session_id, "ann")).id == session_id
    first.run(manager.shutdown())


def test_a_closed_event_loop_ends_its_manager(second: asyncio.Runner) -> None:
    with asyncio.Runner() as closed:
        manager = get_session_manager("memory://")
        closed.run(manager.initialize())
    renewed = get_session_manager("memory://")
    assert renewed is not manager
    assert second.run(renewed.get_statistics())["sessions"] == 0
    second.run(renewed.shutdown())


def test_a_program_may_run_one_event_loop_after_another() -> None:
    async def main() -> str:
        async with get_session_manager() as sessions:
            return await sessions.create_session("ann")

    async def count() -> int:
        async with get_session_manager() as sessions:
            return len(await sessions.list_user_sessions("ann"))

    assert asyncio.run(main()) != asyncio.run(main())
    assert asyncio.run(count()) == 2
