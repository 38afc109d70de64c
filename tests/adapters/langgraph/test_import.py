"""Stores that LangGraph's own savers wrote, imported: ``SessionSaver`` goes on where they ended."""
# ruff: noqa: ANN401 - LangGraph's values

from __future__ import annotations

import operator
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.errors import StoreFormatError
from tests.adapters.conftest import url_of
from tests.adapters.importing import files, imported

THREADS = ("talk", "odd/:%☂", "")


def _said(value: list[str], writes: Any) -> list[str]:
    return [*value, *(each for write in writes for each in write)]


class State(TypedDict):
    messages: Annotated[list[Any], operator.add]
    said: Annotated[list[str], DeltaChannel(_said, snapshot_frequency=3)]
    large: bytes
    number: float | None


def _ask(state: State) -> Any:
    answer = interrupt({"sure?": len(state["messages"])})
    return {"messages": [AIMessage(str(answer))], "said": [str(answer)], "number": None}


def graph_of(saver: BaseCheckpointSaver[Any]) -> Any:
    """Return a graph with a subgraph, sends, an interrupt, a delta channel and a large value."""
    inner = StateGraph(State)
    inner.add_node("answer", lambda _: {"messages": [AIMessage("inner")], "said": ["inner"]})
    inner.add_edge(START, "answer")
    builder = StateGraph(State)
    builder.add_node("inner", inner.compile(checkpointer=True))
    builder.add_node("each", lambda state: {"messages": [state["number"]], "number": 1.5})
    builder.add_node("ask", _ask)
    builder.add_edge(START, "inner")
    builder.add_conditional_edges("inner", lambda _: [Send("each", {"number": 1})], ["each"])
    builder.add_edge("each", "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def fill(saver: BaseCheckpointSaver[Any]) -> None:
    """Run a graph in some threads: to its interrupt, and in the first again from an old state."""
    app = graph_of(saver)
    for name in THREADS:
        large = b"x" * 700_000 if name == THREADS[1] else b""
        given = {"messages": [HumanMessage("hi")], "said": ["hi"], "large": large}
        await app.ainvoke(given, thread(name))
    for turn in range(2):
        await app.ainvoke(Command(resume=f"yes {turn}"), thread("talk"))
        await app.ainvoke({"messages": [], "said": [f"turn {turn}"]}, thread("talk"))
    history = [each async for each in app.aget_state_history(thread("talk"))]
    await app.aupdate_state(history[-2].config, {"number": 7.0})


async def everything(saver: BaseCheckpointSaver[Any], namespaces: set[str]) -> list[Any]:
    """Return all checkpoints of each thread and namespace, and what they are to the graph.

    Without two channels whose values are only in the first of several checkpoints of a version in
    SQLite, but in all of these in PostgreSQL, as here.
    """
    found: list[Any] = []
    for name in THREADS:
        history = [each async for each in graph_of(saver).aget_state_history(thread(name))]
        found += [(each.values, each.next, each.interrupts) for each in history]
        for namespace in sorted(namespaces):
            config = {"configurable": {"thread_id": name, "checkpoint_ns": namespace}}
            for each in [each async for each in saver.alist(config)]:
                for channel in ("__start__", "said"):
                    each.checkpoint["channel_values"].pop(channel, None)
                found.append(each)
    return found


async def namespaces_of(saver: BaseCheckpointSaver[Any]) -> set[str]:
    return {each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(None)}


@asynccontextmanager
async def saver_of(kind: str, folder: Path) -> AsyncIterator[tuple[BaseCheckpointSaver[Any], str]]:
    if kind == "sqlite":
        source = str(folder / "checkpoints.db")
        async with AsyncSqliteSaver.from_conn_string(source) as saver:
            yield saver, source
    else:
        source = url_of("postgres", folder).partition("?")[0]
        async with AsyncPostgresSaver.from_conn_string(source) as postgres:
            await postgres.setup()
            yield postgres, source


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_threads_with_all_that_belongs_to_them(
    target: SessionManager, tmp_path: Path, kind: str
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    ours = SessionSaver(target, user_id="ann")
    async with saver_of(kind, folder) as (theirs, source):
        await fill(theirs)
        namespaces = await namespaces_of(theirs)
        expected, before = await everything(theirs, namespaces), files(folder)
        tally = await imported(target, "langgraph", source, user="ann")
        assert (tally.sessions, tally.left_out.names) == (6, [])
        assert files(folder) == before
        assert len(expected) > 25
        assert await everything(ours, namespaces) == expected
        assert await namespaces_of(ours) == namespaces
        assert (await imported(target, "langgraph", source, user="ann")).present == 6
        ended = [
            await graph_of(saver).ainvoke(Command(resume="done"), thread(THREADS[1]))
            for saver in (theirs, ours)
        ]
    assert ended[0] == ended[1]
    assert ended[1]["said"] == ["hi", "hi", "inner", "done"]
    wanted = {"langgraph_thread": THREADS[1]}
    log = await target.list_user_sessions("ann", tags=["langgraph"], metadata=wanted)
    first = min([each.checkpoint["ts"] async for each in ours.alist(thread(THREADS[1]))])
    created = log[0].metadata.created_at.isoformat(timespec="milliseconds")
    assert first.startswith(created.partition("+")[0])


async def test_damaged_and_encrypted_checkpoints_are_left_out(
    target: SessionManager, tmp_path: Path
) -> None:
    async with saver_of("sqlite", tmp_path) as (theirs, source):
        await fill(theirs)
        kept = [each async for each in theirs.alist(thread("talk"))]
    with closing(sqlite3.connect(source)) as database, database:
        change = "UPDATE checkpoints SET {} WHERE checkpoint_id = ?"
        for number, damage in enumerate(
            ("checkpoint = x'c1'", "type = 'msgpack+aes'", "checkpoint = 'text'", "metadata = '{'")
        ):
            name = kept[number].config["configurable"]["checkpoint_id"]
            database.execute(change.format(damage), [name])
        database.execute("UPDATE writes SET value = 'text' WHERE thread_id = ''")
    tally = await imported(target, "langgraph", source, user="ann")
    assert (tally.sessions, tally.is_complete) == (6, False)
    writes = [name for name in tally.left_out.names if "writes of checkpoint" in name]
    assert writes, tally.left_out.names
    assert tally.left_out.count == 4 + len(writes)
    ours = SessionSaver(target, user_id="ann")
    left = [each.config async for each in ours.alist(thread("talk"))]
    assert left == [each.config for each in kept[4:]]


async def test_other_databases_are_refused(target: SessionManager, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty").close()
    with pytest.raises(StoreFormatError):
        await imported(target, "langgraph", tmp_path / "empty", user="ann")
