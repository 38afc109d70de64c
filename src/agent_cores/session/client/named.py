"""The client's verbs on messages by name: read those with some ids, delete many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent_cores.session.client import arguments
from agent_cores.session.client.calls import Request
from agent_cores.session.client.messages import MessageCalls, guards
from agent_cores.session.client.reading import read, read_messages
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.models.session import Page
from agent_cores.session.wire import shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agent_cores.session.models.message import Message

_MOST_IDS = 100
_MOST_BYTES = 4_096
"""How much of a URL the ids of one request may take: half of what a service takes by default."""


class NamedMessageCalls(MessageCalls):
    """Read and delete messages by id."""

    async def get_messages(
        self, session_id: str, user_id: str, *, ids: Iterable[str]
    ) -> Page[Message]:
        """Return the messages with these ids, in ascending order of seq.

        More ids than fit into one URL take several requests, each at an instant of its own.
        """
        parts: list[list[str]] = []

        def first() -> Request:
            parts.extend(_parts(_checked(ids)))
            if not parts:  # the service still decides whether the caller may read
                return Request(query={"limit": 1})
            return Request(query={"id": parts[0]})

        page, size = await self._get_named(session_id, user_id, first)
        if not parts:
            return Page([], has_more=False, last_seq=page.last_seq, version=page.version)
        found, has_more = list(page), page.has_more
        for part in parts[1:]:
            if has_more or size >= DEFAULT_LIMITS.page_bytes:
                has_more = True
                break
            request = partial(Request, query={"id": part})
            page, more = await self._get_named(session_id, user_id, request)
            found, has_more, size = found + list(page), page.has_more, size + more
        found.sort(key=lambda message: message.seq)
        return Page(found, has_more=has_more, last_seq=page.last_seq, version=page.version)

    async def _get_named(
        self, session_id: str, user_id: str, request: Callable[[], Request]
    ) -> tuple[Page[Message], int]:
        """Return a page, and how many bytes it took."""
        names = {"id": "ids"}
        reply = await self._ask("GET", session_id, user_id, "/messages", request, names=names)
        return read_messages(reply), len(reply.body)

    async def delete_messages(
        self,
        session_id: str,
        user_id: str,
        *,
        ids: Iterable[str] | None = None,
        seqs: Iterable[int] | None = None,
        before_seq: int | None = None,
        keep_last: int | None = None,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> int:
        """Remove messages by id, by seq, or the oldest ones; return how many were removed."""

        def request() -> Request:
            fields: dict[str, Any] = {}
            for field, names in (("ids", ids), ("seqs", seqs)):
                if names is not None:
                    fields[field] = arguments.names(names, field)
            for field, value in (("before_seq", before_seq), ("keep_last", keep_last)):
                if value is not None:
                    fields[field] = arguments.integer(value, field)
            return Request(
                shapes.DeleteMessages(**fields, **guards(expected_last_seq, turn)),
                headers=arguments.expected(expected_revision, expected_version),
            )

        reply = await self._ask("POST", session_id, user_id, "/messages/delete", request)
        return read(reply, shapes.Deleted).deleted


def _checked(ids: Iterable[str]) -> list[str]:
    """Return the ids, each once."""
    given, most = arguments.texts(ids, "ids"), DEFAULT_LIMITS.page_items
    if len(given) > most:
        raise InvalidInputError("ids", f"names more than {most} messages; split the call")
    return list(dict.fromkeys(given))


def _parts(ids: list[str]) -> Iterator[list[str]]:
    """Split ids into parts that fit into a URL."""
    part: list[str] = []
    room = 0
    for one in ids:
        length = len(quote(one, safe="")) + len("&id=")
        if part and (length > room or len(part) == _MOST_IDS):
            yield part
            part = []
        if not part:
            room = _MOST_BYTES
        part.append(one)
        room -= length
    if part:
        yield part
