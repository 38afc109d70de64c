"""What one iteration of the loop writes is sent together, in order, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from agent_cores.session.service.http1.write_buffer import LARGE, MAX_BUFFERED, WriteBuffer


class Sent:
    """A transport that records its calls."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.pieces.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sent() -> Sent:
    return Sent()


def buffer_of(sent: Sent) -> WriteBuffer:
    return WriteBuffer(cast("asyncio.Transport", sent), asyncio.get_running_loop())


async def test_the_writes_of_one_iteration_are_one(sent: Sent) -> None:
    buffer = buffer_of(sent)
    buffer.write(b"head ")
    buffer.write(b"body")
    assert sent.pieces == []
    await asyncio.sleep(0)
    assert sent.pieces == [b"head body"]
    buffer.write(b"next")
    await asyncio.sleep(0)
    assert sent.pieces == [b"head body", b"next"]


async def test_more_than_the_bound_is_sent_at_once(sent: Sent) -> None:
    buffer = buffer_of(sent)
    buffer.write(b"head ")
    buffer.write(b"x" * MAX_BUFFERED)
    assert sent.pieces == [b"head " + b"x" * MAX_BUFFERED]
    await asyncio.sleep(0)
    assert len(sent.pieces) == 1


async def test_a_large_piece_is_not_copied(sent: Sent) -> None:
    buffer, large = buffer_of(sent), b"x" * LARGE
    buffer.write(b"head ")
    buffer.write(large)
    assert sent.pieces[0] == b"head "
    assert sent.pieces[1] is large


async def test_closing_sends_what_waits(sent: Sent) -> None:
    buffer = buffer_of(sent)
    buffer.write(b"last")
    buffer.close()
    assert (sent.pieces, sent.is_closing()) == ([b"last"], True)
    await asyncio.sleep(0)
    assert sent.pieces == [b"last"]


async def test_nothing_is_sent_to_a_lost_connection(sent: Sent) -> None:
    buffer = buffer_of(sent)
    buffer.write(b"late")
    sent.closed = True
    await asyncio.sleep(0)
    assert sent.pieces == []


async def test_an_empty_write_sends_nothing(sent: Sent) -> None:
    buffer = buffer_of(sent)
    buffer.write(b"head")
    buffer.write(b"")
    await asyncio.sleep(0)
    buffer.write(b"")
    await asyncio.sleep(0)
    assert sent.pieces == [b"head"]
