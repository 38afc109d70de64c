"""Answers that are lost on the way: what the client sends again, and what it tells."""

# ruff: noqa: ANN401, SLF001 - a test takes a proxy apart

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.client import SessionClient, transport
from agent_cores.session.errors import (
    OverloadedError,
    SessionNotFoundError,
    StorageUnavailableError,
    TurnLostError,
)
from tests.service.served import Live
from tests.service.wire import Wire

Do = Callable[[], Awaitable[object]]


class Cutter:
    """A proxy that cuts connections before the first byte of an answer, if told to."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.passes = 0
        self.lose = 0
        self.drop = 0
        self.before_error: Do | None = None
        self._port = 0
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, address: str) -> str:
        """Stand before a service, and return the address to use instead."""
        self._port = int(address.rpartition(":")[2])
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    request = await _one(reader)
                    if self.drop and b" /v1/me " not in request:
                        self.drop -= 1
                        writer.transport.abort()
                        return
                    up_writer.write(request)
                    answer = await _one(up_reader)
                    method, path, _ = request.split(b" ", 2)
                    if path != b"/v1/me":
                        self.seen.append(method.decode())
                        if self.passes:
                            self.passes -= 1
                        elif self.lose:
                            self.lose -= 1
                            if self.before_error is not None:
                                await self.before_error()
                            writer.transport.abort()
                            return
                    writer.write(answer)
        finally:
            writer.close()
            up_writer.close()
            self._tasks.discard(task)


async def _one(reader: asyncio.StreamReader) -> bytes:
    """Read one request, or one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    size = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            size = int(line.partition(b":")[2])
    return head + await reader.readexactly(size)


@pytest.fixture
async def cutter(wire: Wire) -> AsyncIterator[tuple[Cutter, SessionClient]]:
    live, cutter = Live(wire.service), Cutter()
    address = await cutter.start(await live.start())
    async with SessionClient(address, await wire.key(), retries=2, timeout=5) as client:
        await client.create_session("ann", session_id="talk")
        await client.add_message("talk", "ann", "user", "hi")
        await client.take_turn("talk", "ann", token="held")
        cutter.seen.clear()
        yield cutter, client
    await cutter.stop()
    await live.stop()


ONCE: dict[str, tuple[str, Callable[[SessionClient], Awaitable[Any]]]] = {
    "share": ("PUT", lambda c: c.share_session("talk", "ann", "ben")),
    "visibility": ("PUT", lambda c: c.set_visibility("talk", "ann", "public")),
    "transfer": ("PUT", lambda c: c.transfer_ownership("talk", "ann", "ben")),
    "delete_message": ("DELETE", lambda c: c.delete_message("talk", "ann", 1)),
    "delete_messages": ("POST", lambda c: c.delete_messages("talk", "ann", seqs=[1])),
    "update": ("PATCH", lambda c: c.update_session("talk", "ann", {"k": 1})),
    "rewind": ("POST", lambda c: c.rewind_session("talk", "ann", 0)),
}


@pytest.mark.parametrize("verb", ONCE)
async def test_what_cannot_be_repeated_is_sent_once_and_its_outcome_is_unknown(
    cutter: tuple[Cutter, SessionClient], verb: str
) -> None:
    proxy, client = cutter
    method, call = ONCE[verb]
    proxy.lose = 1
    with pytest.raises(StorageUnavailableError) as caught:
        await call(client)
    assert caught.value.outcome_unknown
    assert proxy.seen == [method]


REMOVED: dict[str, Callable[[SessionManager], Awaitable[Any]]] = {
    "delete_message": lambda m: m.delete_message("talk", "ann", 2),
    "rewind": lambda m: m.rewind_session("talk", "ann", 1),
}


@pytest.mark.parametrize("expected", [{}, {"expected_revision": 1}, {"expected_last_seq": 1}])
@pytest.mark.parametrize("removal", REMOVED)
async def test_a_message_that_was_removed_meanwhile_does_not_come_back(
    wire: Wire, cutter: tuple[Cutter, SessionClient], removal: str, expected: dict[str, Any]
) -> None:
    proxy, client = cutter

    async def remove() -> None:
        await REMOVED[removal](wire.manager)

    proxy.lose, proxy.before_error = 1, remove
    with pytest.raises(StorageUnavailableError) as caught:
        await client.add_message("talk", "ann", "user", "seen, and removed", **expected)
    assert caught.value.outcome_unknown
    assert proxy.seen == ["POST", "POST"]
    assert [m.content for m in await client.get_session_messages("talk", "ann")] == ["hi"]


