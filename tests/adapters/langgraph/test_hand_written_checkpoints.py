"""What a user wrote or changed by hand in the threads of ``SessionSaver``: it stops nothing."""
# ruff: noqa: ANN401 - any JSON

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver

THREAD: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}
OTHER: Any = {"configurable": {"thread_id": "copy"}}
LOG, DATA = "langgraph:ann:talk", "langgraph-data:ann:talk"
TYPED = {"type": "msgpack", "data": "wA=="}
HEAD: dict[str, Any] = {"of": "c::9", "ns": "", "id": "9", "parent": None, **TYPED}
WHOLE = {**HEAD, "metadata": TYPED}
ODD: dict[str, Any] = {
    "text": "hello",
    "nothing": None,
    "list": [1],
    "empty": {},
    "no metadata": HEAD,
    "odd metadata": {**HEAD, "metadata": 5},
    "no namespace": {**WHOLE, "ns": None},
    "odd id": {**WHOLE, "id": 9},
    "odd parent": {**WHOLE, "parent": ["x"]},
    "odd data": {**WHOLE, "data": 5},
    "odd pieces": {**WHOLE, "more": 5},
    "odd values": {**WHOLE, "values": [["a"]]},
    "unhashable values": {**WHOLE, "values": [[["a"], "1", "x", "y"]]},
    "another id": {**WHOLE, "id": "8"},
    "odd owner": {"of": ["x"], "replace": False, **TYPED},
    "no type": {"of": "c::9"},
}


async def put(saver: SessionSaver, name: str, parent: str | None = None, **values: Any) -> Any:
    made = empty_checkpoint()
    made["id"] = name
    versions: dict[str, Any] = dict.fromkeys(values, name)
    made["channel_values"], made["channel_versions"] = values, versions
    config = THREAD
    if parent is not None:
        config = {"configurable": {**THREAD["configurable"], "checkpoint_id": parent}}
    return await saver.aput(config, made, {"run_id": name}, versions)


async def names(saver: SessionSaver, config: Any = THREAD) -> list[str]:
    found = [each async for each in saver.alist(config)]
    return [each.config["configurable"]["checkpoint_id"] for each in found]


@pytest.mark.parametrize("role", ["checkpoint", "removal", "value", "writes", "piece", "note"])
@pytest.mark.parametrize("odd", ODD)
async def test_messages_of_another_shape_are_passed_over(
    manager: SessionManager, odd: str, role: str
) -> None:
    saver = SessionSaver(manager, user_id="ann")
    large = ["x" * 3_000]
    first = await put(saver, "1", a=1, b=large)
    await manager.add_message(LOG, "ann", role, ODD[odd], message_id="c::9")
    for name in ("w:c%3A%3A1:0", "v::c:1", "mine"):
        await manager.add_message(DATA, "ann", role, ODD[odd], message_id=name)
    await saver.aput_writes(first, [("b", 5)], "task")
    for each in (saver, SessionSaver(manager, user_id="ann")):
        latest = await each.aget_tuple(THREAD)
        assert latest is not None
        assert latest.checkpoint["channel_values"] == {"a": 1, "b": large}
        assert latest.pending_writes == [("task", "b", 5)]
        assert await names(each, None) == ["1"]
    await put(saver, "2", "1", a=2, b=large)
    fresh = SessionSaver(manager, user_id="ann")
    await put(fresh, "3", "2", a=3, b=large)
    assert await names(fresh) == ["3", "2", "1"]
    await fresh.acopy_thread("talk", "copy")
    assert await names(fresh, OTHER) == ["3", "2", "1"]
    await fresh.acopy_thread("talk", "copy")
    await fresh.adelete_for_runs(["2"])
    await fresh.aprune(["talk"])
    assert await names(fresh) == ["3"]
    last = await fresh.aget_tuple(THREAD)
    assert last is not None
    assert last.checkpoint["channel_values"] == {"a": 3, "b": large}


@pytest.mark.parametrize("noted", ["x", None, [1], 10**30, True])
async def test_an_odd_note_of_the_order_is_passed_over(manager: SessionManager, noted: Any) -> None:
    saver = SessionSaver(manager, user_id="ann")
    await put(saver, "1", a=1)
    await manager.update_session(LOG, "ann", {"unordered": noted})
    await put(SessionSaver(manager, user_id="ann"), "2", "1", a=2)
    assert await names(saver) == ["2", "1"]
