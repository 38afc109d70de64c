"""A change that updates one stored message in place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.codec import decode_message
from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    MessageNotFoundError,
    RevisionMismatchError,
    SessionArchivedError,
    TurnLostError,
)
from agent_cores.session.models import (
    AccessEffect,
    Applied,
    Limits,
    MessageUpdate,
    SeqRange,
    Window,
)
from agent_cores.session.models.values import encode_json
from agent_cores.session.testing.oracle import EVERYTHING
from agent_cores.session.testing.provider.appends import append, created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    AWKWARD_ID,
    AWKWARD_VALUE,
    change_of,
    creation,
    new_header,
    new_message,
)

if TYPE_CHECKING:
    from agent_cores.session.models import Change, Message, StoredMessage
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock


def stored(beside: Beside) -> list[StoredMessage]:
    """Return the messages of the session."""
    return beside.oracle.sessions["default", "talk"].messages


def update_of(
    beside: Beside,
    clock: ManualClock,
    place: int,
    content: object = "updated",
    **fields: Any,  # noqa: ANN401 - guards of the change
) -> Change:
    """Return a change that updates the content of the message at a place."""
    header = beside.oracle.header("default", "talk")
    assert header is not None
    message = stored(beside)[place]
    update = MessageUpdate(seq=message.seq, id=message.id, content=encode_json(content))
    return change_of(header, clock(), **{"update": update, **fields})


async def messages_of(provider: StorageProvider) -> list[Message]:
    """Return the messages as the provider has stored them."""
    snapshot = await provider.read("default", "talk", window=EVERYTHING)
    assert snapshot is not None
    return [decode_message(message, "default", "talk") for message in snapshot.messages or ()]


class UpdatingCases(ProviderCases):
    """``apply`` with ``update``."""

    async def _said(self, beside: Beside, clock: ManualClock, count: int = 3) -> None:
        await created(beside, clock)
        for number in range(1, count):
            await append(beside, clock, True, f"m{number}")

    async def test_an_update_changes_one_message_and_raises_the_revision(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        before = await messages_of(beside.provider)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        clock.advance(5)
        applied = await beside.apply(update_of(beside, clock, 1, AWKWARD_VALUE))
        assert applied.header.revision == header.revision + 1
        assert applied.header.updated_at == applied.header.last_active_at == clock()
        assert applied.header.message_count == 3
        after = await messages_of(beside.provider)
        expected = msgspec.structs.replace(before[1], content=AWKWARD_VALUE, updated_at=clock())
        assert after == [before[0], expected, before[2]]
        assert repr(after[1].content) == repr(AWKWARD_VALUE)

    async def test_a_repeated_update_is_carried_out_once(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        change = update_of(beside, clock, 0, expected_revision=header.revision)
        first = await beside.apply(change)
        clock.advance(1)
        again = await beside.apply(change.as_of(clock()))
        assert again.replayed
        assert (again.header.revision, again.messages) == (first.header.revision, first.messages)
        other = update_of(beside, clock, 0, "other", expected_revision=header.revision)
        with pytest.raises(RevisionMismatchError):
            await beside.apply(other)

    async def test_an_update_that_changes_nothing_writes_nothing(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        applied = await beside.apply(update_of(beside, clock, 0, "hello"))
        assert applied.replayed
        assert (await messages_of(beside.provider))[0].updated_at is None

    async def test_a_message_that_is_not_there_is_not_updated(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        change = update_of(beside, clock, 1)
        update = change.update
        assert update is not None
        for wrong in ({"seq": 1}, {"id": "other"}, {"seq": 9, "id": "other"}):
            missing = msgspec.structs.replace(update, **wrong)
            with pytest.raises(MessageNotFoundError):
                await beside.apply(msgspec.structs.replace(change, update=missing))
        await beside.apply(
            change_of(
                change.basis or beside.oracle.sessions["default", "talk"].header,
                clock(),
                remove=SeqRange(2, 2),
            )
        )
        with pytest.raises(MessageNotFoundError):
            await beside.apply(change)

    async def test_metadata_of_a_message_is_set_and_removed_key_by_key(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock())
        message = new_message(AWKWARD_ID, at=clock(), metadata={"a": 1, "b": [2], "键": None})
        await beside.apply(creation(header, append=(message,)))
        update = MessageUpdate(
            seq=1, id=AWKWARD_ID, metadata=encode_json({"b": None, "c": {}}), metadata_drop=("a",)
        )
        await beside.apply(change_of(header, clock(), update=update))
        [found] = await messages_of(beside.provider)
        assert found.metadata == {"b": None, "键": None, "c": {}}
        assert (found.content, found.updated_at) == ("hello", clock())

    async def test_an_update_is_refused_like_other_writes(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        with pytest.raises(TurnLostError):
            await beside.apply(update_of(beside, clock, 0, turn="t9"))
        with pytest.raises(RevisionMismatchError):
            await beside.apply(update_of(beside, clock, 0, expected_revision=9))
        await beside.apply(change_of(header, clock(), access=AccessEffect(archived=True)))
        with pytest.raises(SessionArchivedError):
            await beside.apply(update_of(beside, clock, 0))
        assert all(message.updated_at is None for message in await messages_of(beside.provider))

    async def test_a_message_grows_no_larger_than_its_limits(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await created(beside, clock)
        limits = Limits(metadata_bytes=20, append_bytes=200)
        grown = update_of(beside, clock, 0, "x" * 200, limits=limits)
        with pytest.raises(InvalidInputError, match="content"):
            await beside.apply(grown)
        assert grown.update is not None
        update = msgspec.structs.replace(grown.update, content=None, metadata=b'{"k":"1234567890"}')
        await beside.apply(msgspec.structs.replace(grown, update=update))
        more = msgspec.structs.replace(update, metadata=b'{"l":""}')
        with pytest.raises(InvalidInputError, match="metadata"):
            await beside.apply(msgspec.structs.replace(grown, update=more))
        smaller = msgspec.structs.replace(grown, update=more, limits=Limits(metadata_bytes=1))
        with pytest.raises(InvalidInputError, match="metadata"):
            await beside.apply(smaller)
        less = msgspec.structs.replace(update, metadata=b'{"k":"1234567"}')
        await beside.apply(msgspec.structs.replace(smaller, update=less))

    async def test_windows_hold_updated_messages_in_their_places(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = new_header(at=clock())
        messages = tuple(new_message(f"m{number}", at=clock()) for number in range(60))
        await beside.apply(creation(header, append=messages))
        for place in (0, 59, 58, 30, 31, 32, 33, 7, 59):
            await beside.apply(update_of(beside, clock, place, f"new {place} {clock()}" * 9))
        await beside.apply(change_of(header, clock(), remove=SeqRange(31, 32)))
        for limit in (1, 2, 17, 58, 100):
            for bound in (0, 1, 8, 30, 33, 34, 59, 60, 61):
                for side in ("before_seq", "after_seq"):
                    for max_bytes in (1, 900, 10**6):
                        bounds: dict[str, Any] = {side: bound}
                        window = Window(limit=limit, max_bytes=max_bytes, **bounds)
                        await beside.compare_window("default", "talk", window)
            window = Window(limit=limit, max_bytes=10**6)
            await beside.compare_window("default", "talk", window)

    async def test_updated_messages_are_removed_like_others(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock, 6)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        for place in (5, 1, 3):
            await beside.apply(update_of(beside, clock, place))
        applied = await beside.apply(change_of(header, clock(), remove=SeqRange(2, 2)))
        assert applied.removed == ((2, "m1"),)
        tail = change_of(
            header, clock(), remove=SeqRange(4, 6), append=(new_message("m5", "new", at=clock()),)
        )
        applied = await beside.apply(tail)
        assert applied.removed == ((6, "m5"), (5, "m4"), (4, "m3"))
        assert [message.id for message in stored(beside)] == ["m0", "m2", "m5"]
        await append(beside, clock, True, "m1")
        assert [message.seq for message in stored(beside)] == [1, 3, 7, 8]

    async def test_appends_go_on_after_updates(self, beside: Beside, clock: ManualClock) -> None:
        await self._said(beside, clock)
        for place in (2, 0, 1):
            await beside.apply(update_of(beside, clock, place))
        for hot in (True, False):
            applied = await append(beside, clock, hot, f"next {hot}")
            assert applied.added == applied.messages
        assert [message.seq for message in stored(beside)] == [1, 2, 3, 4, 5]

    async def test_an_append_repeats_what_an_updated_message_says_now(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        await beside.apply(update_of(beside, clock, 1))
        for hot in (True, False):
            again = await append(beside, clock, hot, "m1", text="updated")
            assert again.replayed
            assert again.messages == (stored(beside)[1],)
            with pytest.raises(ConflictError):
                await append(beside, clock, hot, "m1", text="hello")

    async def test_a_session_is_deleted_with_its_updated_messages(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock)
        header = beside.oracle.header("default", "talk")
        assert header is not None
        for place in range(3):
            await beside.apply(update_of(beside, clock, place))
        await beside.apply(change_of(header, clock(), delete=True))
        await beside.apply(creation(new_header(at=clock(), incarnation=2)))
        assert stored(beside) == []
        await append(beside, clock, True, "m1")

    async def test_concurrent_updates_of_one_session_are_all_carried_out(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock, 8)
        changes = [update_of(beside, clock, place, f"new {place}") for place in range(8)]
        await asyncio.gather(*(beside.provider.apply(change) for change in changes))
        for change in changes:
            beside.oracle.apply(change)
        await beside.compare("default", "talk")

    async def test_concurrent_updates_of_one_message_follow_one_another(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        await self._said(beside, clock, 4)
        said = [(place, f"{place}, {time}") for time in range(4) for place in range(4)]
        changes = [update_of(beside, clock, place, text) for place, text in said]
        missing = msgspec.structs.replace(changes[0], update=MessageUpdate(seq=9, id="m9"))
        applying = [beside.provider.apply(change) for change in (*changes, missing)]
        *applied, refused = await asyncio.gather(*applying, return_exceptions=True)
        assert isinstance(refused, MessageNotFoundError)
        latest: dict[int, tuple[int, object]] = {}
        revisions = []
        for (place, text), outcome in zip(said, applied, strict=True):
            assert isinstance(outcome, Applied)
            assert decode_message(outcome.messages[0], "default", "talk").content == text
            revision = outcome.header.revision
            revisions.append(revision)
            latest[place] = max(latest.get(place, (0, "")), (revision, text))
        first = beside.oracle.sessions["default", "talk"].header.revision
        assert sorted(revisions) == [*range(first + 1, first + 17)]
        found = await messages_of(beside.provider)
        assert [message.content for message in found] == [latest[place][1] for place in range(4)]
