"""What ``prune`` and ``delete_for_runs`` remove, and what no order of calls makes them remove."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from tests.adapters.langgraph.stepped import interleaved

THREAD: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}


async def put(saver: SessionSaver, parent: Any, run: str = "run", **new: Any) -> Any:
    """Put a checkpoint that adds values to those of its parent; return its config."""
    made = empty_checkpoint()
    made["id"] = str(uuid6())
    found = await saver.aget_tuple(parent) if "checkpoint_id" in parent["configurable"] else None
    if found is not None:
        made["channel_values"] = dict(found.checkpoint["channel_values"])
        made["channel_versions"] = dict(found.checkpoint["channel_versions"])
    return await _put(saver, parent, made, run, new)


async def _put(saver: SessionSaver, parent: Any, made: Any, run: str, new: Any) -> Any:
    versions = {channel: f"{channel}.{made['id']}" for channel in new}
    made["channel_values"].update(new)
    made["channel_versions"].update(versions)
    return await saver.aput(parent, made, {"run_id": run}, versions)


async def all_values(saver: SessionSaver, config: Any = THREAD) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    async for each in saver.alist(config):
        found[each.config["configurable"]["checkpoint_id"]] = each.checkpoint["channel_values"]
        missing = set(each.checkpoint["channel_versions"]) - set(each.checkpoint["channel_values"])
        assert not missing, "a checkpoint without the values that it names"
    return found


@given(
    turns=st.lists(st.integers(1, 12), max_size=5),
    fork=st.integers(0, 2),
    prunes=st.booleans(),
)
@settings(max_examples=60)
async def test_no_order_of_calls_loses_a_value(turns: list[int], fork: int, prunes: bool) -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        parents = [await put(saver, THREAD, "old", a=1, b=1)]
        for n in range(2, 4):
            parents.append(await put(saver, parents[-1], "old", a=n))

        async def run(other: SessionSaver) -> list[str]:
            config = parents[fork]
            read = await other.aget_tuple(config)
            if read is None:
                return []
            names, values, versions = [], dict(read.checkpoint["channel_values"]), {}
            versions = dict(read.checkpoint["channel_versions"])
            for n in range(10, 12):
                made = empty_checkpoint()
                made["id"] = str(uuid6())
                made["channel_values"], made["channel_versions"] = dict(values), dict(versions)
                config = await _put(other, config, made, "new", {"c": n})
                values, versions = made["channel_values"], made["channel_versions"]
                await other.aput_writes(config, [("a", n)], "task")
                names.append(made["id"])
            return names

        async def remove(other: SessionSaver) -> None:
            if prunes:
                await other.aprune(["talk"])
            else:
                await other.adelete_for_runs(["old"])

        order = [place % 2 for place, calls in enumerate(turns) for _ in range(calls)]
        names, removed = await interleaved(manager, order, run, remove)
        assert removed is None
        assert isinstance(names, list), names
        found = await all_values(saver)
        if names:  # what came after the removal is there; before it, at least the latest
            assert names[-1] in found
            assert found[names[-1]]["c"] == 11
            assert set(found[names[-1]]) == {"a", "b", "c"}
        await saver.aprune(["talk"])
        assert len(await all_values(saver)) == 1 or not names
