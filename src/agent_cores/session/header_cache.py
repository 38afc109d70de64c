"""``HeaderCache``: the headers that this process read last. It can approve, never refuse."""

from __future__ import annotations

from sys import getsizeof
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent_cores.session.models.session import Grant, SessionMetadata

KEPT_TAGS = 8
"""Up to this many tags are cached, so that an append can update their lists in one round trip."""
CACHED_BYTES = 32 * 1024 * 1024
_PER_GRANT = 400
"""Bytes of a grant besides its texts: the struct, two times and its place in a dictionary."""

Key = tuple[str, str]
"""Namespace and session id."""


class HeaderCache:
    """A map bounded by entries and by bytes; the least recently used entry leaves first.

    It keeps only what writes need: title, attributes and long lists of tags are left out. What is
    left has a bounded size, except for grants: ``max_bytes`` bounds their total, by an estimate.
    """

    def __init__(self, size: int, max_bytes: int = CACHED_BYTES) -> None:
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self._headers: dict[Key, SessionMetadata] = {}
        self._weights: dict[Key, int] = {}  # of the headers with grants
        self.get: Callable[[Key], SessionMetadata | None] = self._headers.get
        """Returns the header that was read last, which may be stale.

        This does not count as a use of it: a read or write that succeeds puts the header again,
        and that does. Every write asks, so it is the dictionary's own method.
        """

    def put(self, key: Key, header: SessionMetadata) -> SessionMetadata:
        """Remember a header, if it is not too large; return it as it was kept."""
        tags = header.tags if len(header.tags) <= KEPT_TAGS else ()
        if header.attributes or header.title is not None or tags is not header.tags:
            header = msgspec.structs.replace(header, attributes={}, tags=tags, title=None)
        headers = self._headers
        before = headers.pop(key, None)
        headers[key] = header
        if header.grants or self._weights:
            self._weigh(key, header, before)
        if len(headers) > self._size:
            self.forget(next(iter(headers)))
        return header

    def update(self, key: Key, header: SessionMetadata) -> None:
        """Replace a header that is cached: what the old one allowed may no longer be allowed."""
        if key in self._headers:
            self.put(key, header)

    def forget(self, key: Key) -> None:
        """Drop a header if it is cached."""
        self._headers.pop(key, None)
        self._bytes -= self._weights.pop(key, 0)

    def _weigh(self, key: Key, header: SessionMetadata, before: SessionMetadata | None) -> None:
        """Count the bytes of the grants, and make room; an append leaves them the same object."""
        weights = self._weights
        known = weights.pop(key, 0)
        if not header.grants:
            self._bytes -= known
            return
        same = known and before is not None and before.grants is header.grants
        weights[key] = weight = known if same else _weight(header.grants)
        self._bytes += weight - known
        while self._bytes > self._max_bytes:
            self.forget(next(iter(weights)))


def _weight(grants: Mapping[str, Grant]) -> int:
    return sum(
        _PER_GRANT + 2 * getsizeof(subject) + getsizeof(grant.granted_by)
        for subject, grant in grants.items()
    )