async def test_an_append_is_stored_once_though_answers_were_lost(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter
    for lost in (1, 2):
        proxy.lose = lost
        said = await client.add_message("talk", "ann", "user", str(lost), context_updates={"k": 1})
        assert said.seq == 1 + lost
    cold = SessionClient(client._transport._base, await wire.key(), retries=2, timeout=5)
    async with cold:  # it knows nothing of the session, but that the message is there
        proxy.lose = 1
        assert (await cold.add_message("talk", "ann", "user", "3")).seq == 4
    page = await client.get_session_messages("talk", "ann")
    assert [m.content for m in page] == ["hi", "1", "2", "3"]


async def test_an_update_of_a_message_is_carried_out_once_though_answers_were_lost(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter
    proxy.lose = 2
    new = await client.update_message("talk", "ann", 1, content="new")
    assert proxy.seen == ["PATCH"] * 3
    proxy.drop = 1
    newer = await client.update_message("talk", "ann", 1, metadata_updates={"k": 1})
    [stored] = await client.get_session_messages("talk", "ann")
    assert stored == newer
    assert (stored.content, stored.metadata) == (new.content, {"k": 1})


async def test_a_repeated_update_undoes_no_later_one(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter

    async def update() -> None:
        await wire.manager.update_message("talk", "ann", 1, content="later")

    proxy.lose, proxy.before_error = 1, update
    with pytest.raises(StorageUnavailableError) as caught:
        await client.update_message("talk", "ann", 1, content="new")
    assert caught.value.outcome_unknown
    assert [m.content for m in await client.get_session_messages("talk", "ann")] == ["later"]


async def test_an_append_that_never_arrived_is_repeated_while_the_session_is_as_it_was(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter
    proxy.drop = 1
    assert (await client.add_message("talk", "ann", "user", "2")).seq == 2
    await wire.manager.update_session("talk", "ann", {"k": 1})
    proxy.drop = 1
    with pytest.raises(StorageUnavailableError) as caught:
        await client.add_message("talk", "ann", "user", "3")
    assert caught.value.outcome_unknown
    page = await client.get_session_messages("talk", "ann")
    assert page.version == (await client.get_session("talk", "ann")).version
    proxy.drop = 1
    assert (await client.add_message("talk", "ann", "user", "3")).seq == 3


async def test_a_turn_is_renewed_and_released_though_answers_were_lost(
    cutter: tuple[Cutter, SessionClient],
) -> None:
    proxy, client = cutter
    proxy.lose = 1
    assert (await client.renew_turn("talk", "ann", "held")).token == "held"
    assert proxy.seen == ["PUT", "PUT"]
    proxy.seen.clear()
    proxy.lose = 1
    assert await client.release_turn("talk", "ann", "held") is True
    assert proxy.seen == ["DELETE", "DELETE"]
    with pytest.raises(TurnLostError):
        await client.release_turn("talk", "ann", "held")
    await client.take_turn("talk", "ann")


async def test_a_delete_whose_answer_was_lost_is_looked_for_and_not_sent_again(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter
    proxy.lose = 1
    assert await client.delete_session("talk", "ann") is True
    assert proxy.seen == ["DELETE", "GET"]
    with pytest.raises(SessionNotFoundError):
        await client.delete_session("talk", "ann")


async def test_a_delete_that_its_caller_may_not_make_is_never_told_to_be_done(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter
    await client.share_session("talk", "ann", "group:team", role="editor")
    proxy.passes, proxy.lose = 1, 1  # refused without groups; the answer with groups is lost
    with_groups = client.for_namespace("default", groups_of=lambda user: ["team"])
    with pytest.raises(StorageUnavailableError) as caught:
        await with_groups.delete_session("talk", "val")
    assert caught.value.outcome_unknown
    assert (await with_groups.get_session("talk", "val")).id == "talk"


async def test_a_session_that_took_the_id_of_a_deleted_one_is_left_alone(
    wire: Wire, cutter: tuple[Cutter, SessionClient]
) -> None:
    proxy, client = cutter

    async def re_create() -> None:
        await wire.manager.create_session("ann", session_id="talk")

    proxy.lose, proxy.before_error = 1, re_create
    with pytest.raises(StorageUnavailableError) as caught:
        await client.delete_session("talk", "ann")
    assert caught.value.outcome_unknown
    assert proxy.seen == ["DELETE", "GET"]
    assert (await wire.manager.get_session("talk", "ann")).metadata.last_seq == 0


async def test_a_lost_answer_is_not_forgotten_when_the_service_goes_away(
    cutter: tuple[Cutter, SessionClient],
) -> None:
    proxy, client = cutter

    async def leave() -> None:
        assert proxy._listener is not None
        proxy._listener.close()

    proxy.lose, proxy.before_error = 1, leave
    with pytest.raises(StorageUnavailableError, match="ClientConnector") as caught:
        await client.add_message("talk", "ann", "user", "there, perhaps")
    assert caught.value.outcome_unknown


async def test_a_read_is_repeated_and_never_of_unknown_outcome(
    cutter: tuple[Cutter, SessionClient],
) -> None:
    proxy, client = cutter
    proxy.lose = 2
    assert (await client.get_session("talk", "ann")).metadata.last_seq == 1
    assert proxy.seen == ["GET", "GET", "GET"]
    proxy.lose = 3
    with pytest.raises(StorageUnavailableError) as caught:
        await client.get_session("talk", "ann")
    assert not caught.value.outcome_unknown


class Busy:
    """A service that refuses, or a proxy that does, as often as it is told to."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self.refusals: list[tuple[int, str, str]] = []
        self.asked = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] == "/v1/me":
            await self._service(scope, receive, send)
            return
        self.asked += 1
        if not self.refusals:
            await self._service(scope, receive, send)
            return
        status, code, wait = self.refusals.pop(0)
        said = {"type": "", "title": "", "status": 503, "code": code, "detail": "not now"}
        body = json.dumps(said if code else []).encode()
        headers = [(b"retry-after", wait.encode())] if wait else []
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
async def busy(wire: Wire) -> AsyncIterator[tuple[Busy, SessionClient]]:
    app = Busy(wire.service)
    live = Live(app)
    async with SessionClient(await live.start(), await wire.key(), retries=2, timeout=5) as client:
        yield app, client
    await live.stop()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let pauses take no time, and note how long they would have been."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(transport, "sleep", sleep)
    return pauses


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "rate_limited"), (503, "overloaded"), (503, "session_moved"), (503, ""), (502, "")],
)
async def test_what_can_be_repeated_waits_as_long_as_it_is_told(
    busy: tuple[Busy, SessionClient], slept: list[float], status: int, code: str
) -> None:
    app, client = busy
    app.refusals = [(status, code, "3"), (status, code, "")]
    talk = await client.create_session("ann")
    assert (await client.get_session(talk, "ann")).id == talk
    assert slept[0] == 3
    assert 0 < slept[1] < 1
    assert app.asked == 4


async def test_a_wait_past_the_timeout_and_what_cannot_be_repeated_are_told_at_once(
    busy: tuple[Busy, SessionClient], slept: list[float]
) -> None:
    app, client = busy
    talk = await client.create_session("ann")
    app.refusals = [(503, "overloaded", "6"), (503, "overloaded", "1")]
    with pytest.raises(OverloadedError):
        await client.get_session(talk, "ann")
    with pytest.raises(OverloadedError):
        await client.update_session(talk, "ann", {"k": 1})
    assert slept == []
    app.refusals = [(429, "rate_limited", "Wed, 21 Oct 2015 07:28:00 GMT")] * 3
    with pytest.raises(OverloadedError):
        await client.get_session(talk, "ann")
    assert len(slept) == 2


async def test_a_refusal_after_a_lost_answer_does_not_say_that_nothing_happened(
    busy: tuple[Busy, SessionClient], slept: list[float]
) -> None:
    app, client = busy
    talk = await client.create_session("ann")
    app.refusals = [(504, "", ""), (503, "overloaded", ""), (503, "overloaded", "")]
    with pytest.raises(StorageUnavailableError) as caught:
        await client.add_message(talk, "ann", "user", "there, perhaps")
    assert caught.value.outcome_unknown
    assert len(slept) == 2
