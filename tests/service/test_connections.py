"""Connections: what bounds them, what is read when, and how they end."""

# ruff: noqa: ANN401 - applications as ASGI has them

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.service.http1 import Recorder, answered, request, served, statuses


class Gate:
    """Holds every request back until it is told to go on."""

    def __init__(self, size: int = 2) -> None:
        self.go = asyncio.Event()
        self.begun = 0
        self._body = b"x" * size

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        await self.go.wait()
        await answered(send, self._body)


async def test_nothing_is_read_of_the_next_requests_while_one_is_at_work() -> None:
    app = Gate()
    async with served(app) as server:
        _, writer = await server.open()
        tiny = request("GET", "/", b"") * 1_000
        for _ in range(300):  # about 12 MB, if all of it were taken
            writer.write(tiny)
        await asyncio.sleep(0.1)
        assert app.begun == 1
        assert writer.transport.get_write_buffer_size() > 1_000_000
        (connection,) = server.state.connections
        assert len(connection.came) <= 300_000
        writer.transport.abort()


async def test_answers_that_are_not_read_hold_the_next_requests_back() -> None:
    app = Gate(1_000)
    app.go.set()
    async with served(app) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", server.port))
        sending = asyncio.create_task(
            loop.sock_sendall(connection, request("GET", "/", b"") * 50_000)
        )
        before = -1
        while app.begun != before:
            before = app.begun
            await asyncio.sleep(0.1)
        assert 0 < app.begun < 50_000
        (ours,) = server.state.connections
        assert ours._transport.get_write_buffer_size() < 200_000  # noqa: SLF001
        sending.cancel()
        connection.close()


async def test_a_caller_who_does_not_take_an_answer_is_hung_up_on() -> None:
    app = Gate(8_000_000)
    app.go.set()
    async with served(app, send_timeout=0.02) as server:
        _, writer = await server.open()
        writer.write(request("GET", "/", b""))
        async with asyncio.timeout(5):
            while not app.begun or server.state.connections:  # noqa: ASYNC110 - it is watched
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.01)
        assert not server.state.tasks
        writer.close()


async def test_an_answer_is_waited_for_as_long_as_it_is_taken() -> None:
    app = Gate(20_000_000)
    app.go.set()
    async with served(app, send_timeout=5) as server:
        reader, writer = await server.open()
        writer.write(request("GET", "/", b"", close=True))
        await asyncio.sleep(0.1)
        assert server.state.tasks  # the request counts until then
        answer = await reader.read()
        assert len(answer.partition(b"\r\n\r\n")[2]) == 20_000_000
        writer.close()


async def test_bodies_of_all_callers_together_are_bounded() -> None:
    async def count(scope: Any, receive: Any, send: Any) -> None:
        body = 0
        while (message := await receive()).get("more_body"):
            body += len(message["body"])
        await answered(send, b"")

    most = 1_000_000
    async with served(count, max_body_bytes=most, max_buffered_bytes=most) as server:
        head = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 400001\r\n\r\n"
        waiting = []
        for _ in range(2):
            reader, writer = await server.open()
            writer.write(head + b"x" * 400_000)
            waiting.append((reader, writer))
        await asyncio.sleep(0.1)
        third = await server.said(head + b"x" * 400_000)
        assert (statuses(third), b"500" in third) == (
            [500],
            True,
        )  # of an application without words
        small = await server.said(request("POST", "/", b"x" * 60_000, close=True))
        assert statuses(small) == [200]
        for reader, writer in waiting:
            writer.write(b"x")
            assert (await reader.read(12)) == b"HTTP/1.1 200"
            writer.close()
        await asyncio.sleep(0.02)
        assert server.budget.held == 0
        last = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert statuses(await server.said(last + b"x" * 400_001)) == [200]


async def test_a_body_that_nobody_wants_is_read_on_if_little_and_else_ends_the_connection() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answered(send, b"no", 401)

    async with served(refuse) as server:
        little = request("POST", "/", b"x" * 10_000)
        assert statuses(await server.said(little[:200], little[200:], request(close=True))) == [
            401,
            401,
        ]
        reader, writer = await server.open()
        writer.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9000000\r\n\r\n")
        answer = await reader.readuntil(b"no")  # long before the body has come, which is not kept
        assert b"connection: close" in answer
        writer.write(b"x" * 9_000_000)
        assert await reader.read() == b""
        writer.close()


async def test_a_caller_who_says_no_more_after_the_question_gets_the_answer() -> None:
    app = Gate()
    async with served(app) as server:
        reader, writer = await server.open()
        writer.write(request("GET", "/", b"") * 2)
        writer.write_eof()
        await asyncio.sleep(0.05)
        app.go.set()
        assert statuses(await reader.read()) == [200, 200]
        writer.close()


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"keep_alive": 0.1}, b""),
        ({"keep_alive": 0.1}, request("GET", "/", b"")),
        ({"header_timeout": 0.1}, b"GET / HTTP/1.1\r\nHost: he"),
        ({"header_timeout": 0.1}, request("GET", "/", b"") + b"GET /"),
    ],
)
async def test_idle_connections_and_slow_heads_end(settings: dict[str, float], sent: bytes) -> None:
    async with served(Recorder(), **settings) as server:
        reader, writer = await server.open()
        writer.write(sent)
        before = asyncio.get_running_loop().time()
        answer = await asyncio.wait_for(reader.read(), 5)
        assert asyncio.get_running_loop().time() - before >= 0.1
        assert statuses(answer) == ([200] if sent.startswith(request("GET", "/", b"")) else [])
        writer.close()


