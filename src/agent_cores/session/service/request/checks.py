"""Checks of a request that need only its head."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from starlette.types import Scope

    from agent_cores.session.service.headers import Headers
    from agent_cores.session.service.settings import ServiceSettings

_LOOPBACK = re.compile(rb"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_ACCEPTED = frozenset({b"*/*", b"application/*", b"application/json", b"application/problem+json"})
_MOST_DIGITS = 19


def check_size(scope: Scope, headers: Headers, settings: ServiceSettings, most_bytes: int) -> None:
    """Refuse a head that is too large (the path counts), or a declared body size over the limit."""
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) + headers.size
    if len(headers) > settings.max_header_count or size > settings.max_header_bytes:
        raise Refusal("headers_too_large", "the headers and the path are too many or too long")
    for length in headers.values(b"content-length"):
        if not length.isdigit():
            raise Refusal("malformed_request", "Content-Length is a number of bytes")
        # Check the number of digits first: Python refuses to convert thousands of them.
        if len(length) > _MOST_DIGITS or int(length) > most_bytes:
            raise too_large(most_bytes)


def too_large(most_bytes: int) -> Refusal:
    """Return the refusal of a body larger than the limit."""
    return Refusal(
        "payload_too_large",
        f"the body has more than {most_bytes} bytes",
        headers={"Connection": "close"},
    )


def check_media_type(headers: Headers) -> None:
    """Refuse a body that is not declared as uncompressed JSON in UTF-8."""
    given = headers.values(b"content-encoding")
    if given and b",".join(given).strip().lower() not in {b"", b"identity"}:
        raise Refusal(
            "unsupported_media_type",
            "a body is sent as it is, without Content-Encoding",
            headers={"Accept-Encoding": "identity"},
        )
    given = headers.values(b"content-type")
    if len(given) != 1 or not _is_json(given[0]):
        raise Refusal("unsupported_media_type", "the body is application/json, in UTF-8")


@lru_cache(maxsize=64)
def _is_json(content_type: bytes) -> bool:
    media_type, *parameters = content_type.lower().split(b";")
    if media_type.strip() != b"application/json":
        return False
    charsets = [
        value.strip().strip(b'"')
        for name, _, value in (parameter.partition(b"=") for parameter in parameters)
        if name.strip() == b"charset"
    ]
    return all(charset in {b"utf-8", b"utf8", b"us-ascii"} for charset in charsets)


def check_accept(headers: Headers) -> None:
    """Refuse a caller who does not accept JSON."""
    values = headers.values(b"accept")
    if not values:
        return
    given = b",".join(values)
    if not given.strip(b" \t,"):  # an empty list accepts anything, like no header
        return
    for choice in given.split(b","):
        media_type, _, parameters = choice.partition(b";")
        weight = re.search(rb"q=0(?:\.0*)?\s*(?:;|$)", parameters)
        if media_type.strip().lower() in _ACCEPTED and weight is None:
            return
    raise Refusal("not_acceptable", "answers are application/json")


def check_host(headers: Headers) -> None:
    """Refuse host names other than this machine's own: a web page may point its name here."""
    given = headers.values(b"host")
    if len(given) != 1 or not _is_loopback(given[0]):
        raise Refusal("malformed_request", "the Host is not a loopback address")


@lru_cache(maxsize=16)
def _is_loopback(host: bytes) -> bool:
    return _LOOPBACK.fullmatch(host.strip()) is not None
