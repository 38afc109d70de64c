"""Plain JSON values: what callers may store, checked and encoded once.

Refused, where JSON libraries are lenient: NaN and infinities, keys that are not text, tuples,
bytes and other objects, lone surrogates, and nesting past the bound.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from agent_cores.session.errors import InvalidInputError

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()

_sorting_encoder = msgspec.json.Encoder(order="sorted")

encode_json = _encoder.encode
decode_json = _decoder.decode


def check_json(value: object, field: str, depth: int) -> None:
    """Raise ``InvalidInputError`` unless the value is plain JSON of at most that depth.

    Text is checked for lone surrogates by the encoder, see :func:`to_json`.
    """
    if isinstance(value, str | int) or value is None:
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInputError(field, "NaN and infinities are not JSON")
    elif not isinstance(value, dict | list):
        raise InvalidInputError(field, f"{type(value).__name__} is not plain JSON")
    elif depth == 0:
        raise InvalidInputError(field, "nested too deeply")
    elif isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise InvalidInputError(field, "keys of objects are text")
        for item in value.values():
            check_json(item, field, depth - 1)
    else:
        for item in value:
            check_json(item, field, depth - 1)


def to_json(value: object, field: str, *, depth: int, at_most: int) -> bytes:
    """Check and encode a value; ``at_most`` bounds its bytes."""
    check_json(value, field, depth)
    try:
        encoded = encode_json(value)
    except UnicodeEncodeError as error:
        raise InvalidInputError(field, "text with a lone surrogate") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidInputError(field, "not plain JSON") from error
    if len(encoded) > at_most:
        raise InvalidInputError(field, f"{len(encoded)} bytes, at most {at_most}")
    return encoded


def canonical_json(encoded: bytes) -> bytes:
    """Return JSON with keys in order and numbers in one form: equal values give equal bytes.

    ``1``, ``1.0`` and ``true`` are different values. Raises ``msgspec.DecodeError``.
    """
    return _sorting_encoder.encode(decode_json(encoded))


def same_value(one: bytes, other: bytes) -> bool:
    """Whether two stored records, each a version byte and JSON, hold the same value.

    Bytes are compared first: only where they differ is anything decoded.
    """
    if one == other:
        return True
    if one[:1] != other[:1]:
        return False
    try:
        return canonical_json(one[1:]) == canonical_json(other[1:])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


def copy_json(value: Any) -> Any:  # noqa: ANN401 - any JSON value in, an equal one out
    """Return an equal value that shares nothing with the one given."""
    return decode_json(encode_json(value))
