"""LangGraph's long-term memory: one contract for its memory store and for ours."""
# ruff: noqa: ANN401 - stores of two kinds

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchOp,
)
from langgraph.store.memory import InMemoryStore

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.adapters.langgraph_store import SessionStore
from tests.adapters.conftest import STORES, url_of

DOCS = ("docs", "ann")
THEIRS = "langgraph's own"


@pytest.fixture(params=[THEIRS, *STORES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store of ours, or what stands for LangGraph's."""
    return THEIRS if request.param == THEIRS else url_of(request.param, tmp_path)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Any]:
    """Yield a store of either kind: what a test asserts of both is LangGraph's behaviour."""
    if url == THEIRS:
        yield InMemoryStore()
        return
    async with SessionManager(url, settings=SessionSettings(), any_loop=True) as manager:
        yield SessionStore(manager, user_id="ann")


def keys(found: Any) -> list[str]:
    return [item.key for item in found]


async def test_an_item_is_stored_updated_and_deleted(store: Any) -> None:
    assert await store.aget(DOCS, "a") is None
    await store.aput(DOCS, "a", {"text": "会话", "parts": [1, 2.5, None, {"x": True}]})
    found = await store.aget(DOCS, "a")
    assert found.value == {"text": "会话", "parts": [1, 2.5, None, {"x": True}]}
    assert (found.key, found.namespace) == ("a", DOCS)
    await store.aput(DOCS, "a", {"text": "new"}, index=["text"])
    assert (await store.aget(DOCS, "a")).value == {"text": "new"}
    await store.adelete(DOCS, "a")
    await store.adelete(DOCS, "a")
    assert await store.aget(DOCS, "a") is None
    assert await store.asearch(()) == []


async def test_the_blocking_methods_do_the_same(store: Any) -> None:
    def use() -> None:
        store.put(DOCS, "a", {"n": 1})
        assert store.get(DOCS, "a").value == {"n": 1}
        assert keys(store.search(("docs",), filter={"n": 1})) == ["a"]
        assert store.list_namespaces(prefix=("docs",)) == [DOCS]
        store.delete(DOCS, "a")
        assert store.get(DOCS, "a") is None

    use()
    await asyncio.to_thread(use)


async def test_a_batch_reads_what_was_stored_before_it_and_its_last_put_counts(store: Any) -> None:
    await store.aput(DOCS, "a", {"n": 0})
    await store.aput(DOCS, "gone", {"n": 0})
    results = await store.abatch(
        [
            PutOp(DOCS, "a", {"n": 1}),
            GetOp(DOCS, "a"),
            PutOp(DOCS, "b", {"n": 1}),
            PutOp(("other",), "a", {"n": 9}),
            SearchOp(("docs",)),
            PutOp(DOCS, "gone", {"n": 5}),
            PutOp(DOCS, "a", {"n": 2}),
            PutOp(DOCS, "gone", None),
            ListNamespacesOp(),
            GetOp(DOCS, "missing"),
        ]
    )
    assert [results[place] for place in (0, 2, 3, 5, 6, 7, 9)] == [None] * 7
    assert results[1].value == {"n": 0}
    assert keys(results[4]) == ["a", "gone"]
    assert results[8] == [DOCS]
    found = await store.asearch(())
    assert [(item.key, item.value["n"]) for item in found] == [("a", 2), ("b", 1), ("a", 9)]
    assert await store.abatch([]) == []


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"kind": "x"}, ["a", "c"]),
    ({"kind": {"$eq": "x"}, "n": {"$gt": 1}}, ["c"]),
    ({"kind": {"$ne": "x"}}, ["b"]),
    ({"n": {"$gt": 1}}, ["b", "c"]),
    ({"n": {"$gte": 1, "$lt": 3}}, ["a", "b"]),
    ({"n": {"$lte": "2"}}, ["a", "b"]),
    ({"deep": {"er": {"$gte": 1}}}, ["a"]),
    ({"deep": {"er": 1, "missing": None}}, ["a"]),
    ({"list": [1, {"x": 1}]}, ["b"]),
    ({"list": [1]}, []),
    ({"missing": None}, ["a", "b", "c"]),
    ({"kind": {"$ne": None}}, ["a", "b", "c"]),
    ({}, ["a", "b", "c"]),
]


