"""``HeaderCache``: the headers this process saw last. It may speed up a yes; it never says no."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from agent_cores.session.models.session import SessionMetadata

KEPT_TAGS = 8
"""A session with so many moves up in the lists of its tags in the same round trip as its append."""

Key = tuple[str, str]
"""Namespace and session id."""


class HeaderCache:
    """A bounded map, the least recently used out first.

    It keeps only what writes need: title, attributes and many tags are left out, so that its size
    is bounded by its number of entries.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._headers: dict[Key, SessionMetadata] = {}

    def get(self, key: Key) -> SessionMetadata | None:
        """Return the header seen last, which may be out of date."""
        header = self._headers.pop(key, None)
        if header is not None:
            self._headers[key] = header
        return header

    def put(self, key: Key, header: SessionMetadata) -> SessionMetadata:
        """Remember a header; return it as it is kept."""
        tags = header.tags if len(header.tags) <= KEPT_TAGS else ()
        if header.attributes or header.title is not None or tags is not header.tags:
            header = msgspec.structs.replace(header, attributes={}, tags=tags, title=None)
        headers = self._headers
        headers.pop(key, None)
        headers[key] = header
        if len(headers) > self._size:
            del headers[next(iter(headers))]
        return header

    def forget(self, key: Key) -> None:
        """Drop a header, if it is there."""
        self._headers.pop(key, None)
