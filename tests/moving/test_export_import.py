"""An export holds everything of a session; an import makes the same sessions, once."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.models import Change, Hold, MessageUpdate, SessionMetadata
from agent_cores.session.models.change import Applied
from agent_cores.session.models.times import to_millis
from agent_cores.session.moving import walking
from agent_cores.session.moving.importing import (
    DamagedExportError,
    check_export,
    import_sessions,
)
from agent_cores.session.storage.memory.provider import MemoryProvider
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing.samples import change_of, creation, new_header
from agent_cores.session.testing.wrapping import SpoiltProvider, WrappingProvider
from tests.moving.sessions import (
    NOW,
    everything,
    exported,
    headers,
    long_session,
    sessions,
    stored,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent_cores.session.storage.base import StorageProvider


NESTED = b"[" * 9_000 + b"]" * 9_000


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every session of more than two messages one of several parts."""
    monkeypatch.setattr(walking, "PART_MESSAGES", 2)


async def brought(
    target: StorageProvider, lines: bytes, *, replace: bool = False
) -> tuple[int, int, int]:
    """Import lines; return how many sessions were written, present and different."""
    tally = await import_sessions(target, io.BytesIO(lines), replace=replace)
    return tally.sessions, tally.present, tally.different.count


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(headers(), sessions()),
        max_size=4,
        unique_by=lambda made: (made[0].namespace, made[0].session_id),
    )
)
async def test_every_session_comes_back_as_it_was(
    made: list[tuple[SessionMetadata, Change]],
) -> None:
    source = MemoryProvider()
    for header, session in made:
        await source.apply(stored(session, header))
    lines, tally = await exported(source)
    assert tally.is_complete
    assert lines.count(b"\n") == tally.sessions + 2
    target = MemoryProvider()
    before = await everything(source)
    for counts in ((len(before), 0, 0), (0, len(before), 0)):
        assert await brought(target, lines) == counts
        assert await everything(target) == before


@settings(max_examples=15)
@given(header=headers(), session=sessions())
async def test_a_session_of_several_parts_comes_back_as_it_was(
    header: SessionMetadata, session: Change
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walking, "PART_MESSAGES", 1)
        source, target = MemoryProvider(), MemoryProvider()
        await source.apply(stored(session, header))
        lines, _ = await exported(source)
        assert lines.count(b"\n") == max(len(session.append), 1) + 2
        await import_sessions(target, io.BytesIO(lines))
    assert await everything(target) == await everything(source)


async def test_a_file_and_the_seven_methods_hold_the_same(
    tmp_path: Path, small_parts: None
) -> None:
    source = MemoryProvider()
    for number, length in enumerate((0, 1, 2, 3, 9)):
        await source.apply(long_session(f"talk {number}", length, NOW))
    lines, tally = await exported(source)
    assert (tally.sessions, tally.messages) == (5, 15)
    sqlite = SQLiteProvider(tmp_path / "sessions.db")
    for target in (sqlite, CustomStorageProvider()):
        await target.initialize()
        for counts in ((5, 0, 0), (0, 5, 0)):
            assert await brought(target, lines) == counts
            assert await everything(target) == await everything(source)
        again, _ = await exported(target)
        assert _records(again) == _records(lines)
        await target.shutdown()


def _records(lines: bytes) -> list[object]:
    """Return what the records say, without when they were written and swept."""
    records = [json.loads(line)["record"] for line in lines.splitlines()][1:-1]
    for record in records:
        record.get("header", {}).pop("due_at", None)
    return sorted(records, key=str)


