"""LangGraph's long-term memory in our store: what is stored, owners, attacks, many writers."""
# ruff: noqa: ANN401 - LangGraph's values, and methods that stand in for ours

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.store.base import (
    BaseStore,
    GetOp,
    InvalidNamespaceError,
    Item,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph_store import SessionStore
from agent_cores.session.errors import (
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    SessionArchivedError,
    SessionExistsError,
)
from agent_cores.session.testing.clock import ManualClock

DOCS = ("docs", "ann")
SESSION = "langgraph-store:ann:docs:ann"


@pytest.fixture
def store(manager: SessionManager) -> SessionStore:
    return SessionStore(manager, user_id="ann")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def value(store: SessionStore, key: str = "a", namespace: tuple[str, ...] = DOCS) -> Any:
    found = await store.aget(namespace, key)
    return None if found is None else found.value


def keys(found: list[Any]) -> list[str]:
    return [item.key for item in found]


# ── what is stored ───────────────────────────────────────────────────────────────────────────────


async def test_an_update_keeps_when_an_item_was_created(
    manager: SessionManager, clock: ManualClock
) -> None:
    store = SessionStore(manager, user_id="ann", clock=clock)
    first = clock()
    await store.aput(DOCS, "a", {"n": 1})
    second = clock.advance(60)
    await store.aput(DOCS, "a", {"n": 1})  # the same value is a write too
    found = await store.aget(DOCS, "a")
    assert found is not None
    assert (found.created_at, found.updated_at) == (first, second)
    await store.adelete(DOCS, "a")
    await store.aput(DOCS, "a", {"n": 1})
    found = await store.aget(DOCS, "a")
    assert found is not None
    assert (found.created_at, found.updated_at) == (second, second)


async def test_an_item_is_one_message_and_its_session_never_expires(
    store: SessionStore, manager: SessionManager
) -> None:
    for number in range(3):
        await store.aput(DOCS, "a", {"n": number}, ttl=1)
    [message] = await manager.get_session_messages(SESSION, "ann")
    assert (message.id, message.seq) == ("a", 1)
    session = await manager.get_session(SESSION, "ann")
    assert session.metadata.expires_at is None
    assert session.metadata.tags == (
        "langgraph-store",
        "langgraph-store:docs",
        "langgraph-store:docs:ann",
        "langgraph-store-ttl",
    )


@pytest.mark.parametrize("count", [1_500])
async def test_many_items_are_put_in_few_writes_and_updated_in_a_batch(
    store: SessionStore, manager: SessionManager, count: int
) -> None:
    await store.abatch([PutOp(DOCS, f"k{n}", {"n": n}) for n in range(count)])
    await store.abatch([PutOp(DOCS, f"k{n}", {"n": -n}) for n in range(1_450, count + 20)])
    session = await manager.get_session(SESSION, "ann", message_limit=0)
    assert session.metadata.message_count == count + 20
    found = await store.asearch(DOCS, limit=2_000)
    expected = [(f"k{n}", {"n": n if n < 1_450 else -n}) for n in range(count + 20)]
    assert [(item.key, item.value) for item in found] == expected
    found = await store.asearch(DOCS, filter={"n": {"$lt": -1_500}}, limit=5, offset=2)
    assert keys(found) == [f"k{n}" for n in range(1_503, 1_508)]
    await store.abatch([PutOp(DOCS, f"k{n}", None) for n in range(count + 20)])
    assert await store.alist_namespaces() == []


async def test_large_items_are_split_into_several_writes(store: SessionStore) -> None:
    text = "x" * 900_000
    await store.abatch([PutOp(DOCS, f"k{n}", {"text": text}) for n in range(12)])
    found = await store.abatch([GetOp(DOCS, f"k{n}") for n in range(12)])
    assert [item.value["text"] == text for item in found if isinstance(item, Item)] == [True] * 12
    assert len(await store.asearch(DOCS, filter={"text": text}, limit=12)) == 12


@pytest.mark.parametrize("wrong", [{"x": "y" * 1_100_000}, {"x": object()}, {"x": float("nan")}])
async def test_what_is_too_large_or_no_json_is_refused(
    store: SessionStore, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        await store.aput(DOCS, "a", wrong)
    with pytest.raises(InvalidInputError):
        await store.abatch([PutOp(DOCS, "a", wrong), PutOp(DOCS, "b", {})])
    assert await store.asearch(()) == []


async def test_values_without_an_order_do_not_match(store: SessionStore) -> None:
    for key, each in {"text": "2026-01-01", "none": None, "number": 5, "list": [1]}.items():
        await store.aput(DOCS, key, {"v": each})
    await store.aput(DOCS, "missing", {})
    assert keys(await store.asearch(DOCS, filter={"v": {"$gt": 4}})) == ["number"]
    assert keys(await store.asearch(DOCS, filter={"v": {"$gte": "2025-06-01"}})) == ["text"]
    assert keys(await store.asearch(DOCS, filter={"v": {"$lt": "2025-06-01"}})) == []


async def test_a_search_op_reads_what_its_prefix_holds_and_nothing_else(
    store: SessionStore, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        await store.aput(("other", str(number)), "a", {})
    for number in range(3):
        await store.aput((*DOCS, str(number)), "a", {"n": number})
    read: list[str] = []
    listed: list[int] = []
    list_user_sessions, messages = manager.list_user_sessions, manager.get_session_messages

    async def counted_list(*args: Any, **kwargs: Any) -> Any:
        page = await list_user_sessions(*args, **kwargs)
        listed.append(len(page))
        return page

    async def counted_read(session_id: str, *args: Any, **kwargs: Any) -> Any:
        read.append(session_id)
        return await messages(session_id, *args, **kwargs)

    monkeypatch.setattr(manager, "list_user_sessions", counted_list)
    monkeypatch.setattr(manager, "get_session_messages", counted_read)
    [found] = await store.abatch([SearchOp(DOCS, {"n": 1})])
    assert isinstance(found, list)
    assert len(found) == 1
    assert await store.alist_namespaces(prefix=("docs",)) == [(*DOCS, str(n)) for n in range(3)]
    assert listed == [3, 3]
    assert sorted(read) == [f"{SESSION}:{number}" for number in range(3)]


@pytest.mark.parametrize("labels", [("a.b",), ("a", ""), ("a", 1), ("a\x00",)])
async def test_a_batch_refuses_the_labels_that_methods_refuse(
    store: SessionStore, labels: Any
) -> None:
    for op in (
        GetOp(labels, "a"),
        PutOp(labels, "a", {}),
        PutOp(labels, "a", None),
        SearchOp(labels),
        ListNamespacesOp((MatchCondition("prefix", labels),)),
        ListNamespacesOp((MatchCondition("suffix", labels),)),
    ):
        with pytest.raises(InvalidNamespaceError):
            await store.abatch([PutOp(DOCS, "a", {}), op])
    assert await store.asearch(()) == []


# ── whose it is ──────────────────────────────────────────────────────────────────────────────────


class State(TypedDict):
    """What a graph was told to remember."""

    said: str


async def test_the_user_of_a_run_owns_its_items(manager: SessionManager) -> None:
    def user_of(config: Any) -> str:
        return "nobody" if config is None else str(config["configurable"]["user"])

    async def remember(state: State, *, store: BaseStore) -> State:
        await store.aput(("memories",), "last", {"said": state["said"]})
        await asyncio.to_thread(store.put, ("memories",), "blocking", {"said": state["said"]})
        return state

    built = StateGraph(State)
    built.add_node("remember", remember)
    built.add_edge(START, "remember")
    built.add_edge("remember", END)
    store = SessionStore(manager, user_id=user_of)
    app = built.compile(store=store)
    for user in ("ann", "bob"):
        config: RunnableConfig = {"configurable": {"user": user}}
        await app.ainvoke({"said": f"I am {user}"}, config)
    assert await store.asearch(()) == []
    for user in ("ann", "bob"):
        found = await SessionStore(manager, user_id=user).asearch(())
        assert [(item.key, item.value) for item in found] == [
            ("last", {"said": f"I am {user}"}),
            ("blocking", {"said": f"I am {user}"}),
        ]
    assert (await manager.erase_user("ann")).sessions == 1
    assert await SessionStore(manager, user_id="ann").asearch(()) == []


async def test_an_operators_items_belong_to_the_user_of_that_name(manager: SessionManager) -> None:
    await SessionStore(manager, operator="memory").aput(DOCS, "a", {"n": 1})
    assert await value(SessionStore(manager, operator="memory")) == {"n": 1}
    assert await value(SessionStore(manager, user_id="memory")) == {"n": 1}
    assert await value(SessionStore(manager, user_id="ann")) is None


async def test_a_namespace_that_somebody_else_made_is_neither_read_nor_written(
    store: SessionStore, manager: SessionManager
) -> None:
    eves = SessionStore(manager, user_id="eve")
    await eves.aput(DOCS, "a", {"forged": True})
    [forged] = await manager.get_session_messages("langgraph-store:eve:docs:ann", "eve")
    metadata = {"tags": ["langgraph-store"], "langgraph_namespace": [*DOCS]}
    await manager.create_session("eve", metadata, session_id=SESSION)
    batch = [{"id": forged.id, "role": forged.role, "content": forged.content}]
    await manager.add_messages(SESSION, "eve", batch)
    await manager.share_session(SESSION, "eve", "ann", role="editor")
    assert await value(store) is None
    assert await store.asearch(()) == []
    assert await store.alist_namespaces() == []
    with pytest.raises(SessionExistsError):
        await store.aput(DOCS, "b", {})
    assert await value(eves) == {"forged": True}


async def test_an_item_that_a_guest_wrote_is_neither_read_nor_updated(
    store: SessionStore, manager: SessionManager
) -> None:
    await store.aput(DOCS, "a", {"n": 1})
    await manager.share_session(SESSION, "ann", "eve", role="editor")
    [message] = await manager.get_session_messages(SESSION, "ann")
    content = {**message.content, "key": "b", "value": {"forged": 1}}  # type: ignore[dict-item]
    await manager.add_message(SESSION, "eve", "item", content, message_id="b")
    assert await value(store, "b") is None
    assert keys(await store.asearch(())) == ["a"]
    with pytest.raises(ConflictError, match="somebody else"):
        await store.aput(DOCS, "b", {"n": 2})
    await store.adelete(DOCS, "b")
    await store.aput(DOCS, "b", {"n": 2})
    assert await value(store, "b") == {"n": 2}


async def test_a_copy_of_a_namespace_is_no_namespace(
    store: SessionStore, manager: SessionManager
) -> None:
    await store.aput(DOCS, "a", {"n": 1})
    await manager.fork_session(SESSION, "ann")
    assert keys(await store.asearch(())) == ["a"]
    assert await store.alist_namespaces() == [DOCS]


async def test_a_session_whose_labels_are_no_texts_is_no_namespace(
    store: SessionStore, manager: SessionManager
) -> None:
    await store.aput(DOCS, "a", {"n": 1})
    odd = {"tags": ["langgraph-store"], "langgraph_namespace": [1]}
    await manager.create_session("ann", odd)
    assert keys(await store.asearch(())) == ["a"]
    assert await store.alist_namespaces() == [DOCS]


async def test_a_namespace_that_was_deleted_or_archived_meanwhile(
    store: SessionStore, manager: SessionManager
) -> None:
    await store.aput(DOCS, "a", {"n": 1}, ttl=1)
    await manager.delete_session(SESSION, "ann")
    await store.adelete(DOCS, "a")
    assert await value(store) is None
    await store.aput(DOCS, "a", {"n": 2}, ttl=1)
    assert await value(store) == {"n": 2}
    await manager.archive_session(SESSION, "ann")
    assert await value(store) == {"n": 2}
    with pytest.raises(SessionArchivedError):
        await store.aput(DOCS, "a", {"n": 3})


# ── concurrent writers ───────────────────────────────────────────────────────────────────────────


async def test_puts_of_one_key_neither_fail_nor_double(
    store_url: str, manager: SessionManager
) -> None:
    url = store_url
    other = manager if url == "memory://" else SessionManager(url, any_loop=True)
    stores = [SessionStore(each, user_id="ann") for each in (manager, other)]
    try:

        async def write(writer: int) -> None:
            for number in range(10):
                await stores[writer % 2].aput(DOCS, "a", {"writer": writer, "number": number})

        await asyncio.gather(*map(write, range(6)))
        [found] = await stores[0].asearch(())
        assert found.value["number"] == 9
        await stores[1].aput(DOCS, "a", {"last": True})
        assert await value(stores[0]) == {"last": True}
        batch = [PutOp(DOCS, f"k{n}", {"n": n}) for n in range(30)]
        await asyncio.gather(*(each.abatch(batch[first:]) for first in (0, 7) for each in stores))
        assert sorted(keys(await stores[1].asearch(DOCS, limit=99))) == sorted(
            ["a", *(f"k{n}" for n in range(30))]
        )
    finally:
        if other is not manager:
            await other.shutdown()


async def test_puts_and_deletes_of_one_key_end_with_the_last(store: SessionStore) -> None:
    async def churn(writer: int) -> None:
        for number in range(8):
            if (writer + number) % 3:
                await store.aput(DOCS, "a", {"writer": writer})
            else:
                await store.adelete(DOCS, "a")

    await asyncio.gather(*map(churn, range(6)))
    assert len(await store.asearch(())) <= 1
    await store.aput(DOCS, "a", {"last": True})
    assert await value(store) == {"last": True}


async def test_loops_and_threads_share_a_store(store: SessionStore) -> None:
    def work(name: int) -> None:
        async def run() -> None:
            for number in range(5):
                await store.aput(("loops", str(name % 2)), f"{name}-{number}", {"n": number})

        asyncio.run(run())
        store.put(("loops", "blocking"), str(name), {})

    await asyncio.gather(*(asyncio.to_thread(work, name) for name in range(4)))
    assert len(await store.asearch(("loops",), limit=99)) == 24
    assert len(await store.alist_namespaces(prefix=("loops",))) == 3


async def test_a_manager_of_one_loop_refuses_blocking_methods() -> None:
    async with SessionManager("memory://") as manager:
        store = SessionStore(manager, user_id="ann", ttl={})
        await store.aput(DOCS, "a", {"n": 1})
        assert await value(store) == {"n": 1}
        for call in (lambda: store.get(DOCS, "a"), store.sweep_ttl, store.start_ttl_sweeper):
            with pytest.raises(ConfigurationError, match="any_loop=True"):
                call()


async def test_the_example_of_a_memory_runs(
    store_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent_cores.session.examples.langgraph_memory import main

    await main(store_url)
    assert capsys.readouterr().out.splitlines() == [
        "You love Rome.",
        "You love Rome, Bergen.",
        "You love Rome, Bergen.",
    ]
