"""What ``prune`` and ``delete_for_runs`` remove, and what no order of calls makes them remove."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.errors import ConflictError
from tests.adapters.langgraph.stepped import interleaved

THREAD: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}


def value(number: int, large: bool) -> Any:
    """Return one that comes with its checkpoint, or one that does not."""
    return [number, "x" * 2_000] if large else number


async def put(
    saver: SessionSaver, parent: Any, run: str = "run", deltas: Any = None, **new: Any
) -> Any:
    """Put a checkpoint that adds values to those of its parent; return its config."""
    made = empty_checkpoint()
    made["id"] = str(uuid6())
    found = await saver.aget_tuple(parent) if "checkpoint_id" in parent["configurable"] else None
    if found is not None:
        made["channel_values"] = dict(found.checkpoint["channel_values"])
        made["channel_versions"] = dict(found.checkpoint["channel_versions"])
    made["channel_values"].update(new)
    for channel in deltas or ():  # LangGraph gives no value of these
        made["channel_values"].pop(channel, None)
    versions = {channel: f"{channel}.{made['id']}" for channel in new}
    made["channel_versions"].update({**versions, **dict.fromkeys(deltas or (), "1")})
    metadata: Any = {"run_id": run, "counters_since_delta_snapshot": deltas or {}}
    return await saver.aput(parent, made, metadata, versions)


async def all_values(saver: SessionSaver, config: Any = THREAD) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    async for each in saver.alist(config):
        found[each.config["configurable"]["checkpoint_id"]] = each.checkpoint["channel_values"]
        missing = each.checkpoint["channel_versions"].keys() - each.checkpoint["channel_values"]
        missing -= {"d"}  # the delta channel
        assert not missing, "a checkpoint without the values that it names"
    return found


async def has_ancestors(saver: SessionSaver, config: Any) -> bool:
    """Return whether a checkpoint is there with all its ancestors."""
    while config is not None:
        found = await saver.aget_tuple(config)
        if found is None:
            return False
        config = found.parent_config
    return True


async def run_from(saver: SessionSaver, config: Any, deltas: dict[str, Any], *, large: bool) -> Any:
    """Put two checkpoints after one; return the config of the last, ``None`` if there is none."""
    read = await saver.aget_tuple(config)
    if read is None:
        return None
    values = dict(read.checkpoint["channel_values"])
    versions = {**read.checkpoint["channel_versions"], **dict.fromkeys(deltas, "1")}
    for n in range(10, 12):
        made = empty_checkpoint()
        made["id"] = str(uuid6())
        values["c"], versions["c"] = value(n, large), f"c.{made['id']}"
        made["channel_values"], made["channel_versions"] = dict(values), dict(versions)
        metadata: Any = {"run_id": "new", "counters_since_delta_snapshot": deltas}
        config = await saver.aput(config, made, metadata, {"c": versions["c"]})
        await saver.aput_writes(config, [("a", n)], "task")
    return config


async def remove(saver: SessionSaver, *, prunes: bool) -> None:
    if prunes:
        await saver.aprune(["talk"])
    else:
        await saver.adelete_for_runs(["old"])


def in_turns(turns: list[int]) -> list[int]:
    return [place % 2 for place, calls in enumerate(turns) for _ in range(calls)]


TURNS = st.lists(st.integers(1, 12), max_size=5)


@given(
    turns=TURNS,
    fork=st.integers(0, 2),
    prunes=st.booleans(),
    has_delta=st.booleans(),
    large=st.lists(st.booleans(), min_size=3, max_size=3),
)
@settings(max_examples=60)
async def test_no_order_of_calls_loses_a_value(
    turns: list[int], fork: int, prunes: bool, has_delta: bool, large: list[bool]
) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        deltas: Any = {"d": (1, 1)} if has_delta else {}
        parents = [
            await put(saver, THREAD, "old", deltas, a=value(1, large[0]), b=value(1, large[1]))
        ]
        for n in range(2, 4):
            parents.append(await put(saver, parents[-1], "old", deltas, a=value(n, large[0])))
        last, removed = await interleaved(
            manager,
            in_turns(turns),
            lambda other: run_from(other, parents[fork], deltas, large=large[2]),
            lambda other: remove(other, prunes=prunes),
        )
        assert removed is None
        found = await all_values(saver)
        if isinstance(last, ConflictError):
            assert has_delta, last
        elif last is not None:
            assert found[last["configurable"]["checkpoint_id"]].keys() == {"a", "b", "c"}
            assert not has_delta or await has_ancestors(saver, last)
            await saver.aprune(["talk"])
            assert has_delta or len(await all_values(saver)) == 1


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("calls", range(5))
async def test_what_is_removed_while_it_is_read_is_not_there(calls: int, size: int) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        first = await put(saver, THREAD, "old", a=b"x" * size, b=1)
        await saver.aput_writes(first, [("a", b"x" * size)], "task")
        await put(saver, first, "new", a=2)
        read, removed = await interleaved(
            manager,
            [0] * calls + [1] * 30,
            lambda other: other.aget_tuple(first),
            lambda other: remove(other, prunes=True),
        )
        assert removed is None
        if calls < 2:
            assert read is None
        elif read is not None:
            assert read.checkpoint["channel_values"] == {"a": b"x" * size, "b": 1}


@pytest.mark.parametrize("calls", range(4))
async def test_what_is_removed_while_it_is_read_does_not_come_without_its_writes(
    calls: int,
) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        first = await put(saver, THREAD, "old", a=b"x" * 2_000)
        await saver.aput_writes(first, [("a", 1)], "task")
        await put(saver, first, "new", b=1)  # has the large value, too
        read, _ = await interleaved(
            manager,
            [0] * calls + [1] * 30,
            lambda other: other.aget_tuple(first),
            lambda other: remove(other, prunes=True),
        )
        assert read is None or read.pending_writes == [("task", "a", 1)]


@pytest.mark.parametrize("calls", range(4))
async def test_the_latest_that_is_removed_while_it_is_read_does_not_come_without_its_writes(
    calls: int,
) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        first = await put(saver, THREAD, "old", a=b"x" * 2_000)
        await saver.aput_writes(first, [("a", 1)], "task")

        async def overtaken(other: SessionSaver) -> None:
            await put(other, first, "new", b=1)  # has the large value, too
            await remove(other, prunes=True)

        read, _ = await interleaved(
            manager,
            [0] * calls + [1] * 40,
            lambda other: other.aget_tuple(THREAD),
            overtaken,
        )
        is_first = read.checkpoint["channel_values"].keys() == {"a"}
        assert read.pending_writes == ([("task", "a", 1)] if is_first else [])


async def test_the_writes_of_a_checkpoint_are_removed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        config = THREAD
        for n in range(400):
            made = {**empty_checkpoint(), "id": str(uuid6())}
            config = await saver.aput(config, made, {}, {})
            for task in range(3):
                await saver.aput_writes(config, [("a", n)], f"task {task}")
        deleted: list[set[str]] = []
        delete = manager.delete_messages

        async def noted(session_id: str, user_id: str, **options: Any) -> int:
            deleted.append({name.rpartition(":")[0] for name in options["ids"] if name[0] == "w"})
            return await delete(session_id, user_id, **options)

        monkeypatch.setattr(manager, "delete_messages", noted)
        await saver.aprune(["talk"])
        checkpoints = [each for part in deleted for each in part]
        assert len(checkpoints) == 399
        assert len(set(checkpoints)) == 399
        assert len([part for part in deleted if part]) == 2


@pytest.mark.parametrize("calls", range(3, 6))
async def test_a_history_is_read_while_an_earlier_snapshot_is_removed(calls: int) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        config = THREAD
        for n in b"12":
            config = await put(saver, config, d=bytes([n]) * 1_000_000)
        latest = await put(saver, config, deltas={"d": (1, 1)}, a=1)
        read, removed = await interleaved(
            manager,
            [0] * calls + [1] * 30,
            lambda other: other.aget_delta_channel_history(config=latest, channels=["d"]),
            lambda other: remove(other, prunes=True),
        )
        assert removed is None
        assert read == {"d": {"writes": [], "seed": b"2" * 1_000_000}}
        assert len(await all_values(saver)) == 2


async def test_what_the_user_writes_otherwise_into_a_thread_stays(manager: SessionManager) -> None:
    saver = SessionSaver(manager, user_id="ann")
    first = await put(saver, THREAD, a=value(1, large=True))
    last = await put(saver, first, a=value(2, large=True))
    sessions = [each.id for each in await manager.list_user_sessions("ann")]
    assert len(sessions) == 2
    said = {each: await manager.add_message(each, "ann", "user", "hello") for each in sessions}
    await saver.aprune(["talk"])
    assert await all_values(saver) == {
        last["configurable"]["checkpoint_id"]: {"a": value(2, large=True)}
    }
    for session_id, message in said.items():
        stored = await manager.get_session_messages(session_id, "ann")
        assert message.id in {each.id for each in stored}


class Said(TypedDict):
    said: Annotated[list[str], operator.add]


def _app(saver: SessionSaver, *, keeps_state: bool) -> Any:
    """Return a graph whose subgraph asks; it has a state of its own if it ``keeps_state``."""
    inner, outer = StateGraph(Said), StateGraph(Said)
    inner.add_node("think", lambda _: {"said": ["thought"]})
    inner.add_node("ask", lambda _: {"said": [interrupt("Yes?")]})
    inner.add_edge(START, "think")
    inner.add_edge("think", "ask")
    outer.add_node("inner", inner.compile(checkpointer=keeps_state or None))
    outer.add_node("end", lambda _: {"said": ["end"]})
    outer.add_edge(START, "inner")
    outer.add_edge("inner", "end")
    return outer.compile(checkpointer=saver)


@pytest.mark.parametrize("keeps_state", [False, True])
async def test_calls_of_subgraphs_go_with_the_checkpoint_from_which_they_started(
    manager: SessionManager, keeps_state: bool
) -> None:
    saver = SessionSaver(manager, user_id="ann")
    app = _app(saver, keeps_state=keeps_state)
    for _ in range(3):
        await app.ainvoke({"said": []}, THREAD)
        await app.ainvoke(Command(resume="yes"), THREAD)
    everywhere: Any = {"configurable": {"thread_id": "talk"}}
    kept = {True: {"", "inner"}, False: {""}}[keeps_state]
    await saver.aprune(["talk"])
    left = [each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(everywhere)]
    assert sorted(left) == sorted(kept)

    await app.ainvoke({"said": []}, THREAD)  # a call that is not over stays
    await saver.aprune(["talk"])
    left = [each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(everywhere)]
    assert len(left) == 2
    done = await app.ainvoke(Command(resume="at last"), THREAD)
    assert done["said"][-2:] == ["at last", "end"]


@pytest.mark.parametrize("name", ["aprune", "adelete_for_runs"])
async def test_one_id_in_the_place_of_several_removes_nothing(
    manager: SessionManager, name: str
) -> None:
    saver = SessionSaver(manager, user_id="ann")
    config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
    for run in ("r", "u", "n"):
        config = await put(saver, config, run, a=run)
    for several in ("t", "run"):
        with pytest.raises(TypeError, match="ids must be a sequence of ids, not a str"):
            await getattr(saver, name)(several)
    assert len(await all_values(saver, {"configurable": {"thread_id": "t"}})) == 3
