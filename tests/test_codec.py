"""Records and bytes: what is written is read back equal, what cannot be read is said so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cores.session.codec import (
    HEADER_FIELDS,
    decode_context,
    decode_header,
    decode_message,
    decode_messages,
    encode_changes,
    encode_header,
    encode_message,
    encode_value,
    origin_of,
    raw_context,
    raw_messages,
)
from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models import (
    AccessRole,
    Grant,
    Hold,
    Message,
    RenewOn,
    SessionMetadata,
    StoredMessage,
    Turn,
)
from agent_cores.session.models.times import from_millis
from agent_cores.session.testing.samples import AWKWARD_VALUE, new_context, new_header
from tests.test_values import TEXT, VALUES

AT = datetime(2030, 1, 1, tzinfo=UTC)
TIMES = st.integers(0, 4_000_000_000_000).map(from_millis)
NAMES = TEXT.filter(bool)
GRANTS = st.builds(
    Grant,
    subject=NAMES,
    role=st.sampled_from([AccessRole.VIEWER, AccessRole.EDITOR]),
    granted_by=NAMES,
    granted_at=TIMES,
    expires_at=st.none() | TIMES,
)
MESSAGES = st.builds(
    Message,
    seq=st.integers(1, 2**63 - 1),
    id=NAMES,
    role=NAMES,
    content=st.none()
    | TEXT
    | st.lists(VALUES, max_size=3)
    | st.dictionaries(TEXT, VALUES, max_size=3),
    author_id=NAMES,
    created_at=TIMES,
    metadata=st.dictionaries(TEXT, VALUES, max_size=3),
    updated_at=st.none() | TIMES,
)
HEADERS = st.builds(
    SessionMetadata,
    namespace=NAMES,
    session_id=NAMES,
    incarnation=st.integers(0, 2**63 - 1),
    owner_id=NAMES,
    created_at=TIMES,
    updated_at=TIMES,
    last_active_at=TIMES,
    title=st.none() | TEXT,
    tags=st.lists(NAMES, max_size=3).map(tuple),
    attributes=st.dictionaries(TEXT, VALUES, max_size=3),
    archived=st.booleans(),
    public=st.booleans(),
    grants=st.lists(GRANTS, max_size=3).map(lambda grants: {g.subject: g for g in grants}),
    expires_at=st.none() | TIMES,
    ttl_seconds=st.none() | st.floats(0.001, 1e9),
    max_lifetime_seconds=st.none() | st.floats(0.001, 1e9),
    renew_on=st.sampled_from(RenewOn),
    last_seq=st.integers(0, 2**63 - 1),
    message_count=st.integers(0, 10**9),
    revision=st.integers(1, 2**63 - 1),
    turn=st.none() | st.builds(Turn, NAMES, TIMES),
    access_revision=st.none() | st.integers(1, 10**9),
    hold=st.none() | st.sampled_from(Hold),
    context_bytes=st.none() | st.integers(0, 10**9),
    request_digest=st.none() | NAMES,
    listed_at=st.none() | TIMES,
    due_at=st.none() | TIMES,
)


def read(fields: dict[str, Any]) -> SessionMetadata:
    return decode_header(fields, "default", "talk")


@given(HEADERS)
def test_a_header_is_read_as_it_was_written(header: SessionMetadata) -> None:
    fields: dict[str, Any] = encode_header(header)
    assert tuple(sorted(fields)) == tuple(sorted(HEADER_FIELDS))
    assert all(isinstance(value, int | float | str | bytes | None) for value in fields.values())
    again = read(fields)
    assert again == header
    assert repr(again.attributes) == repr(header.attributes)


@given(HEADERS)
def test_numbers_may_come_as_text(header: SessionMetadata) -> None:
    fields: dict[str, Any] = {
        name: repr(value) if isinstance(value, int | float) else value
        for name, value in encode_header(header).items()
    }
    assert read(fields) == header


@given(HEADERS)
def test_a_field_that_this_version_does_not_know_is_passed_over(header: SessionMetadata) -> None:
    assert read({**encode_header(header), "from_the_future": b"x"}) == header


@given(HEADERS, HEADERS)
def test_what_changed_makes_the_new_header_of_the_old(
    before: SessionMetadata, after: SessionMetadata
) -> None:
    changes = encode_changes(before, after)
    assert {**encode_header(before), **changes} == encode_header(after)
    assert encode_changes(after, after) == {}


def test_only_what_changed_is_written() -> None:
    before = new_header(at=AT, attributes={"a": 1}, turn=Turn("t", AT))
    after = msgspec.structs.replace(before, last_seq=5, turn=None)
    expected = {"last_seq": 5, "turn_token": None, "turn_expires_at": None}
    assert encode_changes(before, after) == expected
    retyped = msgspec.structs.replace(before, attributes={"a": True})
    assert encode_changes(before, retyped) == {"attributes": b'{"a":true}'}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("format", 2),
        ("format", "x"),
        ("attributes", b"{"),
        ("attributes", b"[]"),
        ("attributes", b'{"a":"\xff"}'),
        ("attributes", b'{"a":' + b"[" * 9_000),
        ("tags", b"[1]"),
        ("grants", b'{"bob": {}}'),
        ("created_at", None),
        ("created_at", 10**18),
        ("owner_id", None),
        ("last_seq", "many"),
        ("renew_on", "sometimes"),
        ("hold", "tight"),
    ],
)
def test_a_header_that_cannot_be_read_names_its_session(name: str, value: object) -> None:
    fields: dict[str, Any] = {**encode_header(new_header(at=AT)), name: value}
    with pytest.raises(CorruptRecordError) as caught:
        read(fields)
    assert (caught.value.namespace, caught.value.session_id) == ("default", "talk")


@pytest.mark.parametrize("name", HEADER_FIELDS)
def test_a_header_that_lacks_a_field_is_corrupt(name: str) -> None:
    fields: dict[str, Any] = dict(encode_header(new_header(at=AT, turn=Turn("t", AT))))
    del fields[name]
    with pytest.raises(CorruptRecordError):
        read(fields)


@given(MESSAGES)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    stored = encode_message(message)
    again = decode_message(stored, "default", "talk")
    assert again == message
    assert encode_message(again) == stored


@pytest.mark.parametrize("body", [b"", b"1", b"2{}", b"1{}", b'1{"role":1}', b"\xff"])
def test_a_message_that_cannot_be_read_names_its_session(body: bytes) -> None:
    with pytest.raises(CorruptRecordError, match="message 7") as caught:
        decode_message(StoredMessage(7, "m", AT + timedelta(0), body), "team-a", "talk")
    assert (caught.value.namespace, caught.value.session_id) == ("team-a", "talk")


DAMAGED = [
    b'1{"role":"user","content":"\xff","author_id":"ann","metadata":{}}',
    b'1{"role":"user","content":null,"author_id":"ann","metadata":{"\xff":1}}',
    b'1{"role":"user","content":%b,"author_id":"ann","metadata":{}}'
    % (b"[" * 9_000 + b"]" * 9_000),
    b'1{"role":"user","content":"","author_id":"ann","metadata":{},"updated_at":%d}' % 10**17,
]
"""What is no JSON of ours for other reasons than its grammar."""


@pytest.mark.parametrize("body", DAMAGED)
def test_damage_of_any_kind_is_a_corrupt_record_however_a_message_is_read(body: bytes) -> None:
    page = [StoredMessage(7, "m", AT, body)]
    with pytest.raises(CorruptRecordError):
        decode_message(page[0], "team-a", "talk")
    for read_page in (decode_messages, raw_messages):
        with pytest.raises(CorruptRecordError):
            read_page(page, "team-a", "talk")


def test_damage_of_any_kind_is_a_corrupt_record_where_only_the_author_is_read() -> None:
    for body in (DAMAGED[2], b'1{"role":"\xff","author_id":"ann"}'):
        with pytest.raises(CorruptRecordError):
            origin_of(StoredMessage(7, "m", AT, body), "team-a", "talk")


@pytest.mark.parametrize("value", [b'1"\xff"', b"1" + b"[" * 9_000 + b"]" * 9_000])
def test_damage_of_any_kind_is_a_corrupt_record_in_the_context(value: bytes) -> None:
    for read_context in (decode_context, raw_context):
        with pytest.raises(CorruptRecordError):
            read_context({"a": value}, "team-a", "talk")


@given(st.lists(MESSAGES, max_size=4))
def test_a_page_is_read_like_its_messages_one_by_one(messages: list[Message]) -> None:
    stored = [encode_message(message) for message in messages]
    one_by_one = [decode_message(message, "default", "talk") for message in stored]
    assert decode_messages(stored, "default", "talk") == one_by_one


@pytest.mark.parametrize("body", [b"", b"2{}", b'1{"role":1}', b'1{"role":"user"', b"1{},{}"])
def test_a_page_with_a_message_that_cannot_be_read_names_it(body: bytes) -> None:
    right = encode_message(
        Message(seq=6, id="m6", role="user", content="", author_id="ann", created_at=AT)
    )
    page = [right, StoredMessage(7, "m7", AT, body)]
    with pytest.raises(CorruptRecordError, match="message 7"):
        decode_messages(page, "team-a", "talk")


def test_context_is_read_as_it_was_written() -> None:
    entries = new_context(a=AWKWARD_VALUE, b=None)
    assert decode_context(entries, "default", "talk") == {"a": AWKWARD_VALUE, "b": None}
    assert encode_value(b"null") == b"1null"
    for broken in (b"", b"1", b"null", b"2null", b"1{"):
        with pytest.raises(CorruptRecordError):
            decode_context({"a": broken}, "default", "talk")
