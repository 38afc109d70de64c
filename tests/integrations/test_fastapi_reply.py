"""A streamed reply is saved whole, or as far as it came and marked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from starlette.background import BackgroundTask

from agent_cores.session import Message, SessionManager, SyncSessionManager, Turn
from agent_cores.session.errors import AccessDeniedError, SessionError
from agent_cores.session.integrations.fastapi import Sessions, StreamedReply, add_error_handler

CHAT = "chat"


class Agent:
    """Produces "Three ", then waits, then "hotels."."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.fails = False
        self.ended = asyncio.Event()

    async def reply(self) -> AsyncIterator[str]:
        try:
            yield "Three "
            await self.go_on.wait()
            if self.fails:
                raise ZeroDivisionError
            yield "hotels."
        finally:
            self.ended.set()


async def turn_of(sessions: Sessions) -> AsyncIterator[Turn]:
    async with sessions.turn(CHAT, "ann") as turn:
        yield turn


def application(manager: SessionManager, agent: Agent) -> FastAPI:
    app = FastAPI(lifespan=manager.lifespan)
    add_error_handler(app)

    @app.post("/stop")
    async def stop(sessions: Sessions, turn: Annotated[Turn, Depends(turn_of)]) -> StreamedReply:
        return StreamedReply(sessions, CHAT, "ann", agent.reply(), turn=turn.token)

    @app.post("/finish")
    async def finish(sessions: Sessions) -> StreamedReply:
        return StreamedReply(sessions, CHAT, "ann", agent.reply(), finish=True)

    @app.post("/events")
    async def events(sessions: Sessions) -> StreamedReply:
        return StreamedReply(
            sessions, CHAT, "ann", agent.reply(), events=True, metadata={"model": "m"}
        )

    return app


