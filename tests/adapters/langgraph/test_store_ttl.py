"""The TTL of LangGraph's items in our store, by a clock that the test moves."""
# ruff: noqa: ANN401 - LangGraph's values, and methods that stand in for ours

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from typing import Any

import pytest
from langgraph.store.base import GetOp, Item, PutOp

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.adapters.langgraph_store import SessionStore
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.testing.clock import ManualClock

DOCS = ("docs", "ann")
SESSION = "langgraph-store:ann:docs:ann"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def timed(manager: SessionManager, clock: ManualClock) -> SessionStore:
    return SessionStore(manager, user_id="ann", ttl={"default_ttl": 10}, clock=clock)


async def value(store: SessionStore, key: str) -> Any:
    found = await store.aget(DOCS, key)
    return None if found is None else found.value


def keys(found: list[Any]) -> list[str]:
    return [item.key for item in found]


async def test_an_item_is_gone_at_its_end(timed: SessionStore, clock: ManualClock) -> None:
    await timed.aput(DOCS, "default", {})
    await timed.aput(DOCS, "short", {}, ttl=0.5)
    await timed.aput(DOCS, "kept", {}, ttl=None)
    await timed.aput(("short",), "only", {}, ttl=0.5)

    async def alive() -> list[str]:
        found = await timed.asearch((), refresh_ttl=False)
        by_key = await timed.abatch(
            [GetOp(DOCS, key, refresh_ttl=False) for key in ("default", "short", "kept")]
        )
        assert [item.key for item in by_key if isinstance(item, Item)] == [
            item.key for item in found if item.namespace == DOCS
        ]
        return keys(found)

    assert await alive() == ["default", "short", "kept", "only"]
    clock.advance(29.999)
    assert await alive() == ["default", "short", "kept", "only"]
    assert await timed.alist_namespaces() == [DOCS, ("short",)]
    clock.advance(0.001)
    assert await alive() == ["default", "kept"]
    assert await timed.alist_namespaces() == [DOCS]
    clock.advance(570)
    assert await alive() == ["kept"]
    assert await timed.asearch((), limit=1, offset=1, refresh_ttl=False) == []


async def test_a_page_is_full_in_spite_of_expired_items(
    timed: SessionStore, clock: ManualClock
) -> None:
    await timed.abatch([PutOp(DOCS, f"k{n}", {}, ttl=1 if n % 3 else 9) for n in range(30)])
    clock.advance(60)
    assert keys(await timed.asearch(DOCS, limit=3, offset=2)) == ["k6", "k9", "k12"]


async def test_reading_restarts_a_ttl_unless_told_not_to(
    manager: SessionManager, clock: ManualClock
) -> None:
    quiet = SessionStore(manager, user_id="ann", ttl={"refresh_on_read": False}, clock=clock)
    store = SessionStore(manager, user_id="ann", clock=clock)
    written = clock()
    names = ("get", "search", "blocking", "unread", "quiet")
    await store.abatch([PutOp(DOCS, name, {"by": name}, ttl=1) for name in names])
    clock.advance(40)
    assert await value(store, "get") is not None
    store.get(DOCS, "blocking")
    assert keys(await store.asearch(DOCS, filter={"by": "search"})) == ["search"]
    await store.aget(DOCS, "unread", refresh_ttl=False)
    await store.asearch(DOCS, refresh_ttl=False)
    await quiet.aget(DOCS, "quiet")
    await quiet.asearch(DOCS)
    clock.advance(40)
    found = await quiet.asearch(DOCS)
    assert keys(found) == ["get", "search", "blocking"]
    assert {item.updated_at for item in found} == {written}
    clock.advance(20)
    assert keys(await quiet.asearch(DOCS)) == []


