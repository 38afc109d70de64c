"""The shapes of the wire, as msgspec types: what is decoded, encoded, and described by OpenAPI."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent_cores.session.inputs import LARGEST_NUMBER
from agent_cores.session.models.representation import hides

if TYPE_CHECKING:
    from agent_cores.session import models

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Content = str | list[Any]
Count = Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
Positive = Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
Seconds = Annotated[int, Meta(ge=1, le=3_162_240_000)]
Lease = Annotated[int, Meta(ge=1, le=300)]
Instant = Annotated[datetime, Meta(tz=True)]
NAME_SCHEMA = {"maxLength": 255, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"}
ID_SCHEMA = {"maxLength": 255, "pattern": r"^[^\u0000-\u001f\u007f-\u009f/\\]+$"}
Name = Annotated[str, Meta(min_length=1, extra_json_schema=NAME_SCHEMA)]
Id = Annotated[str, Meta(min_length=1, extra_json_schema=ID_SCHEMA)]
Context = Annotated[
    dict[str, Any], Meta(extra_json_schema={"propertyNames": {"minLength": 1, **NAME_SCHEMA}})
]
Given = Literal["viewer", "editor"]


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of what requests hold: unknown fields are refused."""


@hides("content", "metadata")
class Message(msgspec.Struct, frozen=True):
    """A stored message."""

    seq: int
    id: str
    role: str
    content: Content
    author_id: str
    created_at: Time
    metadata: dict[str, Any]


class Grant(msgspec.Struct, frozen=True):
    """A role given to a user, or to ``group:<name>``."""

    subject: str
    role: Given
    expires_at: Time | None
    granted_by: str
    granted_at: Time


@hides("title", "metadata", "context")
class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as the caller may see it. Durations are seconds."""

    id: str
    owner_id: str
    status: Literal["active", "archived"]
    visibility: Literal["private", "shared", "public"]
    access_role: Literal["viewer", "editor", "owner"]
    title: str | None
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    created_at: Time
    updated_at: Time
    last_active_at: Time
    expires_at: Time | None
    ttl_seconds: int | None
    max_lifetime_seconds: int | None
    renew_on: Literal["write", "access", "never"]
    message_count: int
    last_seq: int
    revision: int
    version: str
    turn_expires_at: Time | None
    context: dict[str, Any] | UnsetType = UNSET
    grants: list[Grant] | UnsetType = UNSET
    messages: list[Message] | UnsetType = UNSET


class FieldProblem(msgspec.Struct, frozen=True):
    """One field that is wrong; ``field`` is a JSON Pointer."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal (RFC 9457). Programs compare ``code``."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: list[FieldProblem] | UnsetType = UNSET
    values: dict[str, Any] | UnsetType = UNSET


class SessionPage(msgspec.Struct, frozen=True):
    """One page of a listing of sessions."""

    data: list[Session]
    has_more: bool
    next_cursor: str | None


class MessagePage(msgspec.Struct, frozen=True):
    """One page of messages, ascending."""

    data: list[Message]
    has_more: bool
    last_seq: int


class GrantPage(msgspec.Struct, frozen=True):
    """The grants that the caller may see."""

    data: list[Grant]
    has_more: bool
    next_cursor: str | None


class Appended(msgspec.Struct, frozen=True):
    """What an append stored, and where the session stands."""

    data: list[Message]
    last_seq: int
    revision: int


class Popped(msgspec.Struct, frozen=True):
    """The messages that were removed, the oldest first."""

    data: list[Message]


@hides("turn")
class Turn(msgspec.Struct, frozen=True):
    """The turn that the caller holds."""

    turn: str
    expires_at: Time


class Me(msgspec.Struct, frozen=True):
    """Who the credential says is calling."""

    namespace: str
    user_id: str | None
    groups: list[str]
    rights: list[str]
    key_id: str | None


class Erased(msgspec.Struct, frozen=True):
    """What an erasure removed; call again until complete. ``failed``: ids that it could not."""

    sessions: int
    messages: int
    grants: int
    complete: bool
    failed: list[str]


class Statistics(msgspec.Struct, frozen=True):
    """Sessions stored in the namespace, and those of them that are past their due time."""

    sessions: int
    due: int


class Health(msgspec.Struct, frozen=True):
    """Whether the service answers, or may be sent requests."""

    status: Literal["ok", "unavailable"]


class Empty(Request):
    """No fields."""


@hides("content", "metadata")
class NewMessage(Request):
    """A message to append."""

    role: Name
    content: Content
    id: Id | None = None
    metadata: dict[str, Any] | None = None


