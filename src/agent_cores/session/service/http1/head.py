"""``read_head``: reads a request's head; refuses early if it is too long or ambiguous.

Whatever two programs could read differently is refused, since it lets requests be smuggled past a
proxy: two lengths, a length with chunks, folded lines, a bare CR or LF, space before a colon.
``Upgrade`` is ignored: the service has one protocol, and a body is always a body (RFC 9110, 7.8).
"""

from __future__ import annotations

import re

import msgspec

from agent_cores.session.models.representation import hides
from agent_cores.session.service.problems import Refusal

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
# Possessive quantifiers prevent backtracking: each byte is examined a bounded number of times.
_REQUEST_LINE = re.compile(rb"(%b{1,32}+) ([\x21-\x7e]++) HTTP/1\.([01])" % _TOKEN)
_FIELD = re.compile(rb"(%b++):(%b*+)" % (_TOKEN, _TEXT))
_BEGINS = re.compile(_TOKEN)
_ABSOLUTE = re.compile(rb"https?://([^/?]*+)(.*+)", re.IGNORECASE)
_MOST_DIGITS = 19
_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_AROUND_TARGET = 48
"""Room in a request line besides the target: the longest method, the version and two spaces."""

_MOST_KNOWN, _MOST_KNOWN_BYTES = 1_000, 1_024
"""How many lines and blocks of lines are cached, and the largest size of each in bytes. Most repeat
from request to request.
"""

Fields = list[tuple[bytes, bytes]]
_known: dict[bytes, tuple[bytes, bytes]] = {}
_known_blocks: dict[bytes, Said] = {}


class Bounds(msgspec.Struct, frozen=True):
    """Limits of a head: bytes of the target, bytes and number of header lines."""

    target: int
    fields: int
    count: int


@hides("fields")
class Said(msgspec.Struct, frozen=True, gc=False):
    """The parsed headers. ``length`` is the body's length, ``None`` if it comes in chunks."""

    fields: tuple[tuple[bytes, bytes], ...]
    host: bytes | None
    length: int | None
    keeps_alive: bool
    expects_go_ahead: bool


@hides("query")
class Head(msgspec.Struct, gc=False):
    """A request's head: path and query are still encoded and relative to the root."""

    method: str
    path: bytes
    query: bytes
    said: Said
    is_1_0: bool


def read_head(data: bytes | bytearray, bounds: Bounds) -> tuple[Head, int] | None:
    """Return the head at the start of ``data`` and its end; ``None`` if it is incomplete.

    Raises ``Refusal`` as soon as the head can only become too long or malformed.
    """
    if not data:
        return None
    line_end = data.find(_LINE_END, 0, bounds.target + _AROUND_TARGET + 2)
    if line_end < 0:
        _check_begun(data, bounds)
        return None
    at = line_end + 2
    end = data.find(_END, line_end, at + bounds.fields + 2)
    if end < 0:
        check_begun_fields(data, at, bounds)
        return None
    line = _REQUEST_LINE.fullmatch(data, 0, line_end)
    if line is None:
        raise Refusal("malformed_request", "a request begins with METHOD PATH HTTP/1.1")
    method, target, minor = line.groups()
    if len(target) > bounds.target:
        raise _target_too_long()
    block = bytes(data[at:end])
    is_1_0 = minor == b"0"
    said = _known_blocks.get(block)
    if said is None or is_1_0 or len(said.fields) > bounds.count:
        said = _read_block(block, bounds, is_1_0=is_1_0)
    if not target.startswith(b"/") or b"#" in target:
        target = _origin(target, said.host)
    path, _, query = target.partition(b"?")
    return Head(method.decode("ascii"), path, query, said, is_1_0), end + 4


def read_fields(lines: bytes, bounds: Bounds) -> Fields:
    """Return lower-case names and values of header or trailer lines; the last line has no end."""
    if not lines:
        return []
    rows = lines.split(_LINE_END)
    if len(rows) > bounds.count:
        raise too_many_fields()
    fields = list(map(_known.get, rows))
    if None in fields:
        return [_known.get(row) or _read_field(row) for row in rows]
    return fields  # type: ignore[return-value]  # all are known


