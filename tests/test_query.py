"""What belongs to a listing, in which order, and where a page goes on."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models import (
    AccessRole,
    Cursor,
    Grant,
    Hold,
    Query,
    SessionStatus,
    matches,
    order_key,
)
from agent_cores.session.models.query import cursor_at
from agent_cores.session.models.times import to_millis
from agent_cores.session.testing.samples import new_header

AT = datetime(2030, 1, 1, tzinfo=UTC)


def grant(subject: str, *, granted: float = 0, ends: float | None = None) -> Grant:
    return Grant(
        subject=subject,
        role=AccessRole.VIEWER,
        granted_by="ann",
        granted_at=AT + timedelta(seconds=granted),
        expires_at=None if ends is None else AT + timedelta(seconds=ends),
    )


def ask(**parts: Any) -> Query:  # noqa: ANN401
    return Query(**{"namespace": "default", "at": AT + timedelta(seconds=5), **parts})


@pytest.mark.parametrize(
    ("fields", "parts", "belongs"),
    [
        ({}, {}, True),
        ({}, {"namespace": None}, True),
        ({}, {"namespace": "team-a"}, False),
        ({}, {"owner_id": "ann"}, True),
        ({}, {"owner_id": "bob"}, False),
        ({}, {"status": SessionStatus.ACTIVE}, True),
        ({}, {"status": SessionStatus.ARCHIVED}, False),
        ({"archived": True}, {"status": SessionStatus.ARCHIVED}, True),
        ({"archived": True}, {"status": SessionStatus.ACTIVE}, False),
        ({"ttl_seconds": 5}, {"status": SessionStatus.ACTIVE}, False),
        ({"ttl_seconds": 5}, {"status": SessionStatus.EXPIRED}, True),
        ({"ttl_seconds": 5}, {}, True),
        ({"hold": Hold.OPENING}, {"status": SessionStatus.ACTIVE}, False),
        ({"hold": Hold.OPENING}, {}, True),
        ({"hold": Hold.MOVED}, {"status": SessionStatus.ACTIVE}, False),
        ({"hold": Hold.FROZEN}, {"status": SessionStatus.ACTIVE}, True),
        ({"tags": ("x", "y")}, {"tags": ("y", "x")}, True),
        ({"tags": ("x",)}, {"tags": ("y", "x")}, False),
        ({"grants": {"bob": grant("bob")}}, {"subjects": ("bob",)}, True),
        ({"grants": {"bob": grant("bob")}}, {"subjects": ("eve", "bob")}, True),
        ({"grants": {"bob": grant("bob")}}, {"subjects": ("eve",)}, False),
        ({"grants": {"bob": grant("bob", ends=5)}}, {"subjects": ("bob",)}, False),
        ({"grants": {"bob": grant("bob", ends=5.001)}}, {"subjects": ("bob",)}, True),
    ],
)
def test_a_session_belongs_to_the_listing_or_not(
    fields: dict[str, Any], parts: dict[str, Any], belongs: bool
) -> None:
    assert matches(new_header(at=AT, **fields), ask(**parts)) is belongs


def test_a_listing_goes_by_activity_and_what_is_shared_by_when_it_was_shared() -> None:
    listed_at = AT + timedelta(seconds=3)
    grants = {"bob": grant("bob", granted=1), "group:a": grant("group:a", granted=2, ends=4)}
    header = new_header(at=AT, listed_at=listed_at, grants=grants)
    assert order_key(header, ask()) == (to_millis(listed_at), "talk")
    both = ask(subjects=("bob", "group:a"))
    assert order_key(header, both) == (to_millis(AT) + 1_000, "talk")
    earlier = ask(subjects=("bob", "group:a"), at=AT)
    assert order_key(header, earlier) == (to_millis(AT) + 2_000, "talk")


def test_a_cursor_stands_at_the_last_entry_and_knows_its_listing() -> None:
    header = new_header(at=AT, grants={"bob": grant("bob", granted=1)})
    assert cursor_at(header, ask()) == Cursor(to_millis(AT), "talk")
    shared = cursor_at(header, ask(subjects=("bob",)))
    assert shared == Cursor(to_millis(AT) + 1_000, "talk", shared=True)


@given(
    st.integers(to_millis(datetime.min.replace(tzinfo=UTC)), 253_402_300_799_999),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(0, 2**63 - 1),
)
def test_a_cursor_is_read_as_it_was_written(
    millis: int, session_id: str, shared: bool, skip: int
) -> None:
    cursor = Cursor(millis, session_id, shared=shared, skip=skip)
    text = cursor.encode()
    assert text.isascii()
    assert Cursor.decode(text) == cursor


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True))
def test_what_is_no_cursor_is_refused_by_name(text: str) -> None:
    try:
        cursor = Cursor.decode(text)
    except InvalidInputError as refused:
        field: str | None = refused.field
    else:
        field = None
        assert Cursor.decode(cursor.encode()) == cursor
    assert field in {None, "cursor"}


def _text(*fields: object) -> str:
    return urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()


def test_a_cursor_of_an_older_release_is_read() -> None:
    assert Cursor.decode(_text(1_000, "talk", True)) == Cursor(1_000, "talk", shared=True)


@pytest.mark.parametrize("skip", [-1, 2**63, 1.5, "1", None, True])
def test_a_cursor_that_skips_what_no_offset_can_is_refused(skip: object) -> None:
    with pytest.raises(InvalidInputError):
        Cursor.decode(_text(1_000, "talk", False, skip))


@pytest.mark.parametrize("text", ["", "x", "W10", "WzFd", "WzFlOTksICJhIl0", "bnVsbA", "é", "a b"])
def test_a_broken_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Cursor.decode(text)


def test_a_cursor_that_is_nested_without_end_is_refused() -> None:
    nested = b'[1000,"talk",false,0,false,' + b"[" * 9_000
    with pytest.raises(InvalidInputError, match="cursor"):
        Cursor.decode(urlsafe_b64encode(nested).decode())


def test_a_listing_may_begin_at_the_earliest_time_there_is() -> None:
    query = ask(owner_id="ann", active_after=datetime.min.replace(tzinfo=UTC))
    assert query.floor is not None
    assert query.floor < to_millis(datetime.min.replace(tzinfo=UTC))
