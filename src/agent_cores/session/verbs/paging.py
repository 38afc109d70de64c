"""Pages of headers, bounded in bytes as pages of messages are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.query import Found
from agent_cores.session.models.values import encode_json

if TYPE_CHECKING:
    from agent_cores.session.engine import Engine
    from agent_cores.session.models.query import Query
    from agent_cores.session.models.session import SessionMetadata

_FIRST = 64
_MOST = 256
"""How many headers one read of the store may return: they are all held in memory."""
_SMALL = 4_096
_HEADER = 1_024
_GRANT = 256


async def find_page(
    engine: Engine,
    query: Query,
    deadline: float,
    *,
    context: bool = False,
) -> Found:
    """Return a page that ends at ``page_bytes`` but holds at least one session if there is one.

    ``context`` says that the contexts count. The store is read some headers at a time; a page of
    few or small ones takes one read.
    """
    most = engine.limits.page_bytes
    headers: list[SessionMetadata] = []
    unreadable: tuple[str, ...] = ()
    size, step, rest = 0, _FIRST, query
    while True:
        wanted = min(step, query.limit - len(headers))
        found = await engine.find(msgspec.structs.replace(rest, limit=wanted), deadline)
        sizes = [size_of(header, context=context) for header in found.headers]
        fitting = how_many_fit(sizes, most - size)
        if not headers:
            fitting = max(fitting, 1)
        if fitting < len(found.headers):
            if not fitting:
                return Found(headers, rest.after, unreadable)
            found = await engine.find(msgspec.structs.replace(rest, limit=fitting), deadline)
            return Found(headers + found.headers, found.next, unreadable + found.unreadable)
        headers += found.headers
        unreadable += found.unreadable
        size += sum(sizes)
        full = len(headers) >= query.limit or size >= most
        if full or found.next is None or len(found.headers) < wanted:
            return Found(headers, found.next, unreadable)
        step = _MOST if size < _SMALL * len(headers) else _FIRST
        rest = msgspec.structs.replace(query, after=found.next, offset=0)


def how_many_fit(sizes: list[int], room: int) -> int:
    """Return how many of these, from the first on, fit into the room."""
    for index, size in enumerate(sizes):
        room -= size
        if room < 0:
            return index
    return len(sizes)


def size_of(header: SessionMetadata, *, context: bool = False) -> int:
    """Estimate how many bytes a header takes in a page; ``context``: with its context."""
    size = _HEADER + len(header.title or "")
    if context:
        size += header.context_bytes or 0
    if header.attributes:
        size += len(encode_json(header.attributes))
    if header.tags:
        size += sum(map(len, header.tags))
    if header.grants:
        size += sum(_GRANT + len(grant.subject) for grant in header.grants.values())
    return size
