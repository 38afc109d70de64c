"""Plain JSON values: what callers may store, checked and encoded once.

JSON libraries are lenient; this rejects NaN and infinities, keys that are not text, tuples, bytes
and other objects, lone surrogates, and nesting beyond the bound.
"""

from __future__ import annotations

import math
import re
from types import NoneType
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()

_sorting_encoder = msgspec.json.Encoder(order="sorted")

encode_json: Callable[[object], bytes] = _encoder.encode
decode_json: Callable[[bytes | str | memoryview], Any] = _decoder.decode
sorted_json: Callable[[object], bytes] = _sorting_encoder.encode
"""Encode with keys in order: equal values give equal bytes. ``1`` and ``1.0`` differ."""

UNREADABLE = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What reading damaged JSON may raise: it is no JSON or of another shape, its text is not UTF-8, a
number or time is out of range, it is nested without end."""


SLOW_NUMBER: re.Pattern[bytes] = re.compile(
    rb"[eE][+-]?0*(?:2[5-9][0-9]|[3-9][0-9]{2}|[1-9][0-9]{3})"
)
"""The exponent of a number below 1e-249 or above 1e249 in size. Near the limits of a double,
decoding one takes a hundred times longer than decoding any other number.
"""
MOST_SLOW_NUMBERS = 200
TOO_MANY_SLOW: str = f"more than {MOST_SLOW_NUMBERS} numbers below 1e-249 or above 1e249 in size"
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"')


class EncodedJson(msgspec.Struct, frozen=True, gc=False):
    """A value that has been checked and encoded: :func:`to_json` checks only its size."""

    json: bytes


_PLAIN = frozenset({str, int, bool, NoneType})


def check_json(value: object, field: str, depth: int) -> None:
    """Raise ``InvalidInputError`` unless the value is plain JSON of at most that depth.

    The encoder checks text for lone surrogates, see :func:`to_json`. The cost of a list or object
    depends more on how many types of values it holds than on how many values.
    """
    if isinstance(value, str | int) or value is None:
        return
    level: list[Any] = [value]
    if not isinstance(value, dict | list):
        level = _containers(level, {type(value)}, field)
    while level:
        if depth == 0:
            raise InvalidInputError(field, "is nested too deeply")
        depth -= 1
        deeper: list[Any] = []
        for container in level:
            if not container:
                continue
            items = container
            if isinstance(container, dict):
                if not all(isinstance(key, str) for key in container):
                    raise InvalidInputError(field, "must have text as keys of objects")
                items = container.values()
            kinds = set(map(type, items))
            if not kinds <= _PLAIN:
                deeper += _containers(items, kinds, field)
        level = deeper


def _containers(items: Iterable[Any], kinds: set[type], field: str) -> list[Any]:
    """Return the lists and objects among the values; reject what is not plain JSON."""
    if kinds in ({list}, {dict}):
        return list(items)
    for kind in kinds:
        if issubclass(kind, float):
            if not all(math.isfinite(item) for item in items if isinstance(item, float)):
                raise InvalidInputError(
                    field, "must not hold NaN or infinities, which are not JSON"
                )
        elif not issubclass(kind, str | int | dict | list | NoneType):
            raise InvalidInputError(field, f"must be plain JSON, which {kind.__name__} is not")
    return [item for item in items if isinstance(item, dict | list)]


def to_json(value: object, field: str, *, depth: int, at_most: int) -> bytes:
    """Check and encode a value of at most ``at_most`` bytes."""
    if type(value) is EncodedJson:
        return _bounded(value.json, field, at_most)
    check_json(value, field, depth)
    try:
        encoded = encode_json(value)
    except UnicodeEncodeError as error:
        raise InvalidInputError(field, "must not hold a lone surrogate") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInputError(field, "must be plain JSON") from error
    return _bounded(encoded, field, at_most)


def _bounded(encoded: bytes, field: str, at_most: int) -> bytes:
    if len(encoded) > at_most:
        raise InvalidInputError(field, f"is {len(encoded)} bytes, at most {at_most} allowed")
    return encoded


def canonical_json(encoded: bytes) -> bytes:
    """Return JSON with keys in order and numbers in one form: equal values give equal bytes.

    ``1``, ``1.0`` and ``true`` are different values. Raises ``msgspec.DecodeError``.
    """
    return sorted_json(decode_json(encoded))


def slow_numbers(encoded: bytes) -> int:
    """Return how many numbers in encoded JSON are slow to decode; few count as none."""
    if encoded.count(b"e") <= MOST_SLOW_NUMBERS:
        return 0
    return len(SLOW_NUMBER.findall(_TEXT.sub(b"", encoded)))


def same_value(one: bytes, other: bytes) -> bool:
    """Whether two stored records, each a version byte and JSON, hold the same value.

    They are decoded only if their bytes differ.
    """
    if one == other:
        return True
    if one[:1] != other[:1]:
        return False
    try:
        return canonical_json(one[1:]) == canonical_json(other[1:])
    except UNREADABLE:
        return False


def copy_json(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, an equal one out
    """Return an equal value that shares nothing with the given one."""
    return decode_json(encode_json(value))
