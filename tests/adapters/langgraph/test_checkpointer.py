"""LangGraph's checkpoints: its conformance kit, its memory saver beside ours, graphs, attacks."""
# ruff: noqa: ANN401 - savers of two kinds

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from operator import itemgetter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver, putting
from agent_cores.session.adapters.langgraph.log import Log
from agent_cores.session.errors import ConfigurationError, SessionExistsError
from agent_cores.session.examples.langgraph_agent import State, graph

THREAD: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}

CAPABILITIES = {
    "put",
    "put_writes",
    "get_tuple",
    "list",
    "delete_thread",
    "delete_for_runs",
    "copy_thread",
    "prune",
}


@pytest.fixture
def saver(manager: SessionManager) -> SessionSaver:
    return SessionSaver(manager, user_id="ann")


def checkpoint(name: str | None = None, **values: Any) -> Any:
    made = empty_checkpoint()
    made["id"] = name or str(uuid6())
    made["channel_values"] = values
    made["channel_versions"] = dict.fromkeys(values, f"1.{made['id']}")
    return made


async def put(saver: Any, config: Any, made: Any, **metadata: Any) -> Any:
    return await saver.aput(config, made, metadata, made["channel_versions"])


async def test_the_conformance_kit_passes(manager: SessionManager) -> None:
    users = itertools.count()

    @checkpointer_test(name="SessionSaver")
    async def ours() -> AsyncGenerator[SessionSaver, None]:
        yield SessionSaver(manager, user_id=f"user-{next(users)}")

    report = await validate(ours)
    failures = [each for result in report.results.values() for each in result.failures]
    assert failures == []
    passed = {name for name, result in report.results.items() if result.passed}
    assert passed == CAPABILITIES


async def test_a_graph_is_interrupted_and_resumed(saver: SessionSaver) -> None:
    app = graph().compile(checkpointer=saver)
    asked = await app.ainvoke({"said": ["Rome"]}, THREAD)
    assert asked["__interrupt__"][0].value == "Is Plan 1 good?"
    done = await app.ainvoke(Command(resume="Yes."), THREAD)
    assert done["said"] == ["Rome", "Plan 1", "Yes."]
    history = [state async for state in app.aget_state_history(THREAD)]
    assert [state.next for state in history] == [(), ("review",), ("plan",), ("__start__",)]
    again = await app.ainvoke(None, history[2].config)  # from before the plan
    assert again["__interrupt__"][0].value == "Is Plan 1 good?"
    latest = await app.aget_state(THREAD)
    assert latest.next == ("review",)


async def test_a_subgraph_has_checkpoints_of_its_own(saver: SessionSaver) -> None:
    outer = StateGraph(State)
    outer.add_node("inner", graph().compile())
    outer.add_edge(START, "inner")
    outer.add_edge("inner", END)
    app = outer.compile(checkpointer=saver)
    await app.ainvoke({"said": ["Rome"]}, THREAD)
    state = await app.aget_state(THREAD, subgraphs=True)
    assert state.tasks[0].state.next == ("review",)
    done = await app.ainvoke(Command(resume="Yes."), THREAD)
    assert done["said"][-2:] == ["Plan 1", "Yes."]
    namespaces = {each.config["configurable"]["checkpoint_ns"] async for each in saver.alist(None)}
    assert len(namespaces) == 2


async def test_the_blocking_methods_work_in_a_loop_and_outside(saver: SessionSaver) -> None:
    def run() -> list[str]:
        app = graph().compile(checkpointer=saver)
        app.invoke({"said": ["Rome"]}, THREAD)
        said: list[str] = app.invoke(Command(resume="Yes."), THREAD)["said"]
        assert len(list(app.get_state_history(THREAD))) == 4
        return said

    assert run() == ["Rome", "Plan 1", "Yes."]
    saver.delete_thread("talk")
    assert await asyncio.to_thread(run) == ["Rome", "Plan 1", "Yes."]
    saver.copy_thread("talk", "copy")
    saver.prune(["talk"])
    assert [
        len(list(saver.list({"configurable": {"thread_id": t}}))) for t in ("talk", "copy")
    ] == [
        1,
        4,
    ]
    saver.delete_for_runs(["none"])
    assert saver.get_tuple(THREAD) is not None


async def test_a_manager_of_one_loop_refuses_blocking_methods() -> None:
    async with SessionManager("memory://") as manager:
        saver = SessionSaver(manager, user_id="ann")
        assert await saver.aget_tuple(THREAD) is None
        with pytest.raises(ConfigurationError, match="any_loop=True"):
            saver.get_tuple(THREAD)


