"""What requests hold: places among others until their answers are taken, and bytes of a budget."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.service.http1 import served
from tests.service.wire import Wire

FULL = "/v1/sessions/full/messages"


async def filled(**settings: Any) -> tuple[Wire, bytes]:  # noqa: ANN401 - settings of any kind
    """Return a service whose session ``full`` has a few megabytes, and a request for them."""
    wire = Wire(**settings)
    key = await wire.key()
    who = await wire.caller("ann", key=key)
    await who.new_session(id="full")
    for _ in range(3):
        body = {"messages": [{"role": "user", "content": "x" * 900_000}]}
        assert (await who("POST", FULL, body)).status == 201
    lines = [f"GET {FULL} HTTP/1.1", "Host: here", f"Authorization: Bearer {key}", "X-User-Id: ann"]
    return wire, "\r\n".join([*lines, "", ""]).encode()


async def status(server: Any, request: bytes) -> int:  # noqa: ANN401 - of this module
    reader, writer = await server.open()
    writer.write(request)
    line = await reader.readuntil(b"\r\n")
    writer.transport.abort()
    return int(line[9:12])


async def test_a_request_counts_until_its_answer_is_taken() -> None:
    wire, request = await filled(max_in_flight_per_caller=2)
    async with served(wire.service) as server:
        waiting = []
        for _ in range(2):
            reader, writer = await server.open()
            reader._transport.pause_reading()  # type: ignore[attr-defined]  # noqa: SLF001
            for _ in range(3):  # more than the system takes for a caller who does not read
                writer.write(request)
            waiting.append((reader, writer))
        async with asyncio.timeout(10):
            while wire.service._components.callers.count < 2:  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert await status(server, request) == 429
        for _, writer in waiting:
            writer.transport.abort()
        async with asyncio.timeout(10):
            while wire.service._components.callers.count:  # noqa: ASYNC110, SLF001
                await asyncio.sleep(0.01)
        assert await status(server, request) == 200
    await wire.service.aclose()


async def test_reads_for_whose_answer_there_is_no_room_are_refused_and_writes_are_not() -> None:
    wire, request = await filled(max_body_bytes=1_000_000, max_buffered_bytes=1_000_000)
    who = await wire.caller("ann")
    assert await wire.service.why_not_ready() is None
    refused = await who("GET", FULL)
    assert (refused.status, refused.code) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"
    assert (await who("GET", f"{FULL}?limit=1")).status == 200
    body = {"messages": [{"role": "user", "content": "x" * 900_000}]}
    budget = wire.service.budget
    budget.held += 100_000  # by others
    assert (await who("POST", FULL, body)).status == 201  # it was carried out, so it is told
    budget.held -= 100_000
    assert budget.held == 0
    async with served(wire.service) as server:
        assert await status(server, request) == 503
    assert budget.held == 0
    await wire.service.aclose()


async def test_bodies_are_counted_whatever_serves_the_service() -> None:
    wire = Wire(max_body_bytes=1_000_000, max_buffered_bytes=1_000_000)
    who = await wire.caller("ann")
    budget = wire.service.budget
    budget.held = 1_000_000
    refused = await who("POST", "/v1/sessions", b" " * 70_000 + b"{}")
    assert (refused.status, refused.code) == (503, "overloaded")
    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    assert (await who("POST", "/v1/sessions", {})).status == 201
    budget.held = 0
    assert (await who("POST", "/v1/sessions", b" " * 70_000 + b"{}")).status == 201
    assert budget.held == 0
    await wire.service.aclose()
