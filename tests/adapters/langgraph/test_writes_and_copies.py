"""Many pending writes, copies, and threads that are deleted while they are used."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from tests.adapters.langgraph.stepped import interleaved
from tests.adapters.langgraph.test_removal import THREAD, all_values, put, value

COPY: Any = {"configurable": {"thread_id": "copy", "checkpoint_ns": ""}}


@pytest.fixture
def saver(manager: SessionManager) -> SessionSaver:
    return SessionSaver(manager, user_id="ann")


async def pending(saver: SessionSaver, config: Any) -> list[tuple[str, str, Any]]:
    found = await saver.aget_tuple(config)
    assert found is not None
    return list(found.pending_writes or ())


async def test_a_task_may_have_many_writes(saver: SessionSaver) -> None:
    config = await put(saver, THREAD)
    writes = [(f"channel {n}", n) for n in range(3_000)]
    await saver.aput_writes(config, writes, "task")
    assert await pending(saver, config) == [("task", *each) for each in writes]


@pytest.mark.parametrize("tasks", [7, 9, 70])
async def test_tasks_of_two_processes_lose_no_write(
    saver: SessionSaver, manager: SessionManager, tasks: int
) -> None:
    config = await put(saver, THREAD)
    savers = [saver, SessionSaver(manager, user_id="ann")]
    for start in (0, tasks):
        await asyncio.gather(
            *(
                savers[n % 2].aput_writes(config, [("a", n)], f"{n:03}")
                for n in range(start, start + tasks)
            )
        )
    found = await pending(saver, config)
    assert found == [(f"{n:03}", "a", n) for n in range(2 * tasks)]
    await saver.acopy_thread("talk", "copy")
    assert await pending(saver, COPY) == found


async def test_writes_are_found_in_a_thread_that_had_fewer(
    saver: SessionSaver, manager: SessionManager
) -> None:
    made = empty_checkpoint()
    config = await saver.aput(THREAD, made, {}, {})
    await saver.acopy_thread("talk", "copy")
    for n in range(12):
        await saver.aput_writes(config, [("a", n)], f"{n:02}")
    copied: Any = {"configurable": {**config["configurable"], "thread_id": "copy"}}
    await saver.aput_writes(copied, [("a", 1)], "task")
    assert await pending(saver, copied) == [("task", "a", 1)]
    other = SessionSaver(manager, user_id="ann")
    await other.adelete_thread("talk")
    await other.aput(THREAD, made, {}, {})
    await saver.aput_writes(config, [("a", 2)], "task")
    assert await pending(other, config) == [("task", "a", 2)]


async def test_a_copy_is_in_the_order_of_ids_like_its_source(saver: SessionSaver) -> None:
    made = [empty_checkpoint() for _ in range(3)]
    for each, place in zip(made, (1, 2, 0), strict=True):
        each["id"] = f"{place:08}"
        await saver.aput(THREAD, each, {}, {})
    await saver.acopy_thread("talk", "copy")
    latest = await saver.aget_tuple(COPY)
    assert latest is not None
    assert latest.checkpoint["id"] == "00000002"
    listed = [each.checkpoint["id"] async for each in saver.alist(COPY)]
    assert listed == ["00000002", "00000001", "00000000"]


async def test_the_latest_is_read_from_the_end_again_after_one_in_order(
    saver: SessionSaver, manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (*range(1, 130), 0, 130):
        made = empty_checkpoint()
        made["id"] = f"{place:08}"
        await saver.aput(THREAD, made, {}, {})
    reads: list[Any] = []
    read = manager.get_session_messages

    def counted(*args: Any, **options: Any) -> Any:
        reads.append(args)
        return read(*args, **options)

    monkeypatch.setattr(manager, "get_session_messages", counted)
    latest = await saver.aget_tuple(THREAD)
    assert latest is not None
    assert latest.checkpoint["id"] == "00000130"
    assert reads == []
    monkeypatch.undo()
    listed = [each.checkpoint["id"] async for each in saver.alist(THREAD)]
    assert listed == [f"{place:08}" for place in reversed(range(131))]


async def test_what_somebody_else_wrote_is_not_copied(
    saver: SessionSaver, manager: SessionManager
) -> None:
    other = SessionSaver(manager, user_id="eve")
    await put(other, THREAD, forged=True)
    for kind in ("langgraph-data", "langgraph"):
        stored = await manager.get_session_messages(f"{kind}:eve:talk", "eve", 10)
        batch = [{"id": m.id, "role": m.role, "content": m.content} for m in stored]
        await manager.create_session("eve", session_id=f"{kind}:ann:talk", messages=batch)
        await manager.share_session(f"{kind}:ann:talk", "eve", "ann", role="editor")
    await saver.acopy_thread("talk", "copy")
    assert [each async for each in saver.alist(COPY)] == []


async def test_what_an_editor_adds_is_no_checkpoint(
    saver: SessionSaver, manager: SessionManager
) -> None:
    config = await put(saver, THREAD, a=1)
    name = "langgraph:ann:talk"
    stored: Any = (await manager.get_session_messages(name, "ann", 10))[0]
    await manager.share_session(name, "ann", "eve", role="editor")
    forged = [
        {"id": f"x{n}", "role": stored.role, "content": {**stored.content, "id": f"z{n}"}}
        for n in range(12)
    ]
    await manager.add_messages(name, "eve", forged)
    latest = await saver.aget_tuple(THREAD)
    assert latest is not None
    assert latest.config == config
    assert len([each async for each in saver.alist(THREAD)]) == 1


@given(turns=st.lists(st.integers(1, 10), max_size=4), deletes=st.booleans(), large=st.booleans())
@settings(max_examples=40)
async def test_no_order_of_calls_leaves_half_a_checkpoint(
    turns: list[int], deletes: bool, large: bool
) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        parent = await put(saver, THREAD, a=value(1, large), b=1)

        async def run(other: SessionSaver) -> None:
            found = await other.aget_tuple(parent)
            if found is not None:
                made: Any = {**found.checkpoint, "id": str(uuid6())}
                made["channel_versions"] = {**made["channel_versions"], "c": "1"}
                made["channel_values"] = {**made["channel_values"], "c": value(1, large)}
                config = await other.aput(parent, made, {}, {"c": "1"})
                await other.aput_writes(config, [("a", 1)], "task")

        async def interfere(other: SessionSaver) -> None:
            if deletes:
                await other.adelete_thread("talk")
            else:
                await other.acopy_thread("talk", "copy")

        order = [place % 2 for place, calls in enumerate(turns) for _ in range(calls)]
        written, _ = await interleaved(manager, order, run, interfere)
        assert written is None  # a deletion does not fail what is put meanwhile
        for config in (THREAD, COPY):
            await all_values(saver, config)