@pytest.mark.usefixtures("small_parts")
async def test_an_import_that_is_cut_off_anywhere_ends_right_when_it_is_run_again() -> None:
    source = MemoryProvider()
    for number, length in enumerate((1, 5, 0, 4)):
        await source.apply(long_session(f"talk {number}", length, NOW))
    lines, _ = await exported(source)
    whole = lines.splitlines(keepends=True)
    for length in range(len(whole)):
        for rest in (b"", whole[length][:20]):
            target = MemoryProvider()
            with pytest.raises(DamagedExportError):
                await import_sessions(target, io.BytesIO(b"".join(whole[:length]) + rest))
            assert (await everything(target)).items() <= (await everything(source)).items()
            await import_sessions(target, io.BytesIO(lines))
            assert await everything(target) == await everything(source)


class Failing(WrappingProvider):
    """Fails at one of its writes, before it or after it, and at every later one."""

    def __init__(self, inner: StorageProvider, writes: int, *, after: bool) -> None:
        super().__init__(inner)
        self._left = writes
        self._after = after

    async def apply(self, change: Change) -> Applied:
        self._left -= 1
        if self._left >= 0:
            return await super().apply(change)
        if self._after and self._left == -1:
            await super().apply(change)
        raise OSError


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("after", [False, True])
async def test_an_import_that_dies_at_any_write_ends_right_when_it_is_run_again(
    after: bool,
) -> None:
    source = MemoryProvider()
    for number, length in enumerate((1, 5, 0, 4)):
        await source.apply(long_session(f"talk {number}", length, NOW))
    lines, _ = await exported(source)
    for writes in range(20):
        target = MemoryProvider()
        try:
            await import_sessions(Failing(target, writes, after=after), io.BytesIO(lines))
        except OSError:
            assert sum(await brought(target, lines)) == 4
        else:
            assert writes > 6
            return
        assert await everything(target) == await everything(source)
    pytest.fail("every import failed")


@pytest.mark.usefixtures("small_parts")
async def test_a_file_that_was_altered_is_refused_and_says_where() -> None:
    source = MemoryProvider()
    for number, length in enumerate((3, 1)):  # listed from the latest to the earliest
        await source.apply(long_session(f"talk {number}", length, NOW))
    lines, _ = await exported(source)
    first, talk, long, more, last = lines.splitlines(keepends=True)
    assert check_export(io.BytesIO(lines)).messages == 4
    for altered, problem in (
        (b"", "is not an export of agent-sessions"),
        (b"hello\n", "is not an export of agent-sessions"),
        (b'{"sha256":"","record":' + NESTED + b"}\n", "is not an export of agent-sessions"),
        (first + b'{"sha256":"","record":' + NESTED + b"}\n", "line 2 is damaged"),
        (talk + last, "is not an export of agent-sessions"),
        (first + talk.replace(b"hello", b"jello") + long + more + last, "line 2 is altered"),
        (first + talk + long.replace(b'{"seq"', b'{"seg"', 1) + more + last, "line 3 is damaged"),
        (
            first + talk + long + more,
            "is cut off after line 4; it is good up to line 4; whole sessions: 2",
        ),
        (first + talk + long + more + last[:9], "is cut off after line 4"),
        (first + long + more + last, "line 4 does not fit the lines before it"),
        (first + long + more + talk + last, "line 5 does not fit the lines before it"),
        (first + talk + talk + long + more + last, "line 6 does not fit"),
        (first + talk + long + last, "line 4 does not fit"),
        (first + talk + long + talk + last, "line 4 is not in its place; it is good up to line 3"),
        (first + talk + more + last, "line 3 is not in its place"),
        (lines + b"\n", "goes on after its last line, 5"),
        (lines + lines, "goes on after its last line, 5"),
    ):
        with pytest.raises(DamagedExportError, match=problem):
            check_export(io.BytesIO(altered))
    with pytest.raises(DamagedExportError, match="has version 2; this release reads 1"):
        check_export(io.BytesIO(_resigned(first, b'"version":1', b'"version":2')))