@hides("title", "metadata", "context")
class CreateSession(Request):
    """A new session. ``ttl_seconds`` left out is the service's default, null never ends."""

    id: Id | None = None
    title: str | None = None
    tags: list[Name] | UnsetType = UNSET
    metadata: dict[str, Any] = {}
    context: Context = {}
    public: bool = False
    ttl_seconds: Seconds | UnsetType | None = UNSET
    max_lifetime_seconds: Seconds | None = None
    renew_on: Literal["write", "access", "never"] = "write"
    if_exists: Literal["error", "return", "return_shared"] = "error"


@hides("metadata_updates", "context_updates")
class UpdateSession(Request):
    """What to set and to drop; a metadata key set to null is removed."""

    metadata_updates: dict[str, Any] = {}
    context_updates: Context = {}
    context_removals: list[Name] = []


@hides("context_updates", "turn")
class AppendMessages(Request):
    """Messages to append in one write, with changes of the context."""

    messages: Annotated[list[NewMessage], Meta(min_length=1)]
    context_updates: Context = {}
    context_removals: list[Name] = []
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("context_updates", "turn")
class ReplaceMessages(AppendMessages, kw_only=True):
    """Messages to append in place of those after a seq, in one write."""

    after_seq: Count


@hides("turn")
class PopMessages(Request):
    """How many messages to take off the end."""

    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    expected_last_seq: Count | None = None
    turn: Name | None = None


class ShareSession(Request):
    """A role to give."""

    subject: Name
    role: Given
    expires_at: Instant | None = None


class RevokeAccess(Request):
    """Whose grant to take away."""

    subject: Name


class SetVisibility(Request):
    """Who may see the session."""

    visibility: Literal["public", "shared", "private"]


class TransferOwnership(Request):
    """The new owner, and what the old one stays."""

    owner_id: Name
    keep_role: Given | None = None


class RenewSession(Request):
    """The idle time from now on; left out, as it was."""

    ttl_seconds: Seconds | UnsetType | None = UNSET


@hides("title", "metadata")
class ForkSession(Request):
    """What the copy is to be, where it differs."""

    id: Id | None = None
    up_to_seq: Count | None = None
    title: str | None = None
    metadata: dict[str, Any] = {}
    ttl_seconds: Seconds | UnsetType | None = UNSET


@hides("turn")
class RewindSession(Request):
    """The last message that stays."""

    to_seq: Count
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("turn")
class TakeTurn(Request):
    """The token of the turn, 128 random bits of one's own, and the length of its lease."""

    turn: Name | None = None
    lease_seconds: Lease = 30


class RenewTurn(Request):
    """The length of the lease from now on."""

    lease_seconds: Lease = 30


class EraseUser(Request):
    """Whom to erase."""

    user_id: Name


def wire_time(at: datetime) -> str:
    """Return RFC 3339, UTC, with milliseconds."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def whole_seconds(seconds: float | None) -> int | None:
    """Return a duration in whole seconds, rounded up."""
    return None if seconds is None else math.ceil(seconds)


def message_shape(message: models.Message) -> Message:
    """Return a message of the manager as the wire has it."""
    return Message(
        message.seq,
        message.id,
        message.role,
        message.content,
        message.author_id,
        wire_time(message.created_at),
        message.metadata,
    )


def grant_shape(grant: models.Grant) -> Grant:
    """Return a grant of the manager as the wire has it."""
    return Grant(
        subject=grant.subject,
        role=grant.role.value,  # type: ignore[arg-type]  # a grant is never owner
        expires_at=None if grant.expires_at is None else wire_time(grant.expires_at),
        granted_by=grant.granted_by,
        granted_at=wire_time(grant.granted_at),
    )


def session_shape(session: models.Session) -> Session:
    """Return a session of the manager as the wire has it."""
    header = session.metadata
    return Session(
        id=header.session_id,
        owner_id=header.owner_id,
        status="archived" if header.archived else "active",
        visibility=session.visibility.value if session.visibility else "private",
        access_role=session.access_role.value if session.access_role else "viewer",
        title=header.title,
        tags=header.tags,
        metadata=header.attributes,
        created_at=wire_time(header.created_at),
        updated_at=wire_time(header.updated_at),
        last_active_at=wire_time(header.last_active_at),
        expires_at=None if header.expires_at is None else wire_time(header.expires_at),
        ttl_seconds=whole_seconds(header.ttl_seconds),
        max_lifetime_seconds=whole_seconds(header.max_lifetime_seconds),
        renew_on=header.renew_on.value,
        message_count=header.message_count,
        last_seq=header.last_seq,
        revision=header.revision,
        version=header.version,
        turn_expires_at=None if header.turn is None else wire_time(header.turn.expires_at),
        context=UNSET if session.context is None else session.context,
        grants=[grant_shape(grant) for grant in header.grants.values()],
        messages=UNSET
        if session.messages is None
        else [message_shape(message) for message in session.messages],
    )
