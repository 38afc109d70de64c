"""Plain JSON: what goes in comes out equal, and what is not plain JSON does not go in."""

from __future__ import annotations

import enum
import math
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.times import from_millis, to_millis, whole_millis
from agent_cores.session.models.values import copy_json, decode_json, same_value, to_json
from agent_cores.session.testing.samples import AWKWARD_VALUE

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def encoded(value: object, *, depth: int = 100, at_most: int = 10**6) -> bytes:
    return to_json(value, "field", depth=depth, at_most=at_most)


@given(VALUES)
def test_every_plain_value_comes_back_equal_and_of_its_type(value: Any) -> None:  # noqa: ANN401
    again = decode_json(encoded(value))
    assert repr(again) == repr(value)
    assert encoded(again) == encoded(value)


def turned(value: Any) -> Any:  # noqa: ANN401
    """Return an equal value with the keys of every object in the opposite order."""
    if isinstance(value, dict):
        return {key: turned(item) for key, item in reversed(value.items())}
    return [turned(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_values_are_the_same_whatever_the_order_of_keys(value: Any) -> None:  # noqa: ANN401
    one = b"1" + encoded(value)
    assert same_value(one, b"1" + encoded(turned(value)))
    assert not same_value(one, b"2" + encoded(turned(value)))
    assert not same_value(one, b"1" + encoded([value]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (b"1e2", b"100.0", True),
        (b'"\\u00e9"', '"é"'.encode(), True),
        (b'{"a":{"x":1,"y":[2]}, "b":1}', b'{"b":1,"a":{"y":[2],"x":1}}', True),
        (b"1", b"1.0", False),
        (b"1", b"true", False),
        (b"[1,2]", b"[2,1]", False),
        (b"null", b"", False),
        (b"{", b"[", False),
        (b"9007199254740993", b"9007199254740992", False),
    ],
)
def test_values_are_compared_by_value_and_type(one: bytes, other: bytes, *, same: bool) -> None:
    assert same_value(b"1" + one, b"1" + other) is same


def test_awkward_values_come_back_equal() -> None:
    assert repr(decode_json(encoded(AWKWARD_VALUE))) == repr(AWKWARD_VALUE)


@pytest.mark.parametrize(
    ("value", "plain"),
    [(Colour.RED, "red"), (Level.HIGH, 3), (OrderedDict(a=1), {"a": 1}), ([Colour.RED], ["red"])],
)
def test_subclasses_of_plain_types_are_plain(value: object, plain: object) -> None:
    assert decode_json(encoded(value)) == plain


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        b"x",
        bytearray(b"x"),
        (1,),
        {1},
        frozenset(),
        object(),
        1j,
        datetime.now(UTC),
        {1: 1},
        {b"x": 1},
        {("a",): 1},
        {True: 1},
        {None: 1},
        "\ud800",
        {"\udfff": 1},
    ],
)
def test_what_is_not_plain_json_is_refused(value: object) -> None:
    for given_value in (value, [value], {"a": [value]}):
        with pytest.raises(InvalidInputError, match=r"^field: "):
            encoded(given_value)


def test_nesting_and_size_are_bounded() -> None:
    assert encoded([[[]]], depth=3) == b"[[[]]]"
    with pytest.raises(InvalidInputError, match="deep"):
        encoded([[[]]], depth=2)
    assert encoded("x" * 8, at_most=10) == b'"xxxxxxxx"'
    with pytest.raises(InvalidInputError, match="11 bytes, at most 10"):
        encoded("x" * 9, at_most=10)
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidInputError):
        encoded(endless)


def test_a_copy_shares_nothing() -> None:
    value: dict[str, Any] = {"a": [1, {"b": 2}]}
    copy = copy_json(value)
    copy["a"][1]["b"] = 3
    copy["a"].append(4)
    assert value == {"a": [1, {"b": 2}]}


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_instants_are_whole_milliseconds(at: datetime) -> None:
    whole = whole_millis(at)
    assert from_millis(to_millis(at)) == whole
    assert 0 <= (at - whole).total_seconds() < 0.001
