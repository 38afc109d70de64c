"""Clients made with ``any_loop=True``: called from many loops and threads, cancelled, ended."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import pytest

from agent_cores.session import SyncSessionManager, get_session_manager
from agent_cores.session.client import SessionClient, SyncSessionClient
from agent_cores.session.errors import (
    SessionNotFoundError,
    TurnHeldError,
    UnauthenticatedError,
    UnsupportedError,
)
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.testing import Store
from agent_cores.session.testing.manager.concurrency import ConcurrencyCases
from agent_cores.session.testing.manager.turns import TurnCases
from tests.service.served import Gate, ServedStore
from tests.service.wire import Wire

T = TypeVar("T")
RIGHTS = ("read", "write", "act-as", "operator", "admin")


class TestServedManagerFromAnotherLoop(ConcurrencyCases, TurnCases):
    @pytest.fixture
    def store(self) -> Store:
        return ServedStore(MemoryProvider, any_loop=True)


@pytest.fixture
async def client(wire: Wire, gate: tuple[Gate, str]) -> AsyncIterator[SessionClient]:
    made = SessionClient(gate[1], await wire.key(*RIGHTS), any_loop=True)
    yield made
    gate[0].opened.set()
    await made.shutdown()
    assert own_threads() == []


def own_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "agent-sessions"]


async def in_another_loop(work: Coroutine[Any, Any, T]) -> T:
    return await asyncio.to_thread(asyncio.run, work)


async def test_many_loops_and_threads_append_to_one_session(client: SessionClient) -> None:
    async def append(caller: int) -> list[int]:
        added = [await client.add_message("talk", "ann", "user", str(caller)) for _ in range(5)]
        return [message.seq for message in added]

    blocking = SyncSessionManager.of(client)
    await client.create_session("ann", session_id="talk")
    blocked = asyncio.create_task(
        asyncio.to_thread(blocking.add_message, "talk", "ann", "user", "blocking")
    )
    loops = (in_another_loop(append(caller)) for caller in range(1, 4))
    runs = await asyncio.gather(append(0), *loops)
    assert all(seqs == sorted(seqs) for seqs in runs)
    seqs = [(await blocked).seq, *(seq for seqs in runs for seq in seqs)]
    assert sorted(seqs) == list(range(1, 22))
    assert len(own_threads()) == 1


async def test_views_and_turns_work_from_another_loop(client: SessionClient) -> None:
    async def hold() -> None:
        async with view.turn("talk", "bob") as turn:
            await view.add_message("talk", "bob", "user", "x", turn=turn.token)
            with pytest.raises(TurnHeldError):
                await client.take_turn("talk", "ann")

    view = client.for_namespace("default", groups_of=lambda _: ["staff"])
    await client.create_session("ann", session_id="talk")
    await client.share_session("talk", "ann", "group:staff", role="editor")
    await in_another_loop(hold())
    with pytest.raises(SessionNotFoundError):
        await client.get_session("talk", "bob")
    operator = client.as_operator("support")
    listed = await in_another_loop(operator.list_sessions())
    assert [session.id for session in listed] == ["talk"]
    assert (await operator.take_turn("talk", "eve")).token


async def test_a_view_of_another_namespace_does_not_start(client: SessionClient) -> None:
    view = client.for_namespace("acme")
    with pytest.raises(UnsupportedError):
        await view.initialize()
    assert client.is_over
    assert own_threads() == []


async def test_a_key_that_the_service_does_not_know_leaves_no_thread(
    gate: tuple[Gate, str],
) -> None:
    with pytest.raises(UnauthenticatedError):
        await SessionClient(gate[1], "ask_a_b", any_loop=True).initialize()
    assert own_threads() == []


async def test_a_cancelled_caller_returns_once_its_request_is_over(
    client: SessionClient, gate: tuple[Gate, str]
) -> None:
    door, _ = gate
    await client.create_session("ann", session_id="talk")
    door.close()
    call = asyncio.create_task(client.add_message("talk", "ann", "user", "x"))
    await door.waiting.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not client._transport._pool._at_work  # type: ignore[union-attr]  # noqa: SLF001
    door.opened.set()
    assert (await client.get_session("talk", "ann")).metadata.message_count <= 1


async def test_the_process_wide_client_is_shared_by_loops(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    async def create() -> int:
        manager = get_session_manager(gate[1], api_key=key, any_loop=True)
        await manager.create_session("ann")
        return int((await manager.get_statistics())["sessions"])

    key = await wire.key(*RIGHTS)
    shared = get_session_manager(gate[1], api_key=key, any_loop=True)
    assert [await in_another_loop(create()) for _ in range(2)] == [1, 2]
    await shared.shutdown()
    assert get_session_manager(gate[1], api_key=key, any_loop=True) is not shared


PROGRAM = """
import asyncio, os, sys
from agent_cores.session.client import SessionClient, SyncSessionClient
address, key, kind = sys.argv[1:]
if kind == "blocking":
    blocking = SyncSessionClient(address, key)
    add = lambda text: blocking.add_message("talk", "ann", "user", text)
else:
    client = SessionClient(address, key, any_loop=True)
    add = lambda text: asyncio.run(client.add_message("talk", "ann", "user", text))
add("before")
child = os.fork()
add("after")
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("kind", ["awaited", "blocking"])
async def test_a_forked_child_has_connections_of_its_own_and_both_end_in_silence(
    wire: Wire, gate: tuple[Gate, str], kind: str
) -> None:
    await wire.manager.create_session("ann", session_id="talk")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", PROGRAM, gate[1], await wire.key(), kind,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert await program.communicate() == (b"0\n", b"")
    messages = await wire.manager.get_session_messages("talk", "ann")
    assert [one.content for one in messages] == ["before", "after", "after"]
    assert len(gate[0].callers) >= 2  # the parent's connection was not used by the child


async def test_a_blocking_client_may_be_called_in_a_running_loop(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    async def create() -> str:
        with SyncSessionClient(gate[1], key) as sessions:
            return sessions.create_session("ann")

    key = await wire.key()
    session_id = await in_another_loop(create())
    assert (await wire.manager.get_session(session_id, "ann")).id == session_id
