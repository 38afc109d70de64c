"""The bodies of requests and responses, as msgspec types.

The service decodes requests and encodes responses with them, the client the other way round, and
OpenAPI is generated from them. Requests are closed: unknown fields and values are refused.
Responses are open: a client ignores unknown fields, and reads an unknown enum value, from a later
version, as the most cautious known one.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent_cores.session.inputs import LARGEST_NUMBER
from agent_cores.session.models.representation import hides

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Content = str | list[Any] | dict[str, Any] | None
Count = Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
Positive = Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
Seconds = Annotated[int, Meta(ge=1, le=3_162_240_000)]
Lease = Annotated[int, Meta(ge=1, le=300)]
Instant = Annotated[datetime, Meta(tz=True)]
NAME_SCHEMA: dict[str, Any] = {"maxLength": 255, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]+$"}
ID_SCHEMA: dict[str, Any] = {"maxLength": 255, "pattern": r"^[^\u0000-\u001f\u007f-\u009f/\\]+$"}
Name = Annotated[str, Meta(min_length=1, extra_json_schema=NAME_SCHEMA)]
Id = Annotated[str, Meta(min_length=1, extra_json_schema=ID_SCHEMA)]
Context = Annotated[
    dict[str, Any], Meta(extra_json_schema={"propertyNames": {"minLength": 1, **NAME_SCHEMA}})
]
Given = Literal["viewer", "editor"]
RenewOn = Literal["write", "access", "never"]
Visibility = Literal["public", "shared", "private"]
IfExists = Literal["error", "return", "return_shared"]

# In responses: any text is accepted, since a client may receive a value of a later version.
AnyGiven = Annotated[str, Meta(extra_json_schema={"enum": ["viewer", "editor"]})]
AnyRole = Annotated[str, Meta(extra_json_schema={"enum": ["viewer", "editor", "owner"]})]
AnyStatus = Annotated[str, Meta(extra_json_schema={"enum": ["active", "archived"]})]
AnyRenewOn = Annotated[str, Meta(extra_json_schema={"enum": ["write", "access", "never"]})]
AnyVisibility = Annotated[str, Meta(extra_json_schema={"enum": ["private", "shared", "public"]})]


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Base of all requests: unknown fields are refused."""


@hides("content", "metadata")
class Message(msgspec.Struct, frozen=True):
    """A stored message."""

    seq: int
    id: str
    role: str
    content: Content
    author_id: str
    created_at: Time
    metadata: dict[str, Any] = {}
    updated_at: Time | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A role given to a user, or to ``group:<name>``."""

    subject: str
    role: AnyGiven
    expires_at: Time | None = None
    granted_by: str
    granted_at: Time


@hides("title", "metadata", "context")
class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session as far as the caller may see it. Durations are in seconds."""

    id: str
    owner_id: str
    status: AnyStatus
    visibility: AnyVisibility
    access_role: AnyRole
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    created_at: Time
    updated_at: Time
    last_active_at: Time
    expires_at: Time | None = None
    ttl_seconds: int | None = None
    max_lifetime_seconds: int | None = None
    renew_on: AnyRenewOn = "write"
    message_count: int
    last_seq: int
    revision: int
    version: str = ""
    turn_expires_at: Time | None = None
    context: dict[str, Any] | UnsetType = UNSET
    grants: list[Grant] | UnsetType = UNSET
    messages: list[Message] | UnsetType = UNSET


class FieldProblem(msgspec.Struct, frozen=True):
    """One invalid field; ``field`` is a JSON Pointer."""

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
    next_cursor: str | None = None


class MessagePage(msgspec.Struct, frozen=True):
    """One page of messages, ascending."""

    data: list[Message]
    has_more: bool
    last_seq: int


class GrantPage(msgspec.Struct, frozen=True):
    """The grants that the caller may see."""

    data: list[Grant]
    has_more: bool
    next_cursor: str | None = None


class Appended(msgspec.Struct, frozen=True):
    """The messages that an append stored, and the session's counters afterwards."""

    data: list[Message]
    last_seq: int
    revision: int


class Popped(msgspec.Struct, frozen=True):
    """The removed messages, oldest first."""

    data: list[Message]


class Deleted(msgspec.Struct, frozen=True):
    """How many messages were removed."""

    deleted: int


@hides("turn")
class Turn(msgspec.Struct, frozen=True):
    """The turn that the caller holds."""

    turn: str
    expires_at: Time


