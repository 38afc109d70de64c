"""How many calls a read of a checkpoint takes, and that fewer of them miss no removal."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.adapters.langgraph.known import Known
from tests.adapters.langgraph.stepped import interleaved
from tests.adapters.langgraph.test_checkpointer import THREAD, checkpoint, put


def calls_of(manager: SessionManager, patch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each reading verb that is called adds its name."""
    calls: list[str] = []

    def counted(name: str, verb: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return verb(*args, **options)

        return call

    for name in ("get_session", "get_session_messages", "get_messages"):
        patch.setattr(manager, name, counted(name, getattr(manager, name)))
    return calls


@pytest.mark.parametrize("size", [1, 2_000])
@pytest.mark.parametrize("is_named", [False, True])
async def test_a_checkpoint_is_read_in_two_calls_where_the_data_is_known(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, size: int, is_named: bool
) -> None:
    saver = SessionSaver(manager, user_id="ann")
    last = await put(saver, THREAD, checkpoint(a="x" * size))
    config = last if is_named else THREAD
    calls = calls_of(manager, monkeypatch)
    assert await saver.aget_tuple(config) is not None
    assert len(calls) == 2
    other = SessionSaver(manager, user_id="ann")
    assert await other.aget_tuple(config) is not None
    assert len(calls) == 2 + 3  # another process does not know the data yet
    assert await other.aget_tuple(config) is not None
    assert len(calls) == 2 + 3 + 2


async def read_twice(saver: SessionSaver, config: Any) -> Any:
    """Read a checkpoint whose data the saver knows from the first of two reads."""
    await saver.aget_tuple(config)
    return await saver.aget_tuple(config)


async def check_read_beside(
    change: Callable[[SessionSaver, Any], Coroutine[Any, Any, None]],
    *,
    calls: int,
    is_named: bool,
    value: object = 1,
) -> None:
    """Change a thread after so many calls of a read, which must find a checkpoint and its writes.

    ``change`` gets another saver and the checkpoint. One that is read by its id may be gone.
    """
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        first = await put(saver, THREAD, checkpoint(a=value))
        await saver.aput_writes(first, [("a", 1)], "task")
        read, changed = await interleaved(
            manager,
            [0] * calls + [1] * 40,
            lambda other: read_twice(other, first if is_named else THREAD),
            lambda other: change(other, first),
        )
    assert changed is None, changed
    if read is None:
        assert is_named, "the thread had a latest checkpoint at every moment"
        return
    is_first = "a" in read.checkpoint["channel_values"]
    assert read.pending_writes == ([("task", "a", 1)] if is_first else [])


@pytest.mark.parametrize("calls", range(8))
@pytest.mark.parametrize("size", [1, 2_000])
@pytest.mark.parametrize("is_named", [False, True])
async def test_what_is_removed_between_two_calls_does_not_come_without_its_writes(
    calls: int, size: int, is_named: bool
) -> None:
    async def overtake(other: SessionSaver, first: Any) -> None:
        await put(other, first, checkpoint(b=1))
        await other.aprune(["talk"])

    await check_read_beside(overtake, calls=calls, is_named=is_named, value="x" * size)


@pytest.mark.parametrize("calls", range(8))
@pytest.mark.parametrize("is_named", [False, True])
async def test_what_is_deleted_between_two_calls_does_not_come_from_the_thread_after_it(
    calls: int, is_named: bool
) -> None:
    async def begin_anew(other: SessionSaver, _: Any) -> None:
        await other.adelete_thread("talk")
        await put(other, THREAD, checkpoint(b=1))

    await check_read_beside(begin_anew, calls=calls, is_named=is_named)


@pytest.mark.parametrize("calls", range(12))
@pytest.mark.parametrize(("tasks", "size"), [(8, 1), (9, 1), (8, 600_000)])
async def test_what_is_removed_while_it_is_read_comes_with_all_its_writes_or_not_at_all(
    calls: int, tasks: int, size: int
) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        first = await put(saver, THREAD, checkpoint(a=1))
        for task in range(tasks):
            await saver.aput_writes(first, [("a", b"x" * size)], f"task {task}")
        await put(saver, first, checkpoint(b=1))
        read, removed = await interleaved(
            manager,
            [0] * calls + [1] * 40,
            lambda other: read_twice(other, first),
            lambda other: other.aprune(["talk"]),
        )
        assert removed is None
        assert read is None or len(read.pending_writes) == tasks


def test_what_a_saver_knows_of_data_is_bounded() -> None:
    known = Known()
    for number in range(10_001):
        known.seen(f"data {number}", "1.1")
    assert known.state("data 0") is None
    assert known.state("data 10000") == "1.1"
