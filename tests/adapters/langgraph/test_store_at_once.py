"""Many operations of ``SessionStore`` at the same moment: few writes, each with its own outcome."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from langgraph.store.base import GetOp, Item, PutOp

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph_store import SessionStore
from agent_cores.session.errors import ConflictError, InvalidInputError

DOCS = ("docs", "ann")
SESSION = "langgraph-store:ann:docs:ann"
COUNT = 1_200
VERBS = ("open_session", "add_messages", "get_messages", "delete_messages", "update_message")


@pytest.fixture
def store(manager: SessionManager) -> SessionStore:
    return SessionStore(manager, user_id="ann")


@pytest.fixture
def called(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how often each verb was called, and the most updates at a time."""
    counts: Counter[str] = Counter()
    running: Counter[str] = Counter()

    def counted(name: str) -> Any:
        verb = getattr(manager, name)

        async def call(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            running[name] += 1
            counts[f"most {name}"] = max(counts[f"most {name}"], running[name])
            try:
                await asyncio.sleep(0)  # in memory nothing else does
                return await verb(*args, **options)
            finally:
                running[name] -= 1

        return call

    for name in VERBS:
        monkeypatch.setattr(manager, name, counted(name))
    return counts


async def values(store: SessionStore) -> dict[str, Any]:
    return {each.key: each.value["n"] for each in await store.asearch(DOCS, limit=9_999)}


async def test_operations_of_one_moment_are_done_as_one(
    store: SessionStore, called: Counter[str]
) -> None:
    numbers = range(COUNT)
    await asyncio.gather(*(store.aput(DOCS, f"k{n}", {"n": n}) for n in numbers))
    assert (called["open_session"], called["add_messages"]) == (1, 2)
    found = await asyncio.gather(*(store.aget(DOCS, f"k{n}") for n in numbers))
    assert called["get_messages"] == 2
    assert [each and each.value["n"] for each in found] == list(numbers)
    await asyncio.gather(*(store.adelete(DOCS, f"k{n}") for n in numbers))
    assert called["delete_messages"] == 2
    assert await values(store) == {}


async def test_items_that_are_stored_are_updated_at_the_same_time(
    store: SessionStore, called: Counter[str]
) -> None:
    await store.abatch([PutOp(DOCS, f"k{n}", {"n": n}) for n in range(300)])
    await store.abatch([PutOp(DOCS, f"k{n}", {"n": -n}) for n in range(300)])
    assert called["update_message"] == 300
    assert 50 < called["most update_message"] <= 100
    assert await values(store) == {f"k{n}": -n for n in range(300)}


async def test_of_puts_of_one_key_at_one_moment_the_last_counts(store: SessionStore) -> None:
    puts = [store.aput(DOCS, f"k{n % 7}", {"n": n}) for n in range(60)]
    await asyncio.gather(*puts, store.adelete(DOCS, "k0"))
    assert await values(store) == {f"k{n % 7}": n for n in range(53, 60) if n % 7}
    with_ends = [store.aput(DOCS, "k1", {"n": 1}), store.adelete(DOCS, "k1")]
    await asyncio.gather(*with_ends, store.aput(DOCS, "k1", {"n": 2}))
    assert (await values(store))["k1"] == 2


async def test_what_is_wrong_with_one_fails_no_other(
    store: SessionStore, manager: SessionManager
) -> None:
    await store.aput(DOCS, "first", {"n": 0})
    await manager.share_session(SESSION, "ann", "eve", role="editor")
    await manager.add_message(SESSION, "eve", "item", "mine", message_id="k2")
    wrong: dict[int, Any] = {1: object(), 4: "x" * 1_100_000}
    puts = (store.aput(DOCS, f"k{n}", {"n": wrong.get(n, n)}) for n in range(6))
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert [type(each) for each in outcomes] == [
        type(None),
        InvalidInputError,
        ConflictError,
        type(None),
        InvalidInputError,
        type(None),
    ]
    assert await values(store) == {"first": 0, "k0": 0, "k3": 3, "k5": 5}


@pytest.mark.parametrize("steps", range(6))
async def test_a_cancelled_call_takes_no_other_along(store: SessionStore, steps: int) -> None:
    tasks = [asyncio.ensure_future(store.aput(DOCS, f"k{n}", {"n": n})) for n in range(5)]
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in (tasks[0], tasks[3]):  # the first leads the others
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcomes[n] for n in (1, 2, 4)] == [None] * 3
    stored = await values(store)
    assert {"k1": 1, "k2": 2, "k4": 4}.items() <= stored.items()
    for task in [asyncio.ensure_future(store.aput(DOCS, f"k{n}", {"n": n})) for n in range(5)]:
        task.cancel()
    await store.aput(DOCS, "last", {"n": 9})
    assert (await values(store))["last"] == 9


async def test_gets_of_one_moment_return_the_same_item_to_each(store: SessionStore) -> None:
    await store.aput(DOCS, "a", {"n": 1})
    gets = (store.aget(DOCS, key) for key in ("a", "b", "a", "a"))
    found = await asyncio.gather(*gets)
    assert [each and each.value for each in found] == [{"n": 1}, None, {"n": 1}, {"n": 1}]
    [one] = await store.abatch([GetOp(DOCS, "a")])
    assert isinstance(one, Item)


async def test_an_operation_that_cannot_join_others_leaves_none_waiting(
    store: SessionStore,
) -> None:
    await store.aput(DOCS, "a", {"n": 1})
    labels: Any = list(DOCS)
    assert await store.aget(labels, "a") == await store.aget(DOCS, "a")
    unhashable: Any = []
    with pytest.raises(TypeError):
        await store.abatch([GetOp(DOCS, "a", refresh_ttl=unhashable)])
    with pytest.raises(InvalidInputError, match="key: must be text, not list"):
        await store.abatch([PutOp(DOCS, unhashable, {"n": 2})])
    async with asyncio.timeout(5):
        await store.aput(DOCS, "a", {"n": 3})
        found = await store.aget(DOCS, "a")
    assert found is not None
    assert found.value == {"n": 3}