@pytest.mark.parametrize("size", [0, 700_000, 2_000_000, 9_000_000])
async def test_large_values_come_back(saver: SessionSaver, size: int) -> None:
    made = checkpoint(big=b"x" * size, small=[1, None, {"会话": {1, 2}}])
    config = await put(saver, THREAD, made, note="y" * (size // 4))
    await saver.aput_writes(config, [("big", b"z" * size)], "task")
    found = await saver.aget_tuple(config)
    assert found is not None
    assert found.checkpoint["channel_values"] == made["channel_values"]
    assert found.metadata["note"] == "y" * (size // 4)
    assert found.pending_writes == [("task", "big", b"z" * size)]
    await saver.acopy_thread("talk", "copy")
    copied = await saver.aget_tuple({"configurable": {"thread_id": "copy"}})
    assert copied is not None
    assert copied.checkpoint == found.checkpoint
    assert copied.pending_writes == found.pending_writes


async def test_a_value_is_stored_once_for_all_checkpoints(
    saver: SessionSaver, manager: SessionManager
) -> None:
    config, made = THREAD, checkpoint(log="x" * 1000)
    for _ in range(20):
        config = await put(saver, config, {**made, "id": str(uuid6())})
    stored = await manager.get_session_messages("langgraph-data:ann:talk", "ann", 1000)
    assert len(stored) == 1


async def test_writes_are_in_the_order_of_tasks_and_kept_as_the_sql_savers_do(
    saver: SessionSaver,
) -> None:
    config = await put(saver, THREAD, checkpoint())
    await saver.aput_writes(config, [("a", 1), ("b", 2)], "t2", "path-2")
    await saver.aput_writes(config, [("a", 3)], "t1", "path-3")
    await saver.aput_writes(config, [("a", 4)], "t9", "path-1")
    await saver.aput_writes(config, [("a", "again"), ("b", "again"), ("c", 5)], "t2", "path-2")
    await saver.aput_writes(config, [("__error__", "first")], "t1", "path-3")
    await saver.aput_writes(config, [("__error__", "second")], "t1", "path-3")
    found = await saver.aget_tuple(config)
    assert found is not None
    assert found.pending_writes == [
        ("t9", "a", 4),
        ("t2", "a", 1),
        ("t2", "b", 2),
        ("t2", "c", 5),
        ("t1", "__error__", "second"),
        ("t1", "a", 3),
    ]


async def test_writes_may_come_before_their_checkpoint(saver: SessionSaver) -> None:
    made = checkpoint()
    config = {"configurable": {**THREAD["configurable"], "checkpoint_id": made["id"]}}
    await saver.aput_writes(config, [("a", 1)], "task")
    await put(saver, THREAD, made)
    found = await saver.aget_tuple(THREAD)
    assert found is not None
    assert found.pending_writes == [("task", "a", 1)]


async def test_tasks_at_once_lose_no_write(saver: SessionSaver) -> None:
    config = await put(saver, THREAD, checkpoint())
    await asyncio.gather(
        *(saver.aput_writes(config, [("a", n), ("b", n)], f"task-{n}") for n in range(60))
    )
    found = await saver.aget_tuple(config)
    assert found is not None
    assert sorted(value for _, channel, value in found.pending_writes or () if channel == "a") == [
        *range(60)
    ]
    assert len(found.pending_writes or ()) == 120


async def test_runs_at_once_lose_no_checkpoint(manager: SessionManager) -> None:
    savers = [SessionSaver(manager, user_id="ann") for _ in range(2)]
    made = [checkpoint(n=n) for n in range(30)]
    await asyncio.gather(*(put(savers[n % 2], THREAD, each) for n, each in enumerate(made)))
    listed = [each async for each in savers[0].alist(THREAD)]
    assert [each.checkpoint["channel_values"]["n"] for each in listed] == [*reversed(range(30))]
    latest = await savers[1].aget_tuple(THREAD)
    assert latest is not None
    assert latest.checkpoint["channel_values"] == {"n": 29}


async def test_checkpoints_out_of_order_are_noted_whoever_is_still_noting_others(
    saver: SessionSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [checkpoint(n=n) for n in range(30)]
    await put(saver, THREAD, made[29])
    add, note, all_announced = Log.add, Log.note_unordered, asyncio.Event()

    async def adding(log: Log, messages: Any, **options: Any) -> Any:
        stored = await add(log, messages, **options)
        if stored[-1].seq == len(made):
            all_announced.set()
        return stored

    async def late(log: Log, seq: int) -> None:
        await all_announced.wait()
        await note(log, seq)

    monkeypatch.setattr(putting, "_TRIES", 0)
    monkeypatch.setattr(Log, "add", adding)
    monkeypatch.setattr(Log, "note_unordered", late)
    await asyncio.gather(*(put(saver, THREAD, each) for each in made[:29]))
    listed = [each async for each in saver.alist(THREAD)]
    assert [each.checkpoint["channel_values"]["n"] for each in listed] == [*reversed(range(30))]
    latest = await saver.aget_tuple(THREAD)
    assert latest is not None
    assert latest.checkpoint["channel_values"] == {"n": 29}


async def test_checkpoints_out_of_order_are_listed_by_their_ids(saver: SessionSaver) -> None:
    names = [str(uuid6()) for _ in range(40)]
    for place in [*range(20, 40), *range(20)]:
        await put(saver, THREAD, checkpoint(names[place]))
    listed = [each.config["configurable"]["checkpoint_id"] async for each in saver.alist(THREAD)]
    assert listed == names[::-1]
    latest = await saver.aget_tuple(THREAD)
    assert latest is not None
    assert latest.config["configurable"]["checkpoint_id"] == names[-1]
    before: Any = {"configurable": {"checkpoint_id": names[3]}}
    found = [each async for each in saver.alist(THREAD, before=before, limit=2)]
    assert [each.config["configurable"]["checkpoint_id"] for each in found] == names[2:0:-1]


async def test_what_nobody_refers_to_is_removed(
    saver: SessionSaver, manager: SessionManager, store_url: str
) -> None:
    count = 1_050 if store_url.startswith(("memory", "sqlite")) else 110  # more than a page
    config, made = THREAD, checkpoint()
    for n in range(count):
        made = checkpoint(n="x" * 1_000 + str(n), small=n)
        config = await put(saver, config, made, run_id=f"run-{n % 2}")
        if n % 100 == 0:
            await saver.aput_writes(config, [("a", n)], "task")
    await saver.adelete_for_runs(["run-0"])
    assert len([each async for each in saver.alist(THREAD)]) == count // 2
    await saver.aprune(["talk"])
    [left] = [each async for each in saver.alist(THREAD)]
    assert left.checkpoint["channel_values"] == made["channel_values"]
    stored = await manager.get_session_messages("langgraph-data:ann:talk", "ann", 1000)
    assert len(stored) == 1
    await saver.adelete_thread("talk")
    assert (await manager.get_statistics())["sessions"] == 0
    await put(saver, THREAD, checkpoint(n=1))
    assert await saver.aget_tuple(THREAD) is not None


async def test_the_user_of_a_run_owns_its_thread(manager: SessionManager) -> None:
    saver = SessionSaver(manager, user_id=lambda config: config["configurable"]["user"])
    for user in ("ann", "bob"):
        config: Any = {"configurable": {**THREAD["configurable"], "user": user}}
        await put(saver, config, checkpoint(who=user))
    for user in ("ann", "bob"):
        config = {"configurable": {**THREAD["configurable"], "user": user}}
        found = await saver.aget_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"who": user}
    assert (await manager.erase_user("ann")).sessions == 2


async def test_a_thread_that_somebody_else_made_is_neither_read_nor_written(
    saver: SessionSaver, manager: SessionManager
) -> None:
    other = SessionSaver(manager, user_id="eve")
    await put(other, THREAD, checkpoint(forged="x" * 2_000))
    stored: Any = []
    for kind in ("langgraph-data", "langgraph"):
        name = f"{kind}:ann:talk"
        stored = await manager.get_session_messages(f"{kind}:eve:talk", "eve", 10)
        await manager.create_session("eve", session_id=name)
        batch = [{"id": m.id, "role": m.role, "content": m.content} for m in stored]
        await manager.add_messages(name, "eve", batch)
        await manager.share_session(name, "eve", "ann", role="editor")
    assert await saver.aget_tuple(THREAD) is None
    config: Any = {
        "configurable": {**THREAD["configurable"], "checkpoint_id": stored[0].content["id"]}
    }
    assert await saver.aget_tuple(config) is None
    assert [each async for each in saver.alist(THREAD)] == []
    with pytest.raises(SessionExistsError):
        await put(saver, THREAD, checkpoint())


async def test_a_session_that_is_no_thread_of_its_owner_is_not_listed(
    manager: SessionManager,
) -> None:
    saver = SessionSaver(manager, user_id="ann")
    thread: Any = {"configurable": {"thread_id": "one", "checkpoint_ns": ""}}
    await put(saver, thread, checkpoint(a=1))
    [log] = await manager.list_user_sessions("ann", tags=["langgraph"])
    copy = await manager.fork_session(log.id, "ann")
    await manager.create_session("ann", {"tags": ["langgraph"]})
    assert len([each async for each in saver.alist(None)]) == 1
    await saver.adelete_thread("one")
    assert [each async for each in saver.alist(None)] == []
    assert (await manager.get_session(copy, "ann")).metadata.message_count == 1


@pytest.mark.parametrize("odd", ["a/b", "..", "", "x" * 400, "会话", "a:b", "group:x"])
async def test_odd_names_lead_back(saver: SessionSaver, odd: str) -> None:
    config: Any = {"configurable": {"thread_id": odd, "checkpoint_ns": odd}}
    made = checkpoint(f"1{odd}")
    made["channel_values"], made["channel_versions"] = {odd: 1}, {odd: odd}
    config = await put(saver, config, made)
    await saver.aput_writes(config, [(odd, 2)], odd, odd)
    [found] = [each async for each in saver.alist(None)]
    assert found.config == config
    assert found.checkpoint["channel_values"] == {odd: 1}
    assert found.pending_writes == [(odd, odd, 2)]
    await saver.aprune([odd])
    assert await saver.aget_tuple(config) == found


async def test_a_thread_expires_if_asked(manager: SessionManager) -> None:
    saver = SessionSaver(manager, user_id="ann", ttl_hours=1)
    await put(saver, THREAD, checkpoint())
    for kind in ("langgraph", "langgraph-data"):
        session = await manager.get_session(f"{kind}:ann:talk", "ann")
        assert session.metadata.expires_at is not None
    kept = SessionSaver(manager, user_id="bob")
    await put(kept, THREAD, checkpoint())
    session = await manager.get_session("langgraph:bob:talk", "bob")
    assert session.metadata.expires_at is None


NAMES = [f"{n:08}" for n in range(6)]
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"), st.sampled_from(NAMES), st.sampled_from(["", "sub"]), st.integers(0, 3)
        ),
        st.tuples(
            st.just("writes"), st.sampled_from(NAMES), st.sampled_from("ab"), st.integers(0, 3)
        ),
        st.tuples(st.just("copy")),
        st.tuples(st.just("delete")),
    ),
    max_size=14,
)


