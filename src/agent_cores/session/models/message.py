"""Messages: as callers append them, as they read them, and as providers store them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from agent_cores.session.models.representation import hides

Content = str | list[Any] | dict[str, Any] | None
"""What a message says, as callers read it."""
NewContent = Content | msgspec.Raw
"""The same as callers give it: ``msgspec.Raw`` is JSON that they have already encoded."""


@hides("content", "metadata")
class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message to append.

    ``role`` is free text, such as ``user``, ``assistant``, ``system``, ``developer`` or ``tool``.
    ``content`` is text, a list, an object or ``None``, also as ``msgspec.Raw`` JSON, which is
    stored unchanged. With an ``id`` the append can be repeated safely.
    """

    role: str
    content: NewContent
    id: str | None = None
    metadata: Mapping[str, Any] | None = None


@hides("content", "metadata")
class ImportedMessage(NewMessage, frozen=True, forbid_unknown_fields=True):
    """A message from elsewhere, which keeps when it was created and by whom. For operators.

    ``created_at`` is an aware time, not in the future; ``author_id`` is a user id. Left out, they
    are what they would be for a ``NewMessage``.
    """

    created_at: datetime | None = None
    author_id: str | None = None


@hides("content", "metadata")
class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A stored message. ``seq`` counts from 1, in commit order; removed messages leave holes.

    ``updated_at`` is when its content or metadata last changed, ``None`` if they never have.
    """

    seq: int
    id: str
    role: str
    content: Content
    author_id: str
    created_at: datetime
    metadata: dict[str, Any] = {}
    updated_at: datetime | None = None


@hides("body")
class StoredMessage(msgspec.Struct, frozen=True, gc=False):
    """A message as a provider stores it.

    ``body`` is its role, content, author and metadata, encoded. ``seq`` is 0 until the store has
    numbered it.
    """

    seq: int
    id: str
    created_at: datetime
    body: bytes


def numbered(messages: tuple[StoredMessage, ...], after: int) -> tuple[StoredMessage, ...]:
    """Return the messages with the seqs that follow ``after``."""
    if len(messages) == 1:  # the usual case, and every append pays for this
        [message] = messages
        return (StoredMessage(after + 1, message.id, message.created_at, message.body),)
    return tuple(
        StoredMessage(seq, message.id, message.created_at, message.body)
        for seq, message in enumerate(messages, after + 1)
    )
