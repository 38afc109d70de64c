"""JSON that a caller has already encoded is checked, and stored byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.message_inputs import MessageInputs
from agent_cores.session.models import Limits, NewMessage
from agent_cores.session.models.raw_json import checked_content
from tests.test_values import VALUES

AT = datetime(2026, 1, 1, tzinfo=UTC)


def checked(text: bytes, *, depth: int = 100, at_most: int = 1_000) -> bytes:
    return checked_content(msgspec.Raw(text), "content", depth=depth, at_most=at_most)


@pytest.mark.parametrize(
    "text",
    [b"null", b'""', b"[]", b'{"a": 1.10, "b":\n[0.1000000000000000055]}', b'["\\u003a", {"a":1}]'],
)
def test_json_stays_as_it_is(text: bytes) -> None:
    assert checked(text) == text
    assert checked(b" \r\n\t" + text + b"\n") == text
    message = MessageInputs(Limits()).one_message(NewMessage("user", msgspec.Raw(text)), "ann", AT)
    assert text in message.body


@given(VALUES)
def test_what_the_encoder_writes_is_taken_as_it_is(value: Any) -> None:  # noqa: ANN401
    text = msgspec.json.encode([value])
    assert checked(text, at_most=10**6) == text


def test_the_bounds_are_those_of_other_values() -> None:
    assert checked(b"[[1]]", depth=2, at_most=5)
    for text in (b"[[[1]]]", b"[[12]]"):
        with pytest.raises(InvalidInputError):
            checked(text, depth=2, at_most=5)
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        checked(b"[[[1]]]", depth=2)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":1}',
        b'[{"k":{"a":1,"\\u0061":2}}]',
        b'{"a":"\\u003a","a":1}',
        b'{"a":"\\u003A","a":1}',
    ],
)
def test_a_key_twice_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidInputError, match="twice"):
        checked(text)


@pytest.mark.parametrize("space", [b"\v", b"\f", b"\x00", b"\xc2\xa0"])
def test_only_json_whitespace_may_surround_it(space: bytes) -> None:
    for text in (space + b'"a"', b'"a"' + space):
        with pytest.raises(InvalidInputError, match="valid JSON"):
            checked(text)


def test_an_error_about_json_does_not_repeat_it() -> None:
    with pytest.raises(InvalidInputError) as caught:
        checked(b'["secret"')
    assert "secret" not in str(caught.value)