async def _step(saver: Any, step: tuple[Any, ...], parent: str | None) -> None:
    kind = step[0]
    if kind == "put":
        _, name, namespace, value = step
        config: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": namespace}}
        if parent:
            config["configurable"]["checkpoint_id"] = parent
        made = checkpoint(name, v=str(value) * (2_000 if value % 2 else 1))
        made["ts"], made["channel_versions"] = "", {"v": f"{value}.0"}
        await put(saver, config, made, step=value)
    elif kind == "writes":
        _, name, task, value = step
        config = {"configurable": {**THREAD["configurable"], "checkpoint_id": name}}
        await saver.aput_writes(config, [("v", task), ("w", task)][: value % 3], task, task)
    elif kind == "copy" and isinstance(saver, SessionSaver):
        await saver.acopy_thread("talk", "copy")
    elif kind == "delete":
        await saver.adelete_thread("talk")


def _in_order(found: CheckpointTuple) -> CheckpointTuple:
    """Return it with its writes in the order of tasks, which only newer savers of theirs keep."""
    return found._replace(pending_writes=sorted(found.pending_writes or (), key=itemgetter(0)))


@given(steps=STEPS)
@settings(max_examples=60)
async def test_random_use_is_that_of_its_memory_saver(steps: list[tuple[Any, ...]]) -> None:
    async with SessionManager("memory://") as manager:
        ours, theirs = SessionSaver(manager, user_id="ann"), InMemorySaver()
        parent = None
        for step in steps:
            await _step(ours, step, parent)
            await _step(theirs, step, parent)
            parent = step[1] if step[0] == "put" else parent
            for namespace in ("", "sub"):
                config: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": namespace}}
                mine = [each async for each in ours.alist(config)]
                assert mine == [_in_order(each) async for each in theirs.alist(config)]
                found = await theirs.aget_tuple(config)
                assert await ours.aget_tuple(config) == (found and _in_order(found))


async def test_the_example_runs(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from agent_cores.session.examples.langgraph_agent import main

    await main(store_url)
    assert capsys.readouterr().out.splitlines() == [
        "Is Plan 1 good?",
        "['Rome', 'Plan 1', 'Yes.']",
        "() 3",
        "('review',) 2",
        "('plan',) 1",
        "('__start__',) 0",
    ]
