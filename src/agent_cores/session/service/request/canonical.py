"""Long JSON values, re-encoded as the library encodes them, in short pieces of work.

Decoding a megabyte of empty lists takes a tenth of a second, during which nobody else is served. So
a long value is split without decoding it, and its parts are decoded and encoded a few at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agent_cores.session.models.values import EncodedJson

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

SHORT = 16_384
"""Bytes decoded in one go: at worst, with the largest numbers, this takes 35 ms."""

_decode = msgspec.json.Decoder().decode
_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_entries = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_plain = msgspec.json.Encoder().encode
_sorted = msgspec.json.Encoder(order="sorted").encode
_encode_key = _plain
_AT_ONCE = 1_024
_Pair = tuple[str, msgspec.Raw]
"""A key of an object, with its value."""


def canonical(
    text: bytes, order: Literal["sorted"] | None = None
) -> Generator[None, None, EncodedJson]:
    """Return a value as the encoder writes it; yields often.

    Raises ``msgspec.ValidationError`` and ``OverflowError`` for numbers that are out of range.
    """
    return EncodedJson((yield from _written(text, _sorted if order else _plain)))


def _written(text: bytes, encode: Callable[[Any], bytes]) -> Generator[None, None, bytes]:
    text = text.strip()
    if len(text) <= SHORT or text[:1] not in {b"[", b"{"}:
        yield
        return encode(_decode(text))
    if text[:1] == b"[":
        if text.count(b"[") == 1 and b'"' not in text and b"{" not in text:
            return (yield from _numbers(text, encode))
        items = _items(text)
        yield
        written = yield from _parts(items, b"[%b]", encode)
        return b"[" + b",".join(written) + b"]"
    entries = _entries(text)
    yield
    pairs: list[_Pair] = sorted(entries.items()) if encode is _sorted else list(entries.items())
    yield
    written = yield from _parts(pairs, b"{%b}", encode)
    return b"{" + b",".join(written) + b"}"


def _numbers(text: bytes, encode: Callable[[Any], bytes]) -> Generator[None, None, bytes]:
    """Re-encode a list without strings or nesting: every comma in it ends an item."""
    written: list[bytes] = []
    start, last = 1, len(text) - 1
    while start < last:
        end = last if last - start <= SHORT else text.rfind(b",", start, start + SHORT)
        if end < 0:  # a number or whitespace that is longer than a piece
            end = text.find(b",", start, last) % (last + 1)
        yield
        written.append(encode(_decode(b"[%b]" % text[start:end]))[1:-1])
        start = end + 1
    return b"[" + b",".join(written) + b"]"


def _parts(
    parts: Sequence[msgspec.Raw | _Pair], around: bytes, encode: Callable[[Any], bytes]
) -> Generator[None, None, list[bytes]]:
    """Re-encode short neighbours together, and each long part alone."""
    written: list[bytes] = []
    waiting = [parts[i : i + _AT_ONCE] for i in range(0, len(parts), _AT_ONCE)]
    waiting.reverse()
    while waiting:
        some = waiting.pop()
        if len(some) == 1:
            [part] = some
            if isinstance(part, tuple):
                text = yield from _written(bytes(part[1]), encode)
                written.append(_encode_key(part[0]) + b":" + text)
            else:
                written.append((yield from _written(bytes(part), encode)))
        else:
            text = b",".join([_text(part) for part in some])
            if len(text) <= SHORT:
                written.append(encode(_decode(around % text))[1:-1])
            else:
                half = len(some) // 2
                waiting += [some[half:], some[:half]]
        yield
    return written


def _text(part: msgspec.Raw | _Pair) -> msgspec.Raw | bytes:
    if isinstance(part, tuple):
        return _encode_key(part[0]) + b":" + bytes(part[1])
    return part
