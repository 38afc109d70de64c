"""JSON that a caller has already encoded: checked, then stored unchanged."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.values import decode_json, to_json

if TYPE_CHECKING:
    import msgspec

_WHITESPACE = b" \t\n\r"
"""What JSON allows around a value."""
_KINDS = (b'"', b"[", b"{", b"null")
_ESCAPED_COLON = b"\\u003"


def checked_content(raw: msgspec.Raw, field: str, *, depth: int, at_most: int) -> bytes:
    """Return the JSON as it is, without whitespace around it.

    Raises ``InvalidInputError`` unless it is valid JSON of at most ``at_most`` bytes: text, a list,
    an object or ``null``, with the bounds that :func:`to_json` sets and no key twice in an object.
    The check decodes it, so it costs about as much as encoding the value here.
    """
    text = bytes(raw).strip(_WHITESPACE)
    if len(text) > at_most:
        raise InvalidInputError(field, f"is {len(text)} bytes, at most {at_most} allowed")
    try:
        value = decode_json(text)
    except (ValueError, RecursionError) as error:  # ValueError: of msgspec, and of bad UTF-8
        raise InvalidInputError(
            field, "must be valid JSON, which this msgspec.Raw is not"
        ) from error
    if not text.startswith(_KINDS):
        raise InvalidInputError(field, "must be text, a list, an object or null")
    encoded = to_json(value, field, depth=depth, at_most=sys.maxsize)
    # Decoding drops repeated keys, so the re-encoded value has fewer colons.
    if text.count(b":") != encoded.count(b":") or _ESCAPED_COLON in text:
        _check_keys(text, field)
    return text


def _check_keys(text: bytes, field: str) -> None:
    """Refuse a key that an object names twice."""

    def distinct(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            raise InvalidInputError(field, "must not name a key of an object twice")

    json.loads(text, object_pairs_hook=distinct, parse_int=len, parse_float=len)
