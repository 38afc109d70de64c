"""Turn the bodies of responses into the types of the library.

A body that the service cannot have sent raises ``StorageUnavailableError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent_cores.session.client.pool import NO_CONTENT
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models import Grant, Message, Page, Session, SessionCount, Turn
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import grant_of, message_of, session_of, turn_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.client.pool import Reply

S = TypeVar("S")
T = TypeVar("T")

_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {
    shape: msgspec.json.Decoder(shape)
    for shape in (
        shapes.Appended,
        shapes.Deleted,
        shapes.Erased,
        shapes.Grant,
        shapes.Me,
        shapes.Message,
        shapes.MessagePage,
        shapes.Popped,
        shapes.Session,
        shapes.SessionPage,
        shapes.Statistics,
        shapes.Turn,
        SessionCount,
    )
}
"""Made when this is imported: msgspec crashes if several threads decode a type first."""


def read(reply: Reply, shape: type[T]) -> T:
    """Return the body as the given shape."""
    return _converted(reply, shape, lambda body: body)


def read_nothing(reply: Reply) -> None:
    """Check that the response has no body."""
    if reply.status != NO_CONTENT:
        raise _not_ours(reply)


def read_grant(reply: Reply) -> Grant:
    """Return a grant."""
    return _converted(reply, shapes.Grant, grant_of)


def read_session(reply: Reply, namespace: str) -> Session:
    """Return a session."""
    return _converted(reply, shapes.Session, lambda shape: session_of(shape, namespace))


def read_sessions(reply: Reply, namespace: str) -> Page[Session]:
    """Return a page of headers."""

    def page_of(page: shapes.SessionPage) -> Page[Session]:
        return Page(
            [session_of(shape, namespace) for shape in page.data],
            has_more=page.has_more,
            next_cursor=page.next_cursor,
        )

    return _converted(reply, shapes.SessionPage, page_of)


def read_messages(reply: Reply) -> Page[Message]:
    """Return a page of messages, with the last seq of their session."""
    version = (reply.headers.get("etag") or "").strip('"') or None

    def page_of(page: shapes.MessagePage) -> Page[Message]:
        messages = [message_of(shape) for shape in page.data]
        return Page(messages, has_more=page.has_more, last_seq=page.last_seq, version=version)

    return _converted(reply, shapes.MessagePage, page_of)


def read_appended(reply: Reply) -> list[Message]:
    """Return the messages that an append stored."""
    return _converted(
        reply, shapes.Appended, lambda done: [message_of(shape) for shape in done.data]
    )


def read_message(reply: Reply) -> Message:
    """Return one message."""
    return _converted(reply, shapes.Message, message_of)


def read_popped(reply: Reply) -> list[Message]:
    """Return messages that were removed."""
    return _converted(reply, shapes.Popped, lambda page: [message_of(m) for m in page.data])


def read_turn(reply: Reply) -> Turn:
    """Return the turn that the caller holds."""
    return _converted(reply, shapes.Turn, turn_of)


def _converted(reply: Reply, shape: type[S], convert: Callable[[S], T]) -> T:
    try:
        return convert(_DECODERS[shape].decode(reply.body))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_ours(reply) from error


def _not_ours(reply: Reply) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"the response {reply.status} is not the session service's; check base_url and proxies",
        outcome_unknown=reply.method != "GET",
    )
