"""Lines of the log: JSON, gathered for a moment, warnings at once, none lost."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from agent_cores.session.service.logs import GATHERED_SECONDS, GatheringHandler, JsonFormatter


@pytest.fixture
def handler() -> GatheringHandler:
    handler = GatheringHandler()
    handler.setFormatter(JsonFormatter())
    handler.setStream(io.StringIO())
    return handler


def tell(handler: GatheringHandler, level: int, message: str, *, of_request: bool = True) -> None:
    record = logging.LogRecord("a", level, __file__, 0, message, (), None)
    if of_request:
        record.request_id = "1"
    handler.handle(record)


def told(handler: GatheringHandler) -> list[str]:
    stream = handler.stream
    assert isinstance(stream, io.StringIO)
    return [json.loads(line)["message"] for line in stream.getvalue().splitlines()]


def test_without_a_loop_a_line_is_written_at_once(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "starting")
    assert told(handler) == ["starting"]


async def test_lines_of_a_moment_are_written_together(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "one")
    tell(handler, logging.INFO, "two")
    assert told(handler) == []
    await asyncio.sleep(GATHERED_SECONDS * 2)
    assert told(handler) == ["one", "two"]
    tell(handler, logging.INFO, "three")
    await asyncio.sleep(GATHERED_SECONDS * 2)
    assert told(handler) == ["one", "two", "three"]


async def test_a_warning_is_written_at_once_after_what_came_before(
    handler: GatheringHandler,
) -> None:
    tell(handler, logging.INFO, "one")
    tell(handler, logging.WARNING, "trouble")
    assert told(handler) == ["one", "trouble"]


async def test_what_is_of_no_request_is_written_at_once(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "one")
    tell(handler, logging.INFO, "stopping", of_request=False)
    assert told(handler) == ["one", "stopping"]


async def test_what_is_left_when_the_program_ends_is_written(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "last")
    handler.flush()
    assert told(handler) == ["last"]


async def test_a_line_that_cannot_be_made_harms_nobody(
    handler: GatheringHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler.handle(logging.LogRecord("a", logging.INFO, __file__, 0, "%d", ("x",), None))
    tell(handler, logging.WARNING, "on")
    assert told(handler) == ["on"]
