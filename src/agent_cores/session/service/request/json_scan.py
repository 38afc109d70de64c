"""What a JSON text reveals without building objects from it: its keys and its nesting.

Texts must already be known to be valid JSON. Functions for long texts are generators that yield
after each piece, so that they do not block the event loop.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.models.values import MOST_SLOW_NUMBERS, SLOW_NUMBER

if TYPE_CHECKING:
    from collections.abc import Generator

_PIECE = 262_144
_OPENING, _CLOSING = b"[{", b"]}"
_TO_LISTS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in _OPENING + _CLOSING)
_ESCAPE = 5
"""Bytes by which an escape such as ``\\u0061`` may exceed the character that it encodes."""


class RepeatedKeyError(Exception):
    """An object contains a key twice."""


class Scan(msgspec.Struct, frozen=True):
    """What a text contains outside its strings.

    ``keys`` counts the keys of all objects, ``slow`` the numbers so large or so close to zero that
    they are slow to parse. ``brackets`` contains ``[`` and ``]``, with braces counted as brackets.
    """

    keys: int
    brackets: bytes
    slow: int


def scan(text: bytes) -> Generator[None, None, Scan]:
    """Scan a text."""
    keys = slow = 0
    brackets: list[bytes] = []
    for outside in _outside_strings(text):
        keys += outside.count(b":")
        brackets.append(outside.translate(_TO_LISTS, _NO_BRACKETS))
        slow += len(SLOW_NUMBER.findall(outside))
        yield
    return Scan(keys, b"".join(brackets), slow)


def _outside_strings(text: bytes) -> Generator[bytes]:
    """Yield what is outside strings, piece by piece."""
    inside = place = 0
    while place < len(text):
        end = min(place + _PIECE, len(text))
        piece = text[place:end]
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2:  # do not split an escape
            end += 1
            piece = text[place:end]
        place = end
        if b"\\" in piece:
            piece = piece.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = piece.split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) % 2


def is_deeper(brackets: bytes, most: int) -> Generator[None, None, bool]:
    """Whether brackets are nested deeper than the given depth."""
    if brackets.count(b"[") <= most:
        return False
    for _ in range(most):
        brackets = brackets.replace(b"[]", b"")  # the innermost pairs
        yield
        if not brackets:
            return False
    return True


def is_utf8(text: bytes) -> Generator[None, None, bool]:
    """Whether a text is UTF-8."""
    decode = codecs.getincrementaldecoder("utf-8")().decode
    try:
        for place in range(0, len(text), _PIECE):
            decode(text[place : place + _PIECE])
            yield
        decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def least_size(text: bytes) -> Generator[None, None, int]:
    """Return a lower bound of the text's size in bytes without needless escapes."""
    size = len(text)
    for place in range(0, len(text), _PIECE):
        size -= _ESCAPE * text.count(b"\\u", place, place + _PIECE)
        yield
    return size


def has_many_slow(text: bytes) -> bool:
    """Whether a short text has too many numbers that are slow to parse."""
    if text.count(b"e") + text.count(b"E") <= MOST_SLOW_NUMBERS:
        return False
    found = sum(len(SLOW_NUMBER.findall(piece)) for piece in _outside_strings(text))
    return found > MOST_SLOW_NUMBERS


def check_keys(text: bytes) -> None:
    """Raise ``RepeatedKeyError`` if any object of a short text contains a key twice."""
    json.loads(text, object_pairs_hook=_distinct, parse_int=len, parse_float=len)


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        raise RepeatedKeyError