class Connection:
    """A client that reads what it wants of a response, and goes away when it wants."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    async def post(self, path: str) -> None:
        self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
        self._writer.write(f"{head}Connection: close\r\n\r\n".encode())

    async def until(self, text: str) -> None:
        await self._reader.readuntil(text.encode())

    async def rest(self) -> bytes:
        read = await self._reader.read()
        await self.leave()
        return read

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


@pytest.fixture
async def manager() -> AsyncIterator[SessionManager]:
    async with SessionManager("memory://") as manager:
        await manager.create_session("ann", session_id=CHAT)
        yield manager


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
async def connection(manager: SessionManager, agent: Agent) -> AsyncIterator[Connection]:
    server = uvicorn.Server(uvicorn.Config(application(manager, agent), port=0, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.001)
    host, port = server.servers[0].sockets[0].getsockname()
    yield Connection(host, port)
    agent.go_on.set()
    server.should_exit = True
    await serving


async def saved(manager: SessionManager) -> list[Message]:
    """Return the messages once there is one; those of a request that is over are there."""
    async with asyncio.timeout(30):
        while not (page := await manager.get_session_messages(CHAT, "ann")):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return list(page)


async def test_a_reply_that_ended_is_saved_whole(
    connection: Connection, manager: SessionManager, agent: Agent
) -> None:
    agent.go_on.set()
    await connection.post("/stop")
    assert (await connection.rest()).endswith(b"0\r\n\r\n")
    [message] = await manager.get_session_messages(CHAT, "ann")
    assert (message.role, message.content, message.metadata) == ("assistant", "Three hotels.", {})


async def test_a_client_that_goes_away_leaves_what_was_produced_with_a_mark(
    connection: Connection, manager: SessionManager, agent: Agent
) -> None:
    await connection.post("/stop")
    await connection.until("Three ")
    await connection.leave()
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "disconnected"})
    assert agent.ended.is_set()


async def test_a_reply_to_be_finished_is_saved_whole_though_the_client_went_away(
    connection: Connection, manager: SessionManager, agent: Agent
) -> None:
    await connection.post("/finish")
    await connection.until("Three ")
    await connection.leave()
    await asyncio.sleep(0.05)
    assert not await manager.get_session_messages(CHAT, "ann")
    agent.go_on.set()
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("Three hotels.", {})


@pytest.mark.parametrize("path", ["/stop", "/finish"])
async def test_a_producer_that_fails_leaves_what_it_produced_and_cuts_the_response_off(
    connection: Connection, manager: SessionManager, agent: Agent, path: str
) -> None:
    agent.fails = True
    await connection.post(path)
    await connection.until("Three ")
    agent.go_on.set()
    assert not (await connection.rest()).endswith(b"0\r\n\r\n")
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "failed"})


async def test_a_producer_that_fails_after_the_client_went_away_leaves_what_it_produced(
    connection: Connection, manager: SessionManager, agent: Agent
) -> None:
    agent.fails = True
    await connection.post("/finish")
    await connection.until("Three ")
    await connection.leave()
    agent.go_on.set()
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "failed"})


async def test_the_turn_of_a_request_is_held_until_its_reply_is_saved(
    connection: Connection, manager: SessionManager, agent: Agent
) -> None:
    await connection.post("/stop")
    await connection.until("Three ")
    second = Connection(connection.host, connection.port)
    await second.post("/stop")
    head = await second.rest()
    assert head.startswith(b"HTTP/1.1 409")
    assert b"turn_held" in head
    agent.go_on.set()
    assert (await connection.rest()).endswith(b"0\r\n\r\n")
    await second.post("/stop")
    assert (await second.rest()).startswith(b"HTTP/1.1 200")


async def test_a_reply_that_cannot_be_saved_does_not_end_properly(
    connection: Connection, manager: SessionManager, agent: Agent
) -> None:
    await connection.post("/stop")
    await connection.until("Three ")
    await manager.archive_session(CHAT, "ann")
    agent.go_on.set()
    assert not (await connection.rest()).endswith(b"0\r\n\r\n")
    assert not await manager.get_session_messages(CHAT, "ann")


def test_events_carry_the_chunks_and_at_last_the_stored_message() -> None:
    manager = SessionManager("memory://", any_loop=True)
    agent = Agent()
    agent.go_on.set()
    with TestClient(application(manager, agent)) as client:
        SyncSessionManager.of(manager).create_session("ann", session_id=CHAT)
        answer = client.post("/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    first, second, last, end = answer.text.split("\n\n")
    assert (first, second, end) == ('data: "Three "', 'data: "hotels."', "")
    assert last.startswith('event: saved\ndata: {"seq":1,')
    assert '"metadata":{"model":"m"}' in last


# ── below the server ─────────────────────────────────────────────────────────────────────────────


async def call(
    reply: StreamedReply,
    *,
    spec_version: str = "2.3",
    send_fails: bool = False,
    leaves: bool = False,
) -> list[Any]:
    """Run a response as a server of that ASGI version would.

    The client stays, is gone at the first chunk (``send_fails``), or leaves after it.
    """
    sent: list[Any] = []
    has_left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await has_left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:  # noqa: ANN401 - any ASGI message
        if message["type"] == "http.response.body":
            if send_fails or (leaves and spec_version == "2.4"):
                raise OSError
            if leaves:
                has_left.set()
        sent.append(message)

    scope = {"type": "http", "asgi": {"spec_version": spec_version}}
    await reply(scope, receive, send)
    return sent


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_a_server_that_reports_a_lost_client_by_an_error_is_understood(
    manager: SessionManager, agent: Agent, spec_version: str
) -> None:
    reply = StreamedReply(manager, CHAT, "ann", agent.reply())
    await call(reply, spec_version=spec_version, send_fails=True)
    [message] = await saved(manager)
    assert message == reply.message
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "disconnected"})


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
async def test_background_tasks_see_the_message_though_the_client_went_away(
    manager: SessionManager, agent: Agent, spec_version: str
) -> None:
    reply = StreamedReply(manager, CHAT, "ann", agent.reply())
    seen: list[Message | None] = []
    reply.background = BackgroundTask(lambda: seen.append(reply.message))
    await call(reply, spec_version=spec_version, leaves=True)
    assert seen == await manager.get_session_messages(CHAT, "ann")
    assert len(seen) == 1


@pytest.mark.parametrize("finish", [False, True])
async def test_a_request_that_the_server_cancels_leaves_what_was_produced(
    manager: SessionManager, agent: Agent, finish: bool
) -> None:
    reply = StreamedReply(manager, CHAT, "ann", agent.reply(), finish=finish)
    task = asyncio.create_task(call(reply))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("Three ", {"incomplete": "cancelled"})
    assert agent.ended.is_set()


class Slow(SessionManager):
    """Cancels the task that saves for the first time, when the store has the message."""

    saves = 0

    async def add_message(self, *args: Any, **options: Any) -> Message:  # noqa: ANN401
        message = await super().add_message(*args, **options)
        self.saves += 1
        if self.saves == 1:
            raise asyncio.CancelledError
        return message


async def test_a_reply_whose_saving_was_cancelled_is_saved_once() -> None:
    agent = Agent()
    agent.go_on.set()
    async with Slow("memory://") as manager:
        await manager.create_session("ann", session_id=CHAT)
        reply = StreamedReply(manager, CHAT, "ann", agent.reply())
        with pytest.raises(asyncio.CancelledError):
            await call(reply, spec_version="2.4")
        [message] = await manager.get_session_messages(CHAT, "ann")
    assert (manager.saves, message.content, message.metadata) == (2, "Three hotels.", {})


@pytest.mark.parametrize("spec_version", ["2.3", "2.4"])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_refused_reply_is_an_error_and_runs_no_background_task(
    manager: SessionManager,
    agent: Agent,
    caplog: pytest.LogCaptureFixture,
    spec_version: str,
    leaves: bool,
) -> None:
    await manager.share_session(CHAT, "ann", "bob", role="viewer")  # no longer an editor
    agent.go_on.set()
    reply = StreamedReply(manager, CHAT, "bob", agent.reply())
    seen: list[Message | None] = []
    reply.background = BackgroundTask(lambda: seen.append(reply.message))
    with pytest.raises(AccessDeniedError):
        await call(reply, spec_version=spec_version, leaves=leaves)
    assert (seen, reply.message) == ([], None)
    assert caplog.text.count("was not saved in session 'chat'") == 1


@pytest.mark.parametrize("finish", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
async def test_a_reply_that_is_longer_than_a_message_may_be_is_an_error(
    manager: SessionManager, caplog: pytest.LogCaptureFixture, leaves: bool, finish: bool
) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "x" * 1_100_000

    reply = StreamedReply(manager, CHAT, "ann", chunks(), finish=finish)
    with pytest.raises(SessionError, match="content"):
        await call(reply, leaves=leaves)
    assert not await manager.get_session_messages(CHAT, "ann")
    assert caplog.text.count("was not saved in session 'chat'") == 1
    assert "xxx" not in caplog.text


async def test_an_error_of_the_producers_is_not_taken_for_a_client_that_is_gone(
    manager: SessionManager,
) -> None:
    async def chunks() -> AsyncIterator[str]:
        yield "one"
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        await call(StreamedReply(manager, CHAT, "ann", chunks()), spec_version="2.4")
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("one", {"incomplete": "failed"})


async def nothing() -> AsyncIterator[str]:
    for chunk in list[str]():
        yield chunk


async def test_nothing_is_saved_where_nothing_was_produced(manager: SessionManager) -> None:
    reply = StreamedReply(manager, CHAT, "ann", nothing(), events=True)
    sent = await call(reply)
    assert sent[1]["body"] == b"event: saved\ndata: null\n\n"
    assert reply.message is None
    assert not await manager.get_session_messages(CHAT, "ann")


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize(
    ("chunk", "problem"), [(2, "must be text, not int"), ("\ud83d", "lone surrogate")]
)
async def test_a_chunk_that_is_not_text_is_a_failure_of_the_producer(
    manager: SessionManager, chunk: object, problem: str, events: bool
) -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield "one"
        yield chunk

    with pytest.raises(ValueError, match=f"chunks: .*{problem}"):
        await call(StreamedReply(manager, CHAT, "ann", chunks(), events=events))
    [message] = await saved(manager)
    assert (message.content, message.metadata) == ("one", {"incomplete": "failed"})
