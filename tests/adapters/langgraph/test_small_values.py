"""Small values are in the message of their checkpoint, and of those that come after it."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.adapters.langgraph.known import Held, Known
from agent_cores.session.adapters.layouts.langgraph import Record
from agent_cores.session.errors import InvalidInputError
from tests.adapters.langgraph.test_checkpointer import THREAD, checkpoint, put


class Said(TypedDict):
    said: Annotated[list[str], operator.add]


def _app(saver: SessionSaver) -> Any:
    builder = StateGraph(Said)
    builder.add_node("first", lambda _: {"said": ["first"]})
    builder.add_node("second", lambda _: {"said": ["second"]})
    builder.add_edge(START, "first")
    builder.add_edge("first", "second")
    return builder.compile(checkpointer=saver)


@pytest.fixture
def saver(manager: SessionManager) -> SessionSaver:
    return SessionSaver(manager, user_id="ann")


async def test_small_values_come_with_their_checkpoint(
    saver: SessionSaver, manager: SessionManager
) -> None:
    config, made = THREAD, checkpoint(**{str(size): "x" * size for size in range(0, 1_500, 10)})
    new = dict(made["channel_versions"])
    savers = [saver, SessionSaver(manager, user_id="ann")]
    for n in range(1, 8):
        config = await savers[n % 3 % 2].aput(config, made, {}, new)
        found = await saver.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"] == made["channel_values"]
        new = dict.fromkeys(list(new)[n % 2 :: 2], f"later {n}")
        values = {**made["channel_values"], **{channel: [n, channel] for channel in new}}
        versions = {**made["channel_versions"], **new}
        made = {**made, "id": str(uuid6()), "channel_values": values, "channel_versions": versions}


async def test_a_put_of_small_values_is_one_write(
    saver: SessionSaver, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = await put(saver, THREAD, checkpoint(a=1, b=2))
    writes: list[Any] = []

    def counted(verb: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            writes.append(args)
            return verb(*args, **options)

        return call

    for name in ("add_message", "add_messages"):
        monkeypatch.setattr(manager, name, counted(getattr(manager, name)))
    await put(saver, config, checkpoint(a=3, b=2))
    assert len(writes) == 1


async def test_a_namespace_with_a_lone_surrogate_is_refused(saver: SessionSaver) -> None:
    config: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": "\ud800"}}
    for value in (1, "x" * 5_000):
        with pytest.raises(InvalidInputError, match="lone surrogate"):
            await put(saver, config, checkpoint(a=value))


@pytest.mark.parametrize("size", [10, 5_000])
async def test_a_put_after_a_parent_whose_thread_somebody_made_anew_holds_all_values(
    saver: SessionSaver, manager: SessionManager, size: int
) -> None:
    config = await put(saver, THREAD, made := checkpoint(a="x" * size))
    other = SessionSaver(manager, user_id="ann")
    await other.adelete_thread("talk")
    await put(other, THREAD, checkpoint(b=1))  # at the same seq
    values = {**made["channel_values"], "c": 3}
    versions = {**made["channel_versions"], "c": "1"}
    later = {**checkpoint(**values), "channel_versions": versions}
    found = await saver.aget_tuple(await saver.aput(config, later, {}, {"c": "1"}))
    assert found is not None
    assert found.checkpoint["channel_values"] == values


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("sizes", [(10, 10), (10, 5_000), (5_000, 5_000)])
@pytest.mark.parametrize("parents", [0, 1, 2])
async def test_a_checkpoint_holds_values_that_are_neither_new_nor_its_parents(
    saver: SessionSaver,
    manager: SessionManager,
    is_known: bool,
    sizes: tuple[int, int],
    parents: int,
) -> None:
    """So LangGraph copies one: it has the parent of what is copied, and no new versions."""
    parent = config = THREAD
    made, versions, values = checkpoint(), dict[str, str](), dict[str, str]()
    for n in range(parents + 1):
        parent, new = config, {"a": str(n), f"only {n}": "1"}
        versions = {**versions, **new}
        values = {**values, **{each: each * sizes[n % 2] for each in new}}
        made = {**checkpoint(**values), "channel_versions": versions}
        config = await saver.aput(parent, made, {}, new)
    copier = saver if is_known else SessionSaver(manager, user_id="ann")
    copy = {**made, "id": str(uuid6())}
    copied = await copier.aput(parent, copy, {}, {})
    for read in (saver, copier):
        found = await read.aget_tuple(copied)
        assert found is not None
        assert found.checkpoint["channel_values"] == values


async def test_a_graph_goes_on_from_the_copy_of_a_state(saver: SessionSaver) -> None:
    app = _app(saver)
    await app.ainvoke({"said": ["hello"]}, THREAD)
    before_the_end = [state async for state in app.aget_state_history(THREAD) if state.next]
    for state in before_the_end:
        copied = await app.aupdate_state(state.config, None, as_node="__copy__")
        assert (await app.aget_state(copied)).values == state.values
        assert (await app.ainvoke(None, copied))["said"] == ["hello", "first", "second"]


async def test_small_values_of_a_copy_outlast_what_a_saver_knew_of_its_target(
    saver: SessionSaver, manager: SessionManager
) -> None:
    source: Any = {"configurable": {"thread_id": "source", "checkpoint_ns": ""}}
    copier, name = SessionSaver(manager, user_id="ann"), str(uuid6())
    old, new = ({**checkpoint(a=n), "id": name, "channel_versions": {"a": str(n)}} for n in (1, 2))
    await copier.aput(source, new, {}, {"a": "2"})
    await saver.aput(THREAD, old, {}, {"a": "1"})
    await copier.acopy_thread("source", "talk")
    copied = await saver.aget_tuple(THREAD)
    assert copied is not None
    later = {**copied.checkpoint, "id": str(uuid6())}
    found = await saver.aget_tuple(await saver.aput(copied.config, later, {}, {}))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"a": 2}


def test_what_a_saver_knows_of_small_values_is_bounded() -> None:
    known = Known()
    carried = {(f"channel {n}", "1"): ("msgpack", "AQ==") for n in range(99)}
    parent, child = (
        Record("", name, before, {}, {}, 1) for name, before in (("1", None), ("2", "1"))
    )
    for _ in range(2):  # what is forgotten, or put again, counts no more
        for n in range(1_000):
            held = Held(carried, frozenset({("large", "1")}))
            known.put(f"log {n}", parent, held, 1, "version")
        kept = [n for n in range(1_000) if known.followed_by(f"log {n}", child)]
        assert 0 < len(kept) <= 200
        for n in kept:
            known.forget_log(f"log {n}")
