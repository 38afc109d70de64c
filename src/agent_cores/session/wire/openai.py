"""The bodies of OpenAI's Conversations interface, as msgspec types.

The names and values of their fields are OpenAI's. An item is any object: what is known of its
fields is checked by the service, and the others are passed through.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from agent_cores.session.models.representation import hides
from agent_cores.session.wire.shapes import Request

MOST_ITEMS = 20
"""Most items that one request may add."""
Item = dict[str, Any]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


@hides("metadata", "items")
class CreateConversation(Request):
    """A new conversation, with its first items."""

    items: Annotated[list[Item], Meta(max_length=MOST_ITEMS)] | None = None
    metadata: Metadata | None = None


@hides("metadata")
class UpdateConversation(Request):
    """Metadata that replaces the metadata of a conversation; null removes all."""

    metadata: Metadata | None


@hides("items")
class CreateItems(Request):
    """Items to add to a conversation, in one write."""

    items: Annotated[list[Item], Meta(min_length=1, max_length=MOST_ITEMS)]


@hides("metadata")
class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation. ``created_at`` is in seconds since 1970."""

    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"] = "conversation"


class DeletedConversation(msgspec.Struct, frozen=True, kw_only=True):
    """The id of a conversation that was deleted."""

    id: str
    deleted: bool = True
    object: Literal["conversation.deleted"] = "conversation.deleted"


@hides("data")
class ItemList(msgspec.Struct, frozen=True, kw_only=True):
    """Items, in the order that was asked for. The ids of an empty list are empty texts."""

    data: list[Any]
    first_id: str
    last_id: str
    has_more: bool
    object: Literal["list"] = "list"


class ConversationItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item, with the fields of its type."""

    id: str
    type: str


class OpenAIErrorDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What was wrong. Programs compare ``code``; ``param`` names the field in question."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal in OpenAI's shape."""

    error: OpenAIErrorDetail