@pytest.mark.parametrize(
    "ttl", ["5", timedelta(minutes=5), float("nan"), float("inf"), 10**400, True]
)
async def test_what_is_no_ttl_is_refused_and_nothing_is_written(
    timed: SessionStore, ttl: Any
) -> None:
    await timed.aput(DOCS, "a", {"n": 1})
    puts = [PutOp(DOCS, "b", {}), PutOp(DOCS, "a", {"n": 2}, ttl=ttl)]
    with pytest.raises(InvalidInputError, match="ttl"):
        await timed.abatch(puts)
    assert keys(await timed.asearch(())) == ["a"]
    assert await value(timed, "a") == {"n": 1}


async def test_a_put_restarts_ends_or_removes_a_ttl(
    timed: SessionStore, clock: ManualClock
) -> None:
    for key in ("restarted", "ended", "removed", "expired"):
        await timed.aput(DOCS, key, {}, ttl=1)
    clock.advance(40)
    await timed.aput(DOCS, "restarted", {"n": 2}, ttl=1)
    await timed.aput(DOCS, "ended", {"n": 2}, ttl=0.1)
    await timed.aput(DOCS, "removed", {"n": 2}, ttl=None)
    clock.advance(20)
    reborn = clock()
    await timed.aput(DOCS, "expired", {"n": 2}, ttl=1)
    found = {item.key: item for item in await timed.asearch(DOCS, refresh_ttl=False)}
    assert sorted(found) == ["expired", "removed", "restarted"]
    assert found["expired"].created_at == reborn
    assert found["removed"].created_at < found["removed"].updated_at


async def test_a_put_after_a_read_counts(timed: SessionStore, clock: ManualClock) -> None:
    await timed.aput(DOCS, "a", {}, ttl=1)
    clock.advance(40)
    assert await value(timed, "a") is not None
    clock.advance(40)
    await timed.aput(DOCS, "a", {"n": 2}, ttl=1)
    clock.advance(59)
    found = await timed.aget(DOCS, "a", refresh_ttl=False)
    assert found is not None
    assert found.value == {"n": 2}
    clock.advance(1)
    assert await value(timed, "a") is None


