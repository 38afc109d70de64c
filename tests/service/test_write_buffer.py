"""What is written in one turn of the loop goes out together, in its order, and none is lost."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from agent_cores.session.service.http1.write_buffer import LARGE, MAX_BUFFERED, WriteBuffer


class Sent:
    """A transport that notes what it is told."""

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

    def get_extra_info(self, name: str) -> str:
        return name


@pytest.fixture
def sent() -> Sent:
    return Sent()


def gathering(sent: Sent) -> WriteBuffer:
    return WriteBuffer(cast("asyncio.Transport", sent), asyncio.get_running_loop())


async def test_writes_of_one_turn_go_out_together_at_its_end(sent: Sent) -> None:
    transport = gathering(sent)
    transport.write(b"head ")
    transport.write(b"body")
    assert sent.pieces == []
    await asyncio.sleep(0)
    assert sent.pieces == [b"head body"]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert sent.pieces == [b"head body", b"next"]


async def test_what_is_much_goes_at_once(sent: Sent) -> None:
    transport = gathering(sent)
    transport.write(b"head ")
    transport.write(b"x" * MAX_BUFFERED)
    assert sent.pieces == [b"head " + b"x" * MAX_BUFFERED]
    await asyncio.sleep(0)
    assert len(sent.pieces) == 1


async def test_what_is_large_is_not_copied(sent: Sent) -> None:
    transport, large = gathering(sent), b"x" * LARGE
    transport.write(b"head ")
    transport.write(large)
    assert sent.pieces[0] == b"head "
    assert sent.pieces[1] is large


async def test_closing_sends_what_was_kept(sent: Sent) -> None:
    transport = gathering(sent)
    transport.write(b"last")
    transport.close()
    assert (sent.pieces, transport.is_closing()) == ([b"last"], True)
    await asyncio.sleep(0)
    assert sent.pieces == [b"last"]


async def test_nothing_is_sent_where_the_connection_was_lost(sent: Sent) -> None:
    transport = gathering(sent)
    transport.write(b"late")
    sent.closed = True
    await asyncio.sleep(0)
    assert sent.pieces == []


async def test_all_else_is_the_transports(sent: Sent) -> None:
    assert gathering(sent).get_extra_info("peername") == "peername"


async def test_an_answer_without_a_body_is_one_write(sent: Sent) -> None:
    transport = gathering(sent)
    transport.write(b"head")
    transport.write(b"")
    await asyncio.sleep(0)
    transport.write(b"")
    await asyncio.sleep(0)
    assert sent.pieces == [b"head"]