class Me(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, according to the credential."""

    namespace: str
    user_id: str | None = None
    groups: list[str] = []
    rights: list[str]
    key_id: str | None = None


class Erased(msgspec.Struct, frozen=True):
    """What an erasure removed; call again until complete. ``failed``: ids not removed."""

    sessions: int
    messages: int
    grants: int
    complete: bool
    failed: list[str]


class Statistics(msgspec.Struct, frozen=True):
    """How many sessions the namespace has, and how many of them are past their due time."""

    sessions: int
    due: int


class Health(msgspec.Struct, frozen=True):
    """Whether the service is alive or ready."""

    status: Literal["ok", "unavailable"]


class Empty(Request):
    """No fields."""


@hides("content", "metadata")
class NewMessage(Request):
    """A message to append. Only operators may give ``created_at`` and ``author_id``."""

    role: Name
    content: Content
    id: Id | None = None
    metadata: dict[str, Any] | None = None
    created_at: Instant | None = None
    author_id: Name | None = None


@hides("title", "metadata")
class NewSession(Request):
    """What a session begins with.

    ``ttl_seconds``: omitted means the service's default, null means no expiry.
    """

    title: str | None = None
    tags: list[Name] | UnsetType = UNSET
    metadata: dict[str, Any] = {}
    public: bool = False
    ttl_seconds: Seconds | UnsetType | None = UNSET
    max_lifetime_seconds: Seconds | None = None
    renew_on: RenewOn = "write"


@hides("title", "metadata", "context", "messages")
class CreateSession(Request):
    """A new session. ``ttl_seconds``: omitted means the service's default, null means no expiry."""

    id: Id | None = None
    title: str | None = None
    tags: list[Name] | UnsetType = UNSET
    metadata: dict[str, Any] = {}
    context: Context = {}
    messages: list[NewMessage] = []
    public: bool = False
    ttl_seconds: Seconds | UnsetType | None = UNSET
    max_lifetime_seconds: Seconds | None = None
    renew_on: RenewOn = "write"
    if_exists: IfExists = "error"


@hides("metadata_updates", "context_updates")
class UpdateSession(Request):
    """What to set and remove; a metadata key set to null is removed."""

    metadata_updates: dict[str, Any] = {}
    context_updates: Context = {}
    context_removals: list[Name] = []


@hides("messages", "context_updates", "metadata_updates", "turn")
class AppendMessages(Request):
    """Messages to append in one write, with changes to the context and the metadata.

    ``create`` creates a missing session: true, or what it begins with.
    """

    messages: Annotated[list[NewMessage], Meta(min_length=1)]
    create: bool | NewSession = False
    context_updates: Context = {}
    context_removals: list[Name] = []
    metadata_updates: dict[str, Any] = {}
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("messages", "context_updates", "metadata_updates", "turn")
class ReplaceMessages(Request, kw_only=True):
    """Messages that replace those after a seq, in one write."""

    after_seq: Count
    messages: Annotated[list[NewMessage], Meta(min_length=1)]
    context_updates: Context = {}
    context_removals: list[Name] = []
    metadata_updates: dict[str, Any] = {}
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("turn")
class PopMessages(Request):
    """How many of the last messages to remove."""

    count: Annotated[int, Meta(ge=1, le=1000)] = 1
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("content", "metadata_updates", "turn")
class UpdateMessage(Request):
    """What to change of a message; what is omitted stays."""

    content: Content | UnsetType = UNSET
    metadata_updates: dict[str, Any] = {}
    metadata_removals: list[str] = []
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("turn")
class DeleteMessages(Request):
    """Which messages to delete: exactly one of the first four fields."""

    ids: list[Name] | None = None
    seqs: list[Positive] | None = None
    before_seq: Count | None = None
    keep_last: Count | None = None
    expected_last_seq: Count | None = None
    turn: Name | None = None


class ShareSession(Request):
    """A role to give to a user or group."""

    subject: Name
    role: Given
    expires_at: Instant | None = None


class RevokeAccess(Request):
    """Whose grant to revoke."""

    subject: Name


class SetVisibility(Request):
    """Who may see the session."""

    visibility: Visibility


class TransferOwnership(Request):
    """The new owner, and the role that the old one keeps."""

    owner_id: Name
    keep_role: Given | None = None


class RenewSession(Request):
    """The new idle time; if omitted, it does not change."""

    ttl_seconds: Seconds | UnsetType | None = UNSET


@hides("title", "metadata")
class ForkSession(Request):
    """The fields of the copy that differ from the original."""

    id: Id | None = None
    up_to_seq: Count | None = None
    title: str | None = None
    metadata: dict[str, Any] = {}
    ttl_seconds: Seconds | UnsetType | None = UNSET


@hides("turn")
class RewindSession(Request):
    """The last message to keep."""

    to_seq: Count
    expected_last_seq: Count | None = None
    turn: Name | None = None


@hides("turn")
class TakeTurn(Request):
    """The token of the turn, 128 random bits of the caller's, and the length of its lease."""

    turn: Name | None = None
    lease_seconds: Lease = 30


class RenewTurn(Request):
    """The new length of the lease."""

    lease_seconds: Lease = 30


class EraseUser(Request):
    """Which user to erase."""

    user_id: Name
