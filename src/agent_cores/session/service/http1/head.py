"""``read_head``: the head of a request, bounded before it is complete and refused if ambiguous.

What two programs could read in two ways is refused, since that is how a request is smuggled past
a proxy: two lengths, a length beside chunks, folded lines, a bare CR or LF, space before a colon.
An ``Upgrade`` is ignored: the service has one protocol, and the body stays a body (RFC 9110, 7.8).
"""

from __future__ import annotations

import re

import msgspec

from agent_cores.session.service.problems import Refusal

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]"
# Possessive quantifiers: whatever is sent, each byte is looked at a bounded number of times.
_REQUEST_LINE = re.compile(rb"(%b{1,32}+) ([\x21-\x7e]++) HTTP/1\.([01])" % _TOKEN)
_FIELDS = re.compile(rb"(?:%b++:%b*+\r\n)*+" % (_TOKEN, _TEXT))
_FIELD = re.compile(rb"([^:\r\n]++):([^\r\n]*+)\r\n")
_BEGINS = re.compile(_TOKEN)
_ABSOLUTE = re.compile(rb"https?://([^/?]*+)(.*+)", re.IGNORECASE)
_LENGTH = re.compile(rb"[0-9]{1,19}+")
_END = b"\r\n\r\n"
_LINE_END = b"\r\n"
_AROUND_TARGET = 48
"""Room in a request line beside the target: the longest method, the version and two spaces."""

Fields = list[tuple[bytes, bytes]]


class Bounds(msgspec.Struct, frozen=True):
    """How much of a head there may be: bytes of the target, bytes and number of header lines."""

    target: int
    fields: int
    count: int


class Head(msgspec.Struct):
    """A head. ``length`` is that of the body, ``None`` where it comes in chunks."""

    method: str
    path: bytes
    query: bytes
    fields: Fields
    length: int | None
    is_1_0: bool
    keeps_alive: bool
    expects_go_ahead: bool


def read_head(data: bytes | bytearray, bounds: Bounds) -> tuple[Head, int] | None:
    """Return the head that ``data`` begins with, and where it ends; ``None`` if it is incomplete.

    Raises ``Refusal`` as soon as it can only become too long or malformed.
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
    if len(line[2]) > bounds.target:
        raise _target_too_long()
    fields = read_fields(bytes(data[at : end + 2]), bounds)
    return _head(bytes(line[1]), bytes(line[2]), fields, is_1_0=line[3] == b"0"), end + 4


def read_fields(lines: bytes, bounds: Bounds) -> Fields:
    """Return names in lower case and values of header or trailer lines, each with its end."""
    if _FIELDS.fullmatch(lines) is None:
        raise Refusal("malformed_request", "a header is NAME: VALUE on one line")
    if lines.count(_LINE_END) > bounds.count:
        raise too_many_fields()
    return [(name.lower(), value.strip(b" \t")) for name, value in _FIELD.findall(lines)]


def check_begun_fields(data: bytes | bytearray, at: int, bounds: Bounds) -> None:
    """Refuse lines of headers or trailers that are too many or malformed before their end."""
    lines = data.count(_LINE_END, at)
    if data.count(b"\n", at) != lines:
        raise Refusal("malformed_request", "lines end with CR LF")
    if len(data) - at >= bounds.fields + 2 or lines > bounds.count:
        raise too_many_fields()


def too_many_fields() -> Refusal:
    """Return the refusal of headers that are too long or too many."""
    return Refusal("headers_too_large", "the headers are too many or too long")


def _check_begun(data: bytes | bytearray, bounds: Bounds) -> None:
    """Refuse what cannot become a request line."""
    if _BEGINS.match(data) is None or b"\n" in data[: bounds.target + _AROUND_TARGET]:
        raise Refusal("malformed_request", "a request begins with METHOD PATH HTTP/1.1")
    if len(data) > bounds.target + _AROUND_TARGET:
        raise _target_too_long()


def _target_too_long() -> Refusal:
    return Refusal("uri_too_long", "the path and its query are too long")


def _head(method: bytes, target: bytes, fields: Fields, *, is_1_0: bool) -> Head:
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection = b""
    expects = False
    for name, value in fields:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"connection":
            connection += b"," + value.lower()
        elif name == b"expect":
            expects = expects or value.lower() == b"100-continue"
    if len(hosts) != 1 and (hosts or not is_1_0):
        raise Refusal("malformed_request", "a request has one Host header")
    path, _, query = _origin(target, hosts).partition(b"?")
    closes = is_1_0 or (
        connection != b"" and b"close" in [part.strip() for part in connection.split(b",")]
    )
    return Head(
        method.decode("ascii"),
        path,
        query,
        fields,
        _body_length(lengths, codings, is_1_0=is_1_0),
        is_1_0=is_1_0,
        keeps_alive=not closes,
        expects_go_ahead=expects and not is_1_0,
    )


def _origin(target: bytes, hosts: list[bytes]) -> bytes:
    """Return path and query of a target; one that names a host must name that of ``Host``."""
    if b"#" in target:
        raise Refusal("malformed_request", "a path has no fragment")
    if target.startswith(b"/") or target == b"*":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or (hosts and absolute[1].lower() != hosts[0].lower()):
        raise Refusal("malformed_request", "the target of a request is a path")
    rest = absolute[2]
    return rest if rest.startswith(b"/") else b"/" + rest


def _body_length(lengths: list[bytes], codings: list[bytes], *, is_1_0: bool) -> int | None:
    if codings:
        if lengths or is_1_0 or len(codings) > 1:
            raise Refusal("malformed_request", "the length of the body is ambiguous")
        if codings[0].lower() != b"chunked":
            raise Refusal("unsupported", "Transfer-Encoding is chunked, or left out")
        return None
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise Refusal("malformed_request", "the length of the body is ambiguous")
    if _LENGTH.fullmatch(lengths[0]) is None:
        if lengths[0].isdigit():
            raise Refusal("payload_too_large", "the body is too long")
        raise Refusal("malformed_request", "Content-Length is a number of bytes")
    return int(lengths[0])