async def test_a_filter_finds_items_by_value_and_operators(store: Any) -> None:
    values: dict[str, dict[str, Any]] = {
        "a": {"kind": "x", "n": 1, "deep": {"er": 1}},
        "b": {"kind": "y", "n": 2, "list": [1, {"x": 1, "y": 2}]},
        "c": {"kind": "x", "n": 3.5, "deep": 7},
    }
    for key, value in values.items():
        await store.aput(DOCS, key, value)
    for wanted, expected in FILTERS:
        assert keys(await store.asearch(("docs",), filter=wanted)) == expected, wanted
    with pytest.raises(ValueError, match="Unsupported operator: \\$in"):
        await store.asearch(DOCS, filter={"n": {"$in": [1]}})
    found = await store.asearch(DOCS, query="anything", limit=1)
    assert [(item.key, item.score) for item in found] == [("a", None)]


async def test_a_search_pages_through_the_namespaces_below_a_prefix(store: Any) -> None:
    for namespace in (("u", "b"), ("u",), ("u", "a", "x"), ("ua",)):
        for number in range(4):
            await store.aput(namespace, f"k{number}", {"n": number, "at": "/".join(namespace)})
    await store.aput(("u", "b"), "k0", {"n": 0, "at": "updated"})
    await store.adelete(("u", "b"), "k1")
    await store.aput(("u", "b"), "k1", {"n": 1, "at": "again"})
    found = [
        (item.namespace, item.key, item.value["at"])
        for item in await store.asearch(("u",), limit=99)
    ]
    assert found == [
        (("u", "b"), "k0", "updated"),
        (("u", "b"), "k2", "u/b"),
        (("u", "b"), "k3", "u/b"),
        (("u", "b"), "k1", "again"),
        *((("u",), f"k{number}", "u") for number in range(4)),
        *((("u", "a", "x"), f"k{number}", "u/a/x") for number in range(4)),
    ]
    for offset in range(0, 14, 3):
        page = await store.asearch(("u",), limit=3, offset=offset)
        assert [(item.namespace, item.key) for item in page] == [
            each[:2] for each in found[offset : offset + 3]
        ]
    page = await store.asearch(("u",), filter={"n": {"$gt": 1}}, limit=3, offset=2)
    assert [(item.namespace, item.key) for item in page] == [
        (("u",), "k2"),
        (("u",), "k3"),
        (("u", "a", "x"), "k2"),
    ]
    assert len(await store.asearch((), limit=99)) == 16
    assert await store.asearch(("u",), limit=0) == []


async def test_namespaces_of_one_batch_come_in_its_order(store: Any) -> None:
    labels = [f"{number:02}" for number in reversed(range(20))]
    await store.abatch([PutOp((label,), "k", {}) for label in labels])
    assert [item.namespace for item in await store.asearch((), limit=99)] == [
        (label,) for label in labels
    ]


NAMESPACES = [
    ("a", "b", "c"),
    ("a", "b", "d", "e"),
    ("a", "b", "d", "i"),
    ("a", "b", "f"),
    ("a", "c", "f"),
    ("b", "a", "f"),
    ("users", "1", "v1"),
]


async def test_namespaces_are_listed_by_their_ends_in_order(store: Any) -> None:
    for namespace in reversed(NAMESPACES):
        await store.aput(namespace, "k", {})
    assert await store.alist_namespaces() == NAMESPACES
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"prefix": ("a", "b")}, NAMESPACES[:4]),
        (
            {"prefix": ("a", "b"), "max_depth": 3},
            [("a", "b", "c"), ("a", "b", "d"), ("a", "b", "f")],
        ),
        ({"prefix": ("a", "*", "f")}, [("a", "b", "f"), ("a", "c", "f")]),
        ({"prefix": ("*", "a")}, [("b", "a", "f")]),
        ({"suffix": ("f",)}, [("a", "b", "f"), ("a", "c", "f"), ("b", "a", "f")]),
        ({"suffix": ("b", "*")}, [("a", "b", "c"), ("a", "b", "f")]),
        ({"prefix": ("a",), "suffix": ("d", "i")}, [("a", "b", "d", "i")]),
        ({"prefix": ("users", "1", "v1", "x")}, []),
        ({"max_depth": 1, "offset": 1, "limit": 1}, [("b",)]),
        ({"limit": 2, "offset": 3}, NAMESPACES[3:5]),
    ]
    for arguments, expected in cases:
        assert await store.alist_namespaces(**arguments) == expected, arguments
    conditions = (MatchCondition("prefix", ("a", "b")), MatchCondition("prefix", ("a", "*", "d")))
    assert await store.abatch([ListNamespacesOp(conditions)]) == [NAMESPACES[1:3]]


