"""Lines of the log: JSON, gathered for a moment, warnings at once, none lost."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import time
from contextlib import suppress

import pytest

from agent_cores.session.service.log.lines import GATHERED_SECONDS, GatheringHandler, JsonFormatter
from agent_cores.session.service.log.requests import RequestLog, stamp
from agent_cores.session.service.log.writer import LogWriter


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


def logged(handler: GatheringHandler) -> list[str]:
    stream = handler.stream
    assert isinstance(stream, io.StringIO)
    return [json.loads(line)["message"] for line in stream.getvalue().splitlines()]


def test_without_a_loop_a_line_is_written_at_once(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "starting")
    assert logged(handler) == ["starting"]


async def test_lines_of_a_moment_are_written_together(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "one")
    tell(handler, logging.INFO, "two")
    assert logged(handler) == []
    await asyncio.sleep(GATHERED_SECONDS * 2)
    assert logged(handler) == ["one", "two"]
    tell(handler, logging.INFO, "three")
    await asyncio.sleep(GATHERED_SECONDS * 2)
    assert logged(handler) == ["one", "two", "three"]


async def test_a_warning_is_written_at_once_after_what_came_before(
    handler: GatheringHandler,
) -> None:
    tell(handler, logging.INFO, "one")
    tell(handler, logging.WARNING, "trouble")
    assert logged(handler) == ["one", "trouble"]


async def test_what_is_of_no_request_is_written_at_once(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "one")
    tell(handler, logging.INFO, "stopping", of_request=False)
    assert logged(handler) == ["one", "stopping"]


async def test_what_is_left_when_the_program_ends_is_written(handler: GatheringHandler) -> None:
    tell(handler, logging.INFO, "last")
    handler.flush()
    assert logged(handler) == ["last"]


async def test_a_line_that_cannot_be_made_harms_nobody(
    handler: GatheringHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    handler.handle(logging.LogRecord("a", logging.INFO, __file__, 0, "%d", ("x",), None))
    tell(handler, logging.WARNING, "on")
    assert logged(handler) == ["on"]


def told_by(handler: GatheringHandler, level: int) -> logging.Logger:
    logger = logging.Logger("requests", level)  # noqa: LOG001 - of this test alone
    logger.addHandler(handler)
    return logger


async def lines_of_a_request(
    logger: logging.Logger, handler: GatheringHandler
) -> dict[str, object]:
    RequestLog(logger).tell(
        b"r1", method="GET", route="GET /v1/me", status=200, credential="k", user="u", seconds=0.0
    )
    await asyncio.sleep(GATHERED_SECONDS * 2)
    stream = handler.stream
    assert isinstance(stream, io.StringIO)
    [line] = stream.getvalue().splitlines()
    fields: dict[str, object] = json.loads(line)
    assert isinstance(fields.pop("duration_ms"), float)
    assert str(fields.pop("time")).endswith("Z")
    return fields


async def test_a_line_of_a_request_is_the_same_with_and_without_a_record(
    handler: GatheringHandler,
) -> None:
    logger = told_by(handler, logging.INFO)
    made = await lines_of_a_request(logger, handler)
    handler.setStream(io.StringIO())
    logger.addHandler(logging.NullHandler())  # now that somebody else listens, by a record
    assert await lines_of_a_request(logger, handler) == made
    names = ["level", "logger", "message", "request_id", "route", "status", "credential", "user"]
    assert list(made) == names
    assert made["message"] == "GET /v1/me 200"


async def test_a_logger_that_is_quiet_is_told_nothing(handler: GatheringHandler) -> None:
    logger = told_by(handler, logging.WARNING)
    RequestLog(logger).tell(
        b"r1", method="GET", route=None, status=404, credential=None, user=None, seconds=0
    )
    handler.flush()
    assert logged(handler) == []


async def test_what_filters_records_is_asked(handler: GatheringHandler) -> None:
    logger = told_by(handler, logging.INFO)
    logger.addFilter(lambda record: record.getMessage() != "GET 404")
    RequestLog(logger).tell(
        b"r1", method="GET", route=None, status=404, credential=None, user=None, seconds=0
    )
    handler.flush()
    assert logged(handler) == []


def test_a_time_is_rfc_3339_with_milliseconds() -> None:
    assert stamp(1_700_000_000_062) == "2023-11-14T22:13:20.062Z"
    assert stamp(1_700_000_001_999) == "2023-11-14T22:13:21.999Z"


async def test_a_log_that_cannot_be_written_harms_no_request(handler: GatheringHandler) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        handler.setStream(closed)
        logger = told_by(handler, logging.INFO)
        RequestLog(logger).tell(
            b"r1", method="GET", route=None, status=200, credential=None, user=None, seconds=0
        )
        logger.error("trouble")
        handler.flush()
        handler.setStream(io.StringIO())
        logger.error("on")
        assert logged(handler) == ["on"]
        with suppress(OSError):
            closed.close()


async def test_a_handler_whose_loop_ended_is_looked_for_again(
    handler: GatheringHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = told_by(handler, logging.INFO)
    log = RequestLog(logger)
    log.tell(b"r1", method="GET", route=None, status=200, credential=None, user=None, seconds=0)
    assert handler.is_gathering
    late = time.monotonic() + GATHERED_SECONDS * 2
    monkeypatch.setattr(time, "monotonic", lambda: late)
    assert not handler.is_gathering
    other = GatheringHandler()
    other.setFormatter(JsonFormatter())
    logger.handlers[:] = [other]
    log.tell(b"r2", method="GET", route=None, status=200, credential=None, user=None, seconds=0)
    assert other.is_gathering


class Pipe:
    """A pipe that is only read when a test does it."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")

    def close(self) -> None:
        os.close(self.reader)
        self.stream.close()


async def test_a_reader_who_stalls_holds_nothing_up_and_lines_are_dropped_and_counted() -> None:
    pipe = Pipe()
    handler = GatheringHandler()
    handler.setFormatter(JsonFormatter())
    handler.stream = pipe.stream
    handler.writer = LogWriter(handler.writer._lost, most=10)  # noqa: SLF001
    logger = told_by(handler, logging.INFO)
    before = time.monotonic()
    for number in range(100):
        logger.warning("%d%s", number, "x" * 10_000)
    assert time.monotonic() - before < 1
    dropped = handler.writer.dropped
    assert 50 <= dropped < 100  # a pipe holds some of them
    lines = await asyncio.wait_for(asyncio.to_thread(read_until_told, pipe), 10)
    handler.flush()
    pipe.close()
    assert [line.rstrip("x") for line in lines[:3]] == ["0", "1", "2"]
    assert lines[-1] == f"{dropped} lines were dropped, since the log was not read"
    assert len(lines) == 100 - dropped + 1


def read_until_told(pipe: Pipe) -> list[str]:
    """Return the messages up to the one of dropped lines."""
    read = b""
    while b"dropped" not in read:
        read += os.read(pipe.reader, 65_536)
    return [json.loads(line)["message"] for line in read.splitlines()]


def test_a_program_ends_although_its_log_is_not_read() -> None:
    pipe = Pipe()
    writer = LogWriter(str)
    writer.write(pipe.stream, f'{{"message": "{"x" * 200_000}"}}\n', 1)
    before = time.monotonic()
    writer.wait(0.05)
    assert 0.05 <= time.monotonic() - before < 5
    os.close(pipe.reader)
    writer.wait()
    pipe.stream.close()