async def test_a_read_succeeds_where_its_refresh_cannot(
    timed: SessionStore,
    manager: SessionManager,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await timed.aput(DOCS, "a", {"n": 1}, ttl=1)
    clock.advance(30)
    await manager.archive_session(SESSION, "ann")
    assert await value(timed, "a") == {"n": 1}
    await manager.unarchive_session(SESSION, "ann")
    verbs = timed._owner.verbs  # noqa: SLF001 - to come between a read and its refresh
    update = verbs.update_message

    async def late(*args: Any, **kwargs: Any) -> Any:
        await manager.delete_session(SESSION, "ann")
        return await update(*args, **kwargs)

    monkeypatch.setattr(verbs, "update_message", late)
    assert await value(timed, "a") == {"n": 1}
    assert await value(timed, "a") is None


async def test_a_read_writes_only_where_the_end_moves_by_a_twentieth(
    timed: SessionStore, manager: SessionManager, clock: ManualClock
) -> None:
    await timed.aput(DOCS, "none", {}, ttl=None)
    await timed.aput(DOCS, "timed", {}, ttl=1)

    async def updated() -> list[str]:
        assert len(await timed.asearch(DOCS)) == 2
        page = await manager.get_session_messages(SESSION, "ann")
        return [message.id for message in page if message.updated_at is not None]

    clock.advance(3)
    assert await updated() == []
    clock.advance(0.001)
    assert await updated() == ["timed"]


async def test_a_late_refresh_neither_ends_nor_revives_an_item(
    timed: SessionStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = timed._owner.verbs  # noqa: SLF001 - to come between a read and its refresh
    update = verbs.update_message
    between: list[Any] = []

    async def late(*args: Any, **kwargs: Any) -> Any:
        if "metadata_updates" in kwargs and between:
            await between.pop()
        return await update(*args, **kwargs)

    await timed.aput(DOCS, "kept", {"n": 1}, ttl=1)
    await timed.aput(DOCS, "gone", {"n": 1}, ttl=1)
    monkeypatch.setattr(verbs, "update_message", late)
    clock.advance(40)
    between.append(timed.aput(DOCS, "kept", {"n": 2}, ttl=None))
    assert await value(timed, "kept") == {"n": 1}
    between.append(timed.adelete(DOCS, "gone"))
    assert await value(timed, "gone") == {"n": 1}
    clock.advance(600)
    assert keys(await timed.asearch(DOCS)) == ["kept"]


async def test_a_sweep_removes_what_has_expired(
    timed: SessionStore, manager: SessionManager, clock: ManualClock
) -> None:
    await timed.abatch([PutOp(DOCS, f"k{n}", {}, ttl=1 + n % 2) for n in range(1_200)])
    await timed.aput(DOCS, "kept", {}, ttl=None)
    await timed.aput(("never",), "kept", {}, ttl=None)
    await SessionStore(manager, user_id="bob", clock=clock).aput(DOCS, "bobs", {}, ttl=1)
    assert await timed.asweep_ttl() == 0
    clock.advance(60)
    assert await timed.asweep_ttl() == 600
    clock.advance(60)
    assert timed.sweep_ttl() == 600
    assert await timed.asweep_ttl() == 0
    assert [message.id for message in await manager.get_session_messages(SESSION, "ann")] == [
        "kept"
    ]
    assert await SessionStore(manager, user_id="bob", clock=clock).asweep_ttl() == 1


async def test_a_sweep_spares_an_item_that_is_written_again(
    timed: SessionStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = timed._owner.verbs  # noqa: SLF001 - to come between a read and its removal
    delete = verbs.delete_messages
    await timed.abatch([PutOp(DOCS, key, {"n": 1}, ttl=1) for key in ("a", "b")])
    clock.advance(60)

    async def late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.undo()
        await timed.aput(DOCS, "a", {"n": 2}, ttl=1)
        return await delete(*args, **kwargs)

    monkeypatch.setattr(verbs, "delete_messages", late)
    assert await timed.asweep_ttl() == 1
    assert [(item.key, item.value) for item in await timed.asearch(DOCS)] == [("a", {"n": 2})]


async def test_the_sweepers_of_the_manager_leave_items_alone(
    store_url: str, clock: ManualClock
) -> None:
    skewed = SessionSettings(max_clock_skew=float("inf"))
    async with SessionManager(store_url, settings=skewed, any_loop=True, clock=clock) as manager:
        store = SessionStore(manager, user_id="ann", ttl={"default_ttl": 1e7}, clock=clock)
        await store.aput(DOCS, "a", {"n": 1})
        clock.advance(timedelta(days=1_000).total_seconds())
        await manager.clean_expired_sessions()
        assert await value(store, "a") == {"n": 1}


async def test_the_sweeper_sweeps_until_it_is_stopped(
    timed: SessionStore,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL, logger="agent_cores.session.adapters")
    swept, fails = threading.Event(), iter([True, False])
    sweep = timed.sweep_ttl

    def counted() -> int:
        if next(fails, False):
            raise OSError
        removed = sweep()
        if removed:
            swept.set()
        return removed

    monkeypatch.setattr(timed._sweeper, "_sweep", counted)  # noqa: SLF001 - to know when it ran
    await timed.aput(DOCS, "a", {}, ttl=1)
    clock.advance(60)
    future = timed.start_ttl_sweeper(0.0001)
    assert timed.start_ttl_sweeper() is future
    assert await asyncio.to_thread(swept.wait, 30)
    assert await asyncio.to_thread(timed.stop_ttl_sweeper, 30)
    assert future.done()
    again = timed.start_ttl_sweeper(60)
    assert again is not future
    again.cancel()
    assert await asyncio.to_thread(timed.stop_ttl_sweeper, 30)
    assert SessionStore(timed._owner.verbs, user_id="ann").start_ttl_sweeper().done()  # noqa: SLF001
