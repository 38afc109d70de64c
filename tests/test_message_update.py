"""What an update makes of a stored message, also of one that an older or a newer release wrote."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from agent_cores.session import SessionManager
from agent_cores.session.codec import decode_message
from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models import MessageUpdate, StoredMessage
from agent_cores.session.models.message_update import same_message, updated_message
from agent_cores.session.testing.samples import new_header, new_message

AT = datetime(2030, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=5)
OLD = b'1{"role":"user","content":"hi","author_id":"ann","metadata":{"a":1}}'
MILLIS = int(LATER.timestamp() * 1000)


def updated(body: bytes, at: datetime = LATER, **changes: object) -> StoredMessage:
    stored = StoredMessage(1, "m", AT, body)
    update = msgspec.convert({"seq": 1, "id": "m", **changes}, MessageUpdate)
    message = updated_message(new_header(at=AT), {"m": stored}, update, at)
    assert message is not None
    return message


def test_a_message_without_the_time_was_never_updated() -> None:
    message = decode_message(StoredMessage(1, "m", AT, OLD), "default", "talk")
    assert message.updated_at is None
    assert new_message("m", "hi", at=AT, metadata={"a": 1}).body == OLD


def test_an_update_adds_the_time_and_leaves_the_rest() -> None:
    new = updated(OLD, content=b'"new"')
    expected = (
        b'1{"role":"user","content":"new","author_id":"ann","metadata":{"a":1},"updated_at":%d}'
    )
    assert new.body == expected % MILLIS
    assert decode_message(new, "default", "talk").updated_at == LATER


def test_fields_of_a_later_release_survive_an_update() -> None:
    later = OLD[:-1] + b',"reactions":[{"by":"bob"}]}'
    new = updated(later, metadata=b'{"b":[1.0]}', metadata_drop=("a",))
    fields = msgspec.json.decode(new.body[1:])
    assert fields["reactions"] == [{"by": "bob"}]
    assert fields["metadata"] == {"b": [1.0]}


def test_the_time_of_an_update_never_falls() -> None:
    once = updated(OLD, content=b'"new"')
    again = updated(once.body, at=AT, content=b'"newer"')
    assert decode_message(again, "default", "talk").updated_at == LATER
    early = updated(OLD, at=AT - timedelta(days=1), content=b'"new"')
    assert decode_message(early, "default", "talk").updated_at == AT


def test_an_equal_value_is_no_update() -> None:
    body = b'1{"role":"user","content":{"a":1,"b":2.0},"author_id":"ann","metadata":{}}'
    assert updated(body, content=b'{"b":2e0, "a":1}').body is body
    assert updated(body, content=b'{"b":2, "a":1}').body is not body
    assert updated(body, metadata_drop=("none",)).body is body


def test_a_message_that_cannot_be_read_is_not_updated() -> None:
    for body in (b"1[]", b'1{"role"', b'1{"metadata":[]}', b"1{}x"):
        with pytest.raises(CorruptRecordError):
            updated(body, content=b'"new"', metadata=b'{"b":1}')


def test_an_appended_message_is_compared_without_the_time() -> None:
    new = updated(OLD, content=b'"new"')
    plain = OLD.replace(b"hi", b"new")
    assert same_message(new.body, plain)
    assert same_message(plain, plain)
    for other in (OLD, b"2" + plain[1:], plain.replace(b"ann", b"bob"), b"1{"):
        assert not same_message(new.body, other)
        assert not same_message(other, new.body)


async def test_no_row_holds_what_a_message_said_before(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    async with SessionManager(f"sqlite:///{path}") as manager:
        session_id = await manager.create_session("ann")
        given = {"role": "user", "content": "old secret", "metadata": {"note": "old secret"}}
        await manager.add_messages(session_id, "ann", [given])
        await manager.update_message(
            session_id, "ann", 1, content="new", metadata_removals=["note"]
        )
        await manager.add_message(session_id, "ann", "user", "next")
    with sqlite3.connect(path) as connection:
        dumped = "\n".join(connection.iterdump())
    assert "old secret" not in dumped
    assert b"old secret".hex() not in dumped.lower()
    assert b"updated_at".hex() in dumped.lower()