def _read_field(row: bytes) -> tuple[bytes, bytes]:
    """Parse a line, and cache it."""
    found = _FIELD.fullmatch(row)
    if found is None:
        raise Refusal("malformed_request", "a header is NAME: VALUE on one line")
    field = (found[1].lower(), found[2].strip(b" \t"))
    if len(row) <= _MOST_KNOWN_BYTES:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[row] = field
    return field


def check_begun_fields(data: bytes | bytearray, at: int, bounds: Bounds) -> None:
    """Refuse incomplete headers or trailers that are already too many or malformed."""
    lines = data.count(_LINE_END, at)
    if data.count(b"\n", at) != lines:
        raise Refusal("malformed_request", "lines end with CR LF")
    if len(data) - at >= bounds.fields + 2 or lines > bounds.count:
        raise too_many_fields()


def too_many_fields() -> Refusal:
    """Return the refusal of headers that are too long or too many."""
    return Refusal("headers_too_large", "the headers are too many or too long")


def _check_begun(data: bytes | bytearray, bounds: Bounds) -> None:
    """Refuse what can no longer become a request line."""
    if _BEGINS.match(data) is None or b"\n" in data[: bounds.target + _AROUND_TARGET]:
        raise Refusal("malformed_request", "a request begins with METHOD PATH HTTP/1.1")
    if len(data) > bounds.target + _AROUND_TARGET:
        raise _target_too_long()


def _target_too_long() -> Refusal:
    return Refusal("uri_too_long", "the path and its query are too long")


def _read_block(block: bytes, bounds: Bounds, *, is_1_0: bool) -> Said:
    """Return the parsed headers of a request, and cache them."""
    fields = read_fields(block, bounds)
    found = dict(fields)
    connection = found.get(b"connection")
    if len(found) != len(fields):
        names = [name for name, _ in fields]
        if names.count(b"host") > 1:
            raise Refusal("malformed_request", "a request has one Host header")
        if names.count(b"content-length") > 1 or names.count(b"transfer-encoding") > 1:
            raise _ambiguous()
        connection = b",".join(value for name, value in fields if name == b"connection")
    host = found.get(b"host")
    if host is None and not is_1_0:
        raise Refusal("malformed_request", "a request has one Host header")
    closes = is_1_0
    if connection is not None and not closes:
        closes = b"close" in [part.strip(b" \t") for part in connection.lower().split(b",")]
    length = _body_length(
        found.get(b"content-length"), found.get(b"transfer-encoding"), is_1_0=is_1_0
    )
    expects = not is_1_0 and found.get(b"expect", b"").lower() == b"100-continue"
    said = Said(tuple(fields), host, length, not closes, expects)
    if not is_1_0 and len(block) <= _MOST_KNOWN_BYTES:
        if len(_known_blocks) >= _MOST_KNOWN:
            _known_blocks.clear()
        _known_blocks[block] = said
    return said


def _origin(target: bytes, host: bytes | None) -> bytes:
    """Return the path and query of a target; if it names a host, that must match ``Host``."""
    if b"#" in target:
        raise Refusal("malformed_request", "a path has no fragment")
    if target == b"*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or (host is not None and absolute[1].lower() != host.lower()):
        raise Refusal("malformed_request", "the target of a request is a path")
    rest: bytes = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _body_length(length: bytes | None, coding: bytes | None, *, is_1_0: bool) -> int | None:
    if coding is not None:
        if length is not None or is_1_0:
            raise _ambiguous()
        if coding.lower() != b"chunked":
            raise Refusal("unsupported", "Transfer-Encoding is chunked, or left out")
        return None
    if length is None:
        return 0
    if not length.isdigit():
        raise Refusal("malformed_request", "Content-Length is a number of bytes")
    if len(length) > _MOST_DIGITS:
        raise Refusal("payload_too_large", "the body is too long")
    return int(length)


def _ambiguous() -> Refusal:
    return Refusal("malformed_request", "the length of the body is ambiguous")