async def test_a_head_that_comes_byte_by_byte_is_not_given_more_time() -> None:
    async with served(Recorder(), header_timeout=0.2) as server:
        reader, writer = await server.open()
        reading = asyncio.create_task(reader.read())
        for byte in b"GET / HTTP/1.1\r\nHost: here\r\nX: " + b"y" * 100:
            if reading.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert reading.done()
        await asyncio.gather(reading, return_exceptions=True)  # what was sent after it, reset it
        writer.close()


async def test_one_request_a_connection_where_none_is_kept_alive() -> None:
    async with served(Recorder(), keep_alive=0) as server:
        assert statuses(await server.said(request() + request())) == [200]


async def test_connections_past_the_bound_take_the_place_of_idle_ones_or_are_refused() -> None:
    app = Gate()
    async with served(app, max_connections=3) as server:
        at_work = [await server.open() for _ in range(2)]
        for _, writer in at_work:
            writer.write(request("GET", "/", b""))
        idle = await server.open()
        await asyncio.sleep(0.02)
        newer = await server.open()
        assert await asyncio.wait_for(idle[0].read(), 2) == b""
        newer[1].write(request("GET", "/", b""))
        await asyncio.sleep(0.02)
        assert statuses(await server.said(request("GET", "/", b""))) == [503]
        app.go.set()
        for reader, writer in [*at_work, newer]:
            assert (await reader.read(12)) == b"HTTP/1.1 200"
            writer.close()
        idle[1].close()


async def test_many_small_chunks_leave_others_their_turn() -> None:
    app = Recorder()
    body = b"1\r\nx\r\n" * 200_000
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(0)
            longest = max(longest, loop.time() - before)

    async with served(app) as server:
        watching = asyncio.create_task(watch())
        head = b"POST / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n"
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        answer = await server.said(head + body + b"0\r\n\r\n")
        watching.cancel()
    assert statuses(answer) == [200]
    assert app.requests[0][2] == b"x" * 200_000
    assert longest < 0.5  # by a hundred times more without turns, on a slow machine


async def test_a_server_that_stops_waits_for_the_request_at_work_and_for_no_other() -> None:
    app = Gate()
    async with served(app) as server:
        at_work, idle, begun = [await server.open() for _ in range(3)]
        at_work[1].write(request("GET", "/", b"") * 2)
        begun[1].write(b"GET / HT")
        await asyncio.sleep(0.05)
        for connection in tuple(server.state.connections):
            connection.shutdown()
        assert await asyncio.wait_for(idle[0].read(), 2) == b""
        app.go.set()
        answer = await asyncio.wait_for(at_work[0].read(), 5)
        assert statuses(answer) == [200]
        assert b"connection: close" in answer
        assert await asyncio.wait_for(begun[0].read(), 5) == b""
        for _, writer in (at_work, idle, begun):
            writer.close()


async def test_a_connection_accepted_as_the_server_stops_may_send_one_request() -> None:
    async with served(Recorder()) as server:
        server.acceptor.is_stopping = True
        answer = await server.said(request())
        assert statuses(answer) == [200]
        assert b"connection: close" in answer
        assert await server.said() == b""


async def test_a_connection_accepted_before_the_server_stops_may_send_one_request() -> None:
    async with served(Recorder()) as server:
        reader, writer = await server.open()
        while not server.state.connections:  # noqa: ASYNC110 - the server is in another task
            await asyncio.sleep(0)
        (connection,) = server.state.connections
        connection.shutdown()
        await asyncio.sleep(0.05)
        writer.write(request() * 2)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert statuses(answer) == [200]
        assert b"connection: close" in answer
        writer.close()


async def test_what_waits_on_all_connections_together_is_bounded() -> None:
    app = Gate()
    most = 1_000_000
    async with served(app, max_body_bytes=most, max_buffered_bytes=most) as server:
        writers = []
        for _ in range(30):
            _, writer = await server.open()
            writer.write(request("GET", "/", b"") * 10_000)
            writers.append(writer)
        async with asyncio.timeout(10):
            while app.begun < 30:  # noqa: ASYNC110 - the server is in another task
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        kept = sum(len(connection.came) for connection in server.state.connections)
        assert kept <= most + 30 * 65_536
        assert server.budget.held <= most
        assert app.begun == 30
        for writer in writers:
            writer.transport.abort()
        app.go.set()
        async with asyncio.timeout(10):
            while server.budget.held:  # noqa: ASYNC110 - the server is in another task
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("ending", ["idle", "full", "stopping"])
async def test_a_request_that_crosses_the_end_of_an_idle_connection_is_answered(
    ending: str,
) -> None:
    app = Recorder()
    async with served(app) as server:
        reader, writer = await server.open()
        writer.write(request())
        await reader.readuntil(b"{}")
        await asyncio.sleep(0.01)
        (connection,) = server.state.connections
        writer.write(request())  # it is with the system now, and the loop has not seen it
        if ending == "idle":
            connection.check(connection.deadline)
        elif ending == "full":
            connection.close_if_idle()
        else:
            connection.shutdown()
        answer = await asyncio.wait_for(reader.readuntil(b"{}"), 5)
        assert statuses(answer) == [200]
        assert (b"connection: close" in answer) == (ending == "stopping")
        writer.close()
    assert len(app.requests) == 2