@pytest.mark.usefixtures("small_parts")
async def test_no_byte_of_a_file_can_be_changed_or_left_out() -> None:
    source = MemoryProvider()
    await source.apply(long_session("talk", 3, NOW))
    lines, _ = await exported(source)
    for place in range(len(lines)):
        flipped = bytes([lines[place] ^ 0x80])  # no UTF-8
        for other in (b"", b"#", b"0" if lines[place : place + 1] != b"0" else b"1", flipped):
            with pytest.raises(DamagedExportError):
                check_export(io.BytesIO(lines[:place] + other + lines[place + 1 :]))


def _resigned(line: bytes, old: bytes, new: bytes) -> bytes:
    from agent_cores.session.moving.records import checksum

    record = bytes(msgspec.json.decode(line, type=dict[str, msgspec.Raw])["record"])
    assert old in record
    record = record.replace(old, new)
    return b'{"sha256":"%b","record":%b}\n' % (checksum(record).encode(), record)


class Edited(WrappingProvider):
    """A store in which a session is written to after its first part was read."""

    edits = 0
    change: Change | None = None

    async def read(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """Write before a later part is read."""
        window = kwargs.get("window")
        if self.change and self.edits and getattr(window, "after_seq", 0):
            self.edits -= 1
            await self.inner.apply(self.change)
        return await self.inner.read(*args, **kwargs)  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("edits", [1, 9])
async def test_a_session_that_changes_while_it_is_read_is_read_again(edits: int) -> None:
    source, target = Edited(MemoryProvider()), MemoryProvider()
    change = long_session("talk", 7, NOW)
    assert change.create is not None
    header = msgspec.structs.replace(change.create, archived=False)
    await source.apply(msgspec.structs.replace(change, create=header))
    source.change = change_of(header, NOW, metadata={"edits": 1})
    source.edits = edits
    lines, tally = await exported(source)
    await import_sessions(target, io.BytesIO(lines))
    assert b'"void"' in lines
    assert tally.is_complete
    assert await everything(target) == await everything(source.inner)


@pytest.mark.usefixtures("small_parts")
async def test_a_session_that_always_changes_is_named_and_left_out() -> None:
    source, target = Edited(MemoryProvider()), MemoryProvider()
    change = long_session("talk", 7, NOW)
    assert change.create is not None
    header = msgspec.structs.replace(change.create, archived=False)
    await source.apply(msgspec.structs.replace(change, create=header))
    await source.apply(long_session("quiet", 1, NOW))
    update = MessageUpdate(seq=2, id="m1", content=b'"edited"')
    source.edits = 99

    class EveryTime(Edited):
        async def read(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]  # noqa: ANN202
            self.change = change_of(
                header,
                NOW,
                update=msgspec.structs.replace(update, content=b'"%d"' % self.edits),
            )
            return await super().read(*args, **kwargs)

    changing = EveryTime(source.inner)
    changing.edits = 99
    lines, tally = await exported(changing)
    assert tally.changing.names == ["default/talk"]
    assert not tally.is_complete
    await import_sessions(target, io.BytesIO(lines))
    assert [session_id for _, session_id in await everything(target)] == ["quiet"]


@pytest.mark.usefixtures("small_parts")
async def test_messages_that_are_appended_meanwhile_are_left_out() -> None:
    source, target = Edited(MemoryProvider()), MemoryProvider()
    change = long_session("talk", 4, NOW)
    assert change.create is not None
    header = msgspec.structs.replace(change.create, archived=False)
    await source.apply(msgspec.structs.replace(change, create=header))
    before = await everything(source.inner)
    source.change = change_of(header, NOW, append=(change.append[0],))
    message = msgspec.structs.replace(change.append[0], seq=0, id="late")
    source.change = change_of(header, NOW, append=(message,))
    source.edits = 1
    lines, _ = await exported(source)
    assert await everything(source.inner) != before
    await import_sessions(target, io.BytesIO(lines))
    assert await everything(target) == before


async def test_what_is_stored_in_another_state_stays_unless_it_is_to_be_replaced() -> None:
    source, target = MemoryProvider(), MemoryProvider()
    for session_id, incarnation in (("same", 1), ("newer", 1), ("other", 1), ("new", 1)):
        await source.apply(creation(new_header(session_id, at=NOW, incarnation=incarnation)))
    await target.apply(creation(new_header("same", at=NOW)))
    newer = new_header("newer", at=NOW)
    await target.apply(creation(newer))
    await target.apply(change_of(newer, NOW, metadata={"title": "went on"}))
    await target.apply(creation(new_header("other", at=NOW, incarnation=2, hold=Hold.FROZEN)))
    kept = await everything(target)
    lines, _ = await exported(source)
    tally = await import_sessions(target, io.BytesIO(lines))
    assert sorted(tally.different.names) == ["default/newer", "default/other"]
    assert (tally.sessions, tally.present) == (1, 1)
    assert kept.items() <= (await everything(target)).items()
    assert await brought(target, lines, replace=True) == (2, 2, 0)
    assert await everything(target) == await everything(source)


async def test_what_has_ended_or_is_being_built_does_not_move() -> None:
    source, target = MemoryProvider(), MemoryProvider()
    for session_id, fields in (
        ("ended", {"expires_at": NOW - timedelta(seconds=1)}),
        ("unfinished", {"hold": Hold.OPENING}),
        ("living", {}),
    ):
        await source.apply(creation(new_header(session_id, at=NOW, **fields)))
    lines, tally = await exported(source)
    assert (tally.sessions, tally.ended) == (1, 2)
    await import_sessions(target, io.BytesIO(lines))
    assert [session_id for _, session_id in await everything(target)] == ["living"]


async def test_a_record_that_cannot_be_read_is_named_and_hides_no_other() -> None:
    source = SpoiltProvider(MemoryProvider())
    for session_id in ("bad", "good"):
        await source.apply(creation(new_header(session_id, at=NOW)))
    await source.spoil("default", "bad")
    message = long_session("garbled", 1, NOW)
    body = msgspec.structs.replace(message.append[0], body=b"1{")
    await source.apply(msgspec.structs.replace(message, append=(body,)))
    lines, tally = await exported(source)
    assert sorted(tally.unreadable.names) == ["default/bad", "default/garbled"]
    assert check_export(io.BytesIO(lines)).sessions == 1


async def test_a_message_that_no_store_could_hold_is_named_and_keeps_no_other_back() -> None:
    source, target = MemoryProvider(), MemoryProvider()
    for session_id in ("bad", "good"):
        await source.apply(long_session(session_id, 1, NOW))
    lines, _ = await exported(source)
    every = lines.splitlines(keepends=True)
    at = b'"created_at":%d,"body"' % to_millis(NOW)
    late = b'"created_at":%d,"body"' % 10**17
    every = [_resigned(line, at, late) if b'"bad"' in line else line for line in every]
    with pytest.raises(DamagedExportError, match="does not fit the lines before it"):
        await import_sessions(target, io.BytesIO(b"".join(every)))
    assert [session_id for _, session_id in await everything(target)] == ["good"]


async def test_some_sessions_are_chosen() -> None:
    source = MemoryProvider()
    for namespace, session_id, owner in (
        ("default", "a", "ann"),
        ("default", "b", "bob"),
        ("team", "c", "ann"),
    ):
        header = new_header(session_id, at=NOW, namespace=namespace, owner_id=owner)
        await source.apply(creation(header))
    for options, count in (
        ({"namespace": "default"}, 2),
        ({"owner_id": "ann"}, 2),
        ({"namespace": "team", "owner_id": "bob"}, 0),
        ({"namespace": "default", "session_ids": ["b", "b", "x"]}, 1),
    ):
        lines, tally = await exported(source, **options)
        assert tally.sessions == count == check_export(io.BytesIO(lines)).sessions
    lines, _ = await exported(source)
    target = MemoryProvider()
    await import_sessions(target, io.BytesIO(lines), namespace="team")
    assert list(await everything(target)) == [("team", "c")]
