"""What a reader finds is written whole or not at all, once, whatever the reader meets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import msgspec
import pytest

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.frameworks.found import FoundMessage, FoundSession, LeftOut
from agent_cores.session.frameworks.writing import SessionWriter
from agent_cores.session.models.change import Change
from agent_cores.session.models.state import Applied
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.moving.sessions import NOW, everything


@pytest.fixture
async def store() -> AsyncIterator[MemoryProvider]:
    store = MemoryProvider.from_url("memory://")
    await store.initialize()
    yield store
    await store.shutdown()


def found(messages: Callable[[], AsyncIterator[FoundMessage | LeftOut]]) -> FoundSession:
    return FoundSession(session_id="talk", owner_id="ann", messages=messages)


def said(number: int, at: datetime | None = None, content: object = "hi") -> FoundMessage:
    return FoundMessage(id=f"m{number}", role="user", content=content, created_at=at)  # type: ignore[arg-type]


async def one() -> AsyncIterator[FoundMessage | LeftOut]:
    yield said(1)


async def test_a_source_that_shrinks_or_fails_leaves_nothing(store: MemoryProvider) -> None:
    counts = iter([2_500, 2_000])

    async def shrinking() -> AsyncIterator[FoundMessage | LeftOut]:
        for number in range(next(counts)):
            yield said(number)

    writer = SessionWriter(store, "default", replace=False)
    await writer.write(found(shrinking))
    assert writer.tally.changing.names == ["default/talk"]
    assert await everything(store) == {}
    passes = iter([False, True])

    async def failing() -> AsyncIterator[FoundMessage | LeftOut]:
        fails = next(passes)
        for number in range(2_500):
            if fails and number == 1_700:
                raise BlockingIOError
            yield said(number)

    with pytest.raises(BlockingIOError):
        await writer.write(found(failing))
    assert await everything(store) == {}


async def test_a_source_that_changes_between_its_readings_leaves_nothing(
    store: MemoryProvider,
) -> None:
    readings = iter([range(2_500), range(1, 2_501)])

    async def moving() -> AsyncIterator[FoundMessage | LeftOut]:
        for number in next(readings):
            yield said(number)

    writer = SessionWriter(store, "default", replace=False)
    await writer.write(found(moving))
    assert writer.tally.changing.names == ["default/talk"]
    assert await everything(store) == {}


async def test_when_one_write_fails_the_others_have_ended(
    store: MemoryProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = store.apply

    async def failing(change: Change) -> Applied:
        if change.session_id == "first":
            raise StorageUnavailableError("gone")
        for _ in range(5):
            await asyncio.sleep(0)
        return await apply(change)

    monkeypatch.setattr(store, "apply", failing)
    writer = SessionWriter(store, "default", replace=False)
    for name in ("first", "second"):
        await writer.write(msgspec.structs.replace(found(one), session_id=name))
    with pytest.raises(StorageUnavailableError):
        await writer.flush()
    assert [name for _, name in await everything(store)] == ["second"]


async def test_of_two_sessions_with_one_id_the_first_stays(store: MemoryProvider) -> None:
    for again in (False, True):
        writer = SessionWriter(store, "default", replace=True)
        for owner in ("ann", "bob"):
            await writer.write(msgspec.structs.replace(found(one), owner_id=owner))
        await writer.flush()
        assert (writer.tally.sessions, writer.tally.present) == (not again, again)
        assert writer.tally.different.names == ["default/talk"]
        [session] = (await everything(store)).values()
        assert session.header.owner_id == "ann"


async def test_times_are_never_in_the_future_and_what_cannot_be_stored_is_left_out(
    store: MemoryProvider,
) -> None:
    past = NOW - timedelta(days=9, microseconds=NOW.microsecond)

    async def messages() -> AsyncIterator[FoundMessage | LeftOut]:
        yield said(1, past)
        yield said(2)
        yield said(3, NOW + timedelta(days=9))
        yield said(4, past, 7)
        yield said(5, past, [float("nan")])
        yield LeftOut("row 6", "is damaged")

    for present in (0, 1):
        writer = SessionWriter(store, "default", replace=True)
        await writer.write(found(messages))
        await writer.flush()
        assert (writer.tally.present, writer.tally.sessions) == (present, 1 - present)
        number, nan, row = writer.tally.left_out.names
        assert (
            number == "session talk, message m4: content: must be text, a list, an object or null"
        )
        assert nan.startswith("session talk, message m5: content: must not hold NaN")
        assert row == "session talk: row 6: is damaged"
    [session] = (await everything(store)).values()
    times = [message.created_at for message in session.messages or ()]
    assert times[:2] == [past, past]
    assert past < times[2] <= NOW + timedelta(minutes=9)
    assert session.header.created_at == past
    assert session.header.last_active_at == times[2]
    assert session.header.expires_at is None
