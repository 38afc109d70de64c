"""Graphs with delta channels: what a removal keeps for them, and their history."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import END, START, StateGraph

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.errors import ConflictError
from tests.adapters.langgraph.test_removal import THREAD


def _added(value: list[str], writes: Any) -> list[str]:
    return [*value, *(each for write in writes for each in write)]


class Said(TypedDict):
    said: Annotated[list[str], DeltaChannel(_added, snapshot_frequency=4)]


def _app(saver: SessionSaver) -> Any:
    builder = StateGraph(Said)
    builder.add_node("answer", lambda state: {"said": [f"answer {len(state['said'])}"]})
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=saver)


@pytest.fixture
def saver(manager: SessionManager) -> SessionSaver:
    return SessionSaver(manager, user_id="ann")


@pytest.mark.parametrize("turns", [1, 2, 3, 5])
async def test_a_removal_keeps_what_the_latest_is_made_of(saver: SessionSaver, turns: int) -> None:
    app, said = _app(saver), list[str]()
    for turn in range(turns):
        said = (await app.ainvoke({"said": [f"turn {turn}"]}, THREAD))["said"]
    assert len(said) == 2 * turns
    before = len([each async for each in saver.alist(THREAD)])
    await saver.aprune(["talk"])
    assert (await app.aget_state(THREAD)).values["said"] == said
    after = len([each async for each in saver.alist(THREAD)])
    assert after < before or turns == 1
    assert after <= 3 * 5  # back to a snapshot, not to the beginning
    again = await app.ainvoke({"said": ["more"]}, THREAD)
    assert again["said"][:-1] == [*said, "more"]


async def test_a_run_that_later_ones_are_made_of_is_kept(saver: SessionSaver) -> None:
    app, said = _app(saver), list[str]()
    for turn, run_id in enumerate(("first", "second")):
        config: Any = {**THREAD, "metadata": {"run_id": run_id}}
        said = (await app.ainvoke({"said": [f"turn {turn}"]}, config))["said"]
    await saver.adelete_for_runs(["first"])
    assert (await app.aget_state(THREAD)).values["said"] == said
    await saver.adelete_for_runs(["first", "second"])
    assert [each async for each in saver.alist(THREAD)] == []


async def test_the_history_is_that_of_the_base_class(saver: SessionSaver) -> None:
    app = _app(saver)
    for turn in range(12):
        await app.ainvoke({"said": [f"turn {turn}"]}, THREAD)
    states = [each async for each in saver.alist(THREAD)]
    for config in (THREAD, *(each.config for each in states[::7])):
        ours = await saver.aget_delta_channel_history(config=config, channels=["said", "none"])
        theirs = await BaseCheckpointSaver.aget_delta_channel_history(
            saver, config=config, channels=["said", "none"]
        )
        assert ours == theirs
        assert ours == saver.get_delta_channel_history(config=config, channels=["said", "none"])
    assert await saver.aget_delta_channel_history(config=THREAD, channels=[]) == {}


async def test_the_history_of_checkpoints_in_a_circle_ends(saver: SessionSaver) -> None:
    first, second = ({**empty_checkpoint(), "id": name} for name in ("a", "b"))
    config = await saver.aput(THREAD, first, {}, {})
    config = await saver.aput(config, second, {}, {})
    await saver.aput(config, first, {}, {})  # its parent is its child now
    history = await saver.aget_delta_channel_history(config=config, channels=["said"])
    assert history == {"said": {"writes": []}}


async def test_a_put_whose_parent_is_gone_is_refused(saver: SessionSaver) -> None:
    app = _app(saver)
    await app.ainvoke({"said": ["first"]}, THREAD)
    latest = await saver.aget_tuple(THREAD)
    assert latest is not None
    assert latest.metadata["counters_since_delta_snapshot"]["said"]
    await saver.adelete_thread("talk")
    made: Any = {**latest.checkpoint, "id": latest.checkpoint["id"] + "0"}
    with pytest.raises(ConflictError, match="parent"):
        await saver.aput(latest.config, made, latest.metadata, {})
    assert await saver.aget_tuple(THREAD) is None


async def test_a_put_whose_parent_was_in_a_thread_of_that_name_is_refused(
    saver: SessionSaver, manager: SessionManager
) -> None:
    app = _app(saver)
    await app.ainvoke({"said": ["first"]}, THREAD)
    latest = await saver.aget_tuple(THREAD)
    assert latest is not None
    length = len([each async for each in saver.alist(THREAD)])
    other = SessionSaver(manager, user_id="ann")
    await other.adelete_thread("talk")
    config: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}
    for _ in range(length):  # up to the same seq
        config = await other.aput(config, {**empty_checkpoint(), "id": str(uuid6())}, {}, {})
    made: Any = {**latest.checkpoint, "id": str(uuid6())}
    with pytest.raises(ConflictError, match="parent"):
        await saver.aput(latest.config, made, latest.metadata, {})
