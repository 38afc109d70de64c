"""What a user wrote or changed by hand in the namespaces of ``SessionStore``: it stops nothing."""
# ruff: noqa: ANN401 - any JSON

from __future__ import annotations

from typing import Any

import pytest
from langgraph.store.base import PutOp

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph_store import SessionStore

DOCS = ("docs", "ann")
SESSION = "langgraph-store:ann:docs:ann"
TIME = "2026-01-01T00:00:00+00:00"
GOOD: dict[str, Any] = {"key": "b", "value": {}, "created_at": TIME, "updated_at": TIME}
ODD: dict[str, Any] = {
    "text": "hello",
    "nothing": None,
    "list": [1],
    "empty": {},
    "no key": {**GOOD, "key": None},
    "another key": {**GOOD, "key": "c"},
    "no value": {**GOOD, "value": "text"},
    "no time": {**GOOD, "updated_at": "yesterday"},
    "a number as time": {**GOOD, "created_at": 5},
    "a time without zone": {**GOOD, "updated_at": "2026-01-01T00:00:00"},
    "a text as ttl": {**GOOD, "ttl": "long"},
    "a ttl beyond arithmetic": {**GOOD, "ttl": 10**400},
    "true as ttl": {**GOOD, "ttl": True},
}


@pytest.fixture
async def store(manager: SessionManager) -> SessionStore:
    store = SessionStore(manager, user_id="ann")
    await store.aput(DOCS, "a", {"n": 1}, ttl=5)
    return store


async def everything(store: SessionStore) -> list[tuple[str, Any]]:
    assert await store.alist_namespaces() == [DOCS]
    assert await store.asweep_ttl() == 0
    found = await store.asearch((), limit=99)
    filtered = await store.asearch(DOCS, filter={"n": {"$gte": 0}}, limit=99)
    assert [each.key for each in filtered] == [each.key for each in found]
    return [(each.key, each.value) for each in found]


@pytest.mark.parametrize("role", ["item", "note"])
@pytest.mark.parametrize("odd", ODD)
async def test_a_message_of_another_shape_is_no_item_and_keeps_no_key(
    store: SessionStore, manager: SessionManager, odd: str, role: str
) -> None:
    for _ in range(2):
        await manager.add_message(SESSION, "ann", role, ODD[odd], message_id="b")
        assert await store.aget(DOCS, "b") is None
        assert await everything(store) == [("a", {"n": 1})]
        await store.adelete(DOCS, "b")
        await manager.add_message(SESSION, "ann", role, ODD[odd], message_id="b")
        await store.abatch([PutOp(DOCS, "b", {"n": 2}), PutOp(DOCS, "c", {"n": 3})])
        await store.aput(DOCS, "b", {"n": 4})
        assert dict(await everything(store)) == {"a": {"n": 1}, "b": {"n": 4}, "c": {"n": 3}}
        await store.abatch([PutOp(DOCS, "b", None), PutOp(DOCS, "c", None)])
        assert await everything(store) == [("a", {"n": 1})]


@pytest.mark.parametrize("read_at", ["yesterday", 5, None, "2026-01-01T00:00:00", {"a": 1}])
async def test_an_odd_time_of_a_read_counts_as_none(
    store: SessionStore, manager: SessionManager, read_at: Any
) -> None:
    await manager.update_message(SESSION, "ann", 1, metadata_updates={"read_at": read_at})
    assert await everything(store) == [("a", {"n": 1})]
    assert await store.aget(DOCS, "a") is not None


@pytest.mark.parametrize("order", ["first", None, True, 10**30, 1.5, [1]])
async def test_an_odd_place_of_a_namespace_hides_none(
    store: SessionStore, manager: SessionManager, order: Any
) -> None:
    await store.aput(("other",), "x", {"n": 2})
    updates = {"langgraph_order": order}
    await manager.update_session(SESSION, "ann", metadata_updates=updates)
    assert sorted([each.key for each in await store.asearch(())]) == ["a", "x"]
    assert await store.alist_namespaces() == [DOCS, ("other",)]


async def test_tags_that_a_user_added_leave_room_for_a_ttl(manager: SessionManager) -> None:
    store = SessionStore(manager, user_id="ann")
    await store.aput(DOCS, "a", {"n": 1})
    session = await manager.get_session(SESSION, "ann")
    added = [f"mine-{number}" for number in range(64 - len(session.metadata.tags))]
    tags = {"tags": [*session.metadata.tags, *added]}
    await manager.update_session(SESSION, "ann", metadata_updates=tags)
    await store.aput(DOCS, "b", {"n": 2}, ttl=5)
    assert await everything(store) == [("a", {"n": 1}), ("b", {"n": 2})]