@pytest.mark.parametrize("odd", ["a/b", "..", "x" * 400, "会话", "a:b", "group:x", "%2F", " "])
async def test_odd_names_lead_back(store: Any, odd: str) -> None:
    namespace = (odd.replace(".", "·"), "a:b")
    await store.aput(namespace, odd, {odd: odd})
    await store.aput((*namespace[:1], "a", "b"), odd, {"other": 1})
    [found] = await store.asearch(namespace)
    assert (found.namespace, found.key, found.value) == (namespace, odd, {odd: odd})
    assert (await store.aget(namespace, odd)).value == {odd: odd}
    assert await store.alist_namespaces(suffix=("a:b",)) == [namespace]


async def test_namespaces_may_be_deep(store: Any) -> None:
    deep = tuple(f"label-{number}" for number in range(100))
    await store.aput(deep, "k", {"n": 1})
    await store.aput(deep[:70], "k", {"n": 2})
    assert [item.value["n"] for item in await store.asearch(deep[:80])] == [1]
    assert len(await store.asearch(deep[:70])) == 2
    assert await store.alist_namespaces(prefix=deep[:65], suffix=("label-99",)) == [deep]


async def test_bad_namespaces_and_operations_are_refused(store: Any) -> None:
    for namespace in ((), ("a.b",), ("",), ("langgraph",)):
        with pytest.raises(InvalidNamespaceError):
            await store.aput(namespace, "k", {})
    with pytest.raises(ValueError, match="Unknown operation type"):
        await store.abatch(["what"])


LABELS = st.lists(st.sampled_from("ab*"), min_size=1, max_size=3).map(tuple)
KEYS = st.sampled_from("xyz")
VALUES = st.one_of(
    st.none(),
    st.fixed_dictionaries({"n": st.integers(0, 3), "s": st.sampled_from(["1", "p"])}),
)
WANTED = st.one_of(
    st.none(),
    st.fixed_dictionaries({"n": st.integers(0, 3)}),
    st.fixed_dictionaries(
        {
            "n": st.dictionaries(
                st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), st.integers(0, 3)
            )
        }
    ),
    st.fixed_dictionaries({"s": st.sampled_from(["1", "p"])}),
)
PATHS = st.lists(st.sampled_from("ab*"), max_size=3).map(tuple)
OPS = st.one_of(
    st.builds(PutOp, LABELS, KEYS, VALUES, st.none(), st.none()),
    st.builds(GetOp, LABELS, KEYS, st.just(True)),
    st.builds(SearchOp, PATHS, WANTED, st.integers(0, 5), st.integers(0, 3), st.none()),
    st.builds(
        ListNamespacesOp,
        st.lists(
            st.builds(MatchCondition, st.sampled_from(["prefix", "suffix"]), PATHS), max_size=2
        ).map(tuple),
        st.one_of(st.none(), st.integers(1, 3)),
        st.integers(1, 9),
        st.integers(0, 2),
    ),
)


class _Data(dict[Any, Any]):
    def __missing__(self, namespace: Any) -> dict[str, Any]:
        return {}


class _Memory(InMemoryStore):
    """LangGraph's memory store; a namespace that was only read, or is empty, is not listed."""

    def __init__(self) -> None:
        super().__init__()
        self._data = _Data()

    def _apply_put_ops(self, put_ops: Any) -> None:
        for namespace, key in put_ops:
            if put_ops[namespace, key].value is not None:
                self._data.setdefault(namespace, {})
        super()._apply_put_ops(put_ops)

    def _handle_list_namespaces(self, op: Any) -> Any:
        kept = self._data
        self._data = _Data((namespace, items) for namespace, items in kept.items() if items)
        try:
            return super()._handle_list_namespaces(op)
        finally:
            self._data = kept


def plain(result: Any) -> Any:
    """Return a result without its times."""
    if isinstance(result, list):
        return [plain(each) for each in result]
    if result is None or isinstance(result, tuple):
        return result
    return (result.namespace, result.key, result.value)


@example([[PutOp(("b",), "x", None), PutOp(("a",), "x", {"n": 0}), PutOp(("b",), "y", {"n": 0})]])
@given(batches=st.lists(st.lists(OPS, max_size=6), max_size=16))
@settings(max_examples=50)
async def test_random_use_is_that_of_its_memory_store(batches: list[list[Any]]) -> None:
    everything = SearchOp((), None, 100)
    async with SessionManager("memory://") as manager:
        ours, theirs = SessionStore(manager, user_id="ann"), _Memory()
        for batch in [*batches, [everything]]:
            assert plain(await ours.abatch(batch)) == plain(theirs.batch(batch))
