"""Decode a body into the type of its route, at a bounded cost.

A short body is decoded in one go. A long one is split first: parts that exceed their field's limit
are refused without decoding. Parts that may be long (message content, context values) are
re-encoded piece by piece, see :mod:`agent_cores.session.service.request.canonical`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.inputs import LARGEST_NUMBER
from agent_cores.session.models.values import MOST_SLOW_NUMBERS, TOO_MANY_SLOW, EncodedJson
from agent_cores.session.service.problems import Refusal, ShapeError
from agent_cores.session.service.request.canonical import SHORT, canonical
from agent_cores.session.service.request.json_scan import (
    RepeatedKeyError,
    check_keys,
    has_many_slow,
    is_deeper,
    is_utf8,
    least_size,
    scan,
)
from agent_cores.session.service.request.raw_lists import items_of, messages_of, shape_error
from agent_cores.session.wire import openai, shapes
from agent_cores.session.wire.problems import token

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from agent_cores.session.manager import SessionManager
    from agent_cores.session.models.limits import Limits
    from agent_cores.session.service.routing import Route
    from agent_cores.session.service.settings import ServiceSettings

_KIB = 1024
_SMALL = 64 * _KIB
"""The limit of a body whose fields are all short."""
_ROOM = 256 * _KIB
"""Room in a body besides its long fields: names, ids, punctuation, whitespace."""
_ESCAPED = 3
"""How much longer text may be when sent than when stored: ``\\uXXXX`` for all non-ASCII."""
_QUOTES = 4
"""Bytes of a string in a list besides the string: quotes, a comma and a space."""
_PRETTY = 4
_FEW_KEYS = 10_000
_FRACTIONAL = re.compile(rb"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?")
_EXACT = 2**53
"""Below this, every whole number has a double of its own."""
_MOST_NESTED = 5_000
"""Most lists and objects in metadata, which is decoded on every read of a session."""
_NOT_JSON = "the body is not JSON, or text in it has half of a surrogate pair"
_LONG_CONTENT = frozenset({b'"', b"[", b"{"})
"""How content begins, except ``null``."""
_APPENDS = (shapes.AppendMessages, shapes.ReplaceMessages)
_OF_ITEMS = (openai.CreateItems, openai.CreateConversation)

_encode = msgspec.json.Encoder().encode
_skip = msgspec.json.Decoder(msgspec.Raw).decode
_entries = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_numbers = msgspec.json.Decoder(list[int | float]).decode
_Fields = dict[str, bytes]


def longest_bodies(
    routes: Iterable[Route], manager: SessionManager, settings: ServiceSettings
) -> dict[int, int]:
    """Return the largest body size of each route, by the identity of the route."""
    limits = manager.runtime.limits
    most = settings.max_body_bytes
    return {id(route): most_bytes(route.request, limits, most) for route in routes}


def most_bytes(kind: Any, limits: Limits, at_most: int) -> int:  # noqa: ANN401 - a type
    """Return the largest size of a body of this type; no body may exceed ``at_most``."""
    if kind in _APPENDS or kind in _OF_ITEMS:
        return at_most
    long = _long_bytes(kind, limits)
    return min(at_most, _ROOM + _ESCAPED * long if long else _SMALL)


def _long_bytes(kind: Any, limits: Limits) -> int:  # noqa: ANN401 - a type
    """Return how many bytes the long fields of a type may take when stored."""
    if kind in _APPENDS:
        return limits.append_bytes + limits.context_bytes + 3 * limits.metadata_bytes
    if kind in _OF_ITEMS:
        return limits.append_bytes + limits.metadata_bytes
    if kind is shapes.CreateSession:
        return 2 * limits.metadata_bytes + limits.context_bytes + limits.append_bytes
    if kind is shapes.UpdateSession:
        return limits.metadata_bytes + limits.context_bytes
    if kind is shapes.UpdateMessage:
        return limits.content_bytes + 2 * limits.metadata_bytes
    if kind is openai.UpdateConversation:
        return limits.metadata_bytes
    if kind is shapes.DeleteMessages:
        return limits.page_items * (limits.name_bytes + _QUOTES)
    return 2 * limits.metadata_bytes if kind is shapes.ForkSession else 0


def is_short(raw: bytes) -> bool:
    """Whether a body is short enough to be decoded in one go, by :func:`read_short`."""
    return len(raw) <= SHORT


def read_short(kind: Any, raw: bytes) -> Any:  # noqa: ANN401 - of the type given
    """Return a short body as its type.

    Raises ``ShapeError`` if it has another shape. The decoder may stop there, before it knows
    whether the rest is valid JSON; see :func:`check_short`.
    """
    if len(raw) > MOST_SLOW_NUMBERS * 5 and has_many_slow(raw):
        raise ShapeError("", TOO_MANY_SLOW)
    try:
        value = _decoded(kind, raw)
    except msgspec.ValidationError as error:
        raise shape_error(error) from error
    except RecursionError as error:
        raise ShapeError("", "nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal("malformed_request", _NOT_JSON) from error
    # Detects repeated keys: decoding drops them, so the re-encoded value has fewer colons.
    if raw.count(b":") != _encode(value).count(b":") or b"\\u003" in raw:
        _check_keys(raw)
    return value


def _decoded(kind: Any, raw: bytes) -> Any:  # noqa: ANN401 - of the type given
    try:
        return _decoder(kind).decode(raw)
    except msgspec.ValidationError:
        fields = {name: whole_numbers(name, bytes(text)) for name, text in _entries(raw).items()}
        return _decoder(kind).decode(
            _encode({name: msgspec.Raw(text) for name, text in fields.items()})
        )


def whole_number(text: bytes) -> bytes:
    """Return a number such as ``5.0`` or ``5e2`` as ``5`` or ``500``, and any other text unchanged.

    JSON Schema counts these as integers and some languages write them, but the decoder rejects
    both.
    """
    if not _FRACTIONAL.fullmatch(text):
        return text
    number = Decimal(text.decode())
    if abs(number) > LARGEST_NUMBER or number != number.to_integral_value():
        return text
    return b"%d" % int(number)


def whole_numbers(name: str, text: bytes) -> bytes:
    """Return a field of a body with :func:`whole_number` applied to it, or to what it contains."""
    if name == "seqs" and text.startswith(b"["):
        return _listed_whole_numbers(text)
    if name == "create" and text.startswith(b"{"):
        fields = {key: whole_number(bytes(each)) for key, each in _entries(text).items()}
        return _encode({key: msgspec.Raw(each) for key, each in fields.items()})
    return whole_number(text)


def _listed_whole_numbers(text: bytes) -> bytes:
    try:
        numbers = _numbers(text)
    except msgspec.DecodeError:
        return text
    return _encode([int(n) if abs(n) < _EXACT and int(n) == n else n for n in numbers])


def check_short(raw: bytes) -> None:
    """Refuse a short body that is not JSON, whatever its shape."""
    try:
        _skip(raw)
        raw.decode()
    except RecursionError:
        return
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal("malformed_request", _NOT_JSON) from error
    _check_keys(raw)


def _check_keys(raw: bytes) -> None:
    try:
        check_keys(raw)
    except RepeatedKeyError as error:
        raise _repeated() from error
    except RecursionError as error:
        raise ShapeError("", "nested too deeply") from error


def _repeated() -> Refusal:
    return Refusal("malformed_request", "an object of the body names a key twice")


def read_long(kind: Any, raw: bytes, limits: Limits) -> Generator[None, None, Any]:  # noqa: ANN401 - of the type given
    """Return a long body as its type, with long values as ``EncodedJson``; yields often.

    Refuses a body that is not JSON. A ``ShapeError`` is returned rather than raised: it may be
    raised only once the caller is known to be allowed to do this.
    """
    most = _ROOM + _long_bytes(kind, limits)
    if len(raw) > most and (yield from least_size(raw)) > most:
        raise Refusal("payload_too_large", f"the body has more than {most} bytes beside escapes")
    yield
    try:
        _skip(raw)
    except RecursionError:
        return ShapeError("", "nested too deeply")
    except msgspec.DecodeError as error:
        raise Refusal("malformed_request", _NOT_JSON) from error
    yield
    if not (yield from is_utf8(raw)):
        raise Refusal("malformed_request", _NOT_JSON)
    found = yield from scan(raw)
    if found.slow > MOST_SLOW_NUMBERS:
        return ShapeError("", TOO_MANY_SLOW)
    try:
        return (yield from _LongBody(kind, limits).read(raw, found.keys))
    except ShapeError as error:
        return ShapeError(error.field, error.problem)  # without a reference to the body
    except msgspec.ValidationError as error:
        return shape_error(error)


class _LongBody:
    """Decodes one long body."""

    def __init__(self, kind: Any, limits: Limits) -> None:  # noqa: ANN401 - a type
        self._kind = kind
        self._limits = limits
        self._slow = 0
        self._keys = 0
        """The number of keys kept; if the text has more, some were repeated."""

    def read(self, raw: bytes, keys: int) -> Generator[None, None, Any]:
        """Return the body. ``keys``: how many keys its text has."""
        fields = self._fields(_raw_type(self._kind).decode(raw))
        yield
        bounds = self._bounds(raw)
        for name, text in fields.items():
            fields[name] = whole_numbers(
                name, (yield from _bounded(text, name, bounds.get(name, _SMALL)))
            )
            yield
        long: dict[str, Any] = {}
        for name in ("context", "context_updates"):
            if fields.get(name, b"")[:1] == b"{":
                long[name] = yield from self._context(fields[name], name)
                fields[name] = b"{}"
        if fields.get("content", b"")[:1] in _LONG_CONTENT:
            long["content"] = yield from self._value(fields["content"], "content")
            fields["content"] = b"[]"
        messages: list[_Fields] = []
        if fields.get("messages", b"")[:1] == b"[":
            messages = list(map(self._fields, messages_of(fields["messages"], self._limits)))
            yield
            long["messages"] = yield from self._messages(messages)
            fields["messages"] = b"[" + b",".join(map(_object, messages)) + b"]"
        if fields.get("items", b"")[:1] == b"[":
            long["items"] = yield from self._items(fields["items"])
            fields["items"] = b"[" + b",".join([b"{}"] * len(long["items"])) + b"]"
        for name in ("metadata", "metadata_updates", "create"):
            if name in fields:
                yield from self._metadata(fields[name], name)
        value = _decoder(self._kind).decode(_object(fields))
        yield
        if keys != self._keys:
            raise _repeated()
        return _completed(value, long)

    def _bounds(self, raw: bytes) -> dict[str, int]:
        """Return how many bytes each field may have; those that are not named are small."""
        limits = self._limits
        return {
            "messages": len(raw),
            "items": len(raw),
            "context": self._context_bound(raw),
            "context_updates": self._context_bound(raw),
            "metadata": limits.metadata_bytes,
            "metadata_updates": limits.metadata_bytes,
            "metadata_removals": limits.metadata_bytes,
            "content": limits.content_bytes,
            "create": 2 * limits.metadata_bytes + _SMALL,
            "title": limits.metadata_bytes,
            "context_removals": (limits.name_bytes + 4) * limits.context_keys,
            "tags": max(_SMALL, 2 * (limits.name_bytes + 4) * limits.tags),
        }

    def _fields(self, given: msgspec.Struct) -> _Fields:
        """Return the fields that an object contains."""
        values = ((name, getattr(given, name)) for name in given.__struct_fields__)
        fields = {name: bytes(value) for name, value in values if value is not UNSET}
        self._keys += len(fields)
        return fields

    def _context(self, text: bytes, name: str) -> Generator[None, None, dict[str, EncodedJson]]:
        entries = _entries(text)
        yield
        self._keys += len(entries)
        if len(entries) > self._limits.context_keys:
            problem = f"{len(entries)} keys, at most {self._limits.context_keys}"
            raise ShapeError(name, problem)
        context = {}
        for key, value in entries.items():
            place = f"{name}/{token(key)}"
            one = yield from _bounded(bytes(value), place, self._limits.context_bytes)
            context[key] = yield from self._value(one, place)
        return context

    def _context_bound(self, raw: bytes) -> int:
        """Return the limit of a context; with few keys, the error names the long one."""
        return len(raw) if raw.count(b":") <= _FEW_KEYS else self._limits.context_bytes

    def _messages(self, messages: list[_Fields]) -> Generator[None, None, list[_Long]]:
        """Extract the long values from messages, and leave short ones in place."""
        long: list[_Long] = []
        limits = self._limits
        for index, fields in enumerate(messages):
            place = f"messages/{index}"
            content = metadata = None
            if fields.get("content", b"")[:1] in _LONG_CONTENT:
                text = yield from _bounded(
                    fields["content"], f"{place}/content", limits.content_bytes
                )
                content = yield from self._value(text, f"{place}/content")
                fields["content"] = b"[]"
            if fields.get("metadata", b"")[:1] == b"{":
                text = yield from _bounded(
                    fields["metadata"], f"{place}/metadata", limits.metadata_bytes
                )
                metadata = yield from self._value(text, f"{place}/metadata")
                fields["metadata"] = b"{}"
            for name, text in fields.items():
                fields[name] = yield from _bounded(text, f"{place}/{name}", _SMALL)
            long.append((content, metadata))
        return long

    def _items(self, text: bytes) -> Generator[None, None, list[EncodedJson]]:
        """Return items of a conversation as they will be stored."""
        items: list[EncodedJson] = []
        for index, item in enumerate(items_of(text)):
            place = f"items/{index}"
            one = yield from _bounded(bytes(item), place, self._limits.content_bytes)
            items.append((yield from self._value(one, place)))
        return items

    def _value(
        self, text: bytes, place: str, *, above: int = 0
    ) -> Generator[None, None, EncodedJson]:
        """Return a value as it will be stored. ``above``: how many levels are not."""
        if text.startswith((b"[", b"{")):
            found = yield from scan(text)
            if (yield from is_deeper(found.brackets, self._limits.json_depth + above)):
                raise ShapeError(place, "nested too deeply")
        try:
            value = yield from canonical(text)
        except msgspec.ValidationError as error:
            raise ShapeError(place, str(error).partition(" - at ")[0]) from error
        except OverflowError as error:
            raise ShapeError(place, "not plain JSON") from error
        if text.startswith((b"[", b"{")):
            stored = yield from scan(value.json)
            self._keys += stored.keys
            self._slow += stored.slow  # written with fewer digits, a number may have become one
            if self._slow > MOST_SLOW_NUMBERS:
                raise ShapeError(place, TOO_MANY_SLOW)
        return value

    def _metadata(self, text: bytes, name: str) -> Generator[None]:
        """Check metadata, which is then decoded like any other field."""
        found = yield from scan(text)
        if found.brackets.count(b"[") > _MOST_NESTED:
            raise ShapeError(name, f"more than {_MOST_NESTED} lists and objects")
        yield from self._value(text, name, above=1 if name == "create" else 0)


_Long = tuple[EncodedJson | None, EncodedJson | None]
"""The content and metadata of a message."""


def _completed(value: Any, long: dict[str, Any]) -> Any:  # noqa: ANN401 - the body
    """Insert the long values."""
    for name in ("context", "context_updates", "content", "items"):
        if name in long:
            setattr(value, name, long[name])
    for message, (content, metadata) in zip(
        getattr(value, "messages", ()), long.get("messages", ()), strict=True
    ):
        if content is not None:
            message.content = content
        if metadata is not None:
            message.metadata = metadata
    return value


def _bounded(text: bytes, field: str, at_most: int) -> Generator[None, None, bytes]:
    """Return a value of a body; refuse one that would exceed its limit when stored."""
    if len(text) > at_most and (yield from least_size(text)) > at_most:
        if len(text) <= _PRETTY * at_most:  # whitespace does not count
            text = msgspec.json.format(text, indent=-1)
            yield
        if (yield from least_size(text)) > at_most:
            raise ShapeError(field, f"more than {at_most} bytes")
    return text


def _object(fields: _Fields) -> bytes:
    return (
        b"{" + b",".join(b'"%b":%b' % (name.encode(), text) for name, text in fields.items()) + b"}"
    )


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401 - a type
    return msgspec.json.Decoder(kind)


@lru_cache(maxsize=64)
def _raw_type(kind: Any) -> msgspec.json.Decoder[Any]:  # noqa: ANN401 - a type
    """Return a decoder for the same fields that leaves each value as sent."""
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    fields = [(name, msgspec.Raw | UnsetType, UNSET) for name in names]
    return msgspec.json.Decoder(
        msgspec.defstruct(f"Raw{kind.__name__}", fields, forbid_unknown_fields=True, gc=False)
    )
