"""From the shapes of the wire to the types of the library.

Fields and values that are not known, of a later version, are passed over. What is no answer of the
service at all raises ``StorageUnavailableError``.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent_cores.session.client.pool import NO_CONTENT
from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.models import (
    AccessRole,
    Grant,
    Message,
    Page,
    RenewOn,
    Session,
    SessionMetadata,
    Turn,
    Visibility,
)
from agent_cores.session.models.representation import hides
from agent_cores.session.models.version import NOTHING, read_version

if TYPE_CHECKING:
    from agent_cores.session.client.pool import Reply

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")


class _Grant(msgspec.Struct, kw_only=True):
    subject: str
    role: str
    granted_by: str
    granted_at: datetime
    expires_at: datetime | None = None


@hides("title", "metadata", "context")
class _Session(msgspec.Struct, kw_only=True):
    id: str
    owner_id: str
    status: str
    visibility: str
    access_role: str
    title: str | None = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    created_at: datetime
    updated_at: datetime
    last_active_at: datetime
    expires_at: datetime | None = None
    ttl_seconds: float | None = None
    max_lifetime_seconds: float | None = None
    renew_on: str = "write"
    message_count: int
    last_seq: int
    revision: int
    version: str = ""
    turn_expires_at: datetime | None = None
    context: dict[str, Any] | None = None
    grants: list[_Grant] = []
    messages: list[Message] | None = None


class _Sessions(msgspec.Struct):
    data: list[_Session]
    has_more: bool
    next_cursor: str | None = None


class _Messages(msgspec.Struct):
    data: list[Message]
    last_seq: int
    has_more: bool = False


class _Popped(msgspec.Struct):
    data: list[Message]


@hides("turn")
class _Turn(msgspec.Struct):
    turn: str
    expires_at: datetime


class Me(msgspec.Struct):
    """Who the service says that the credential is."""

    namespace: str
    rights: list[str]
    user_id: str | None = None


class Statistics(msgspec.Struct):
    """How many sessions there are."""

    sessions: int
    due: int


def read(reply: Reply, kind: type[T]) -> T:
    """Return the body as a shape; one that is not of the service may stand for anything."""
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _not_ours(reply) from error


def read_nothing(reply: Reply) -> None:
    """Check that the answer is the one without a body."""
    if reply.status != NO_CONTENT:
        raise _not_ours(reply)


def read_grant(reply: Reply) -> Grant:
    """Return a grant."""
    return _grant_of(read(reply, _Grant))


def read_session(reply: Reply, namespace: str) -> Session:
    """Return a session; a service that does not tell its version yet tells it in the ETag."""
    shape = read(reply, _Session)
    shape.version = shape.version or (reply.headers.get("etag") or "").strip('"')
    return _session_of(shape, namespace)


def read_sessions(reply: Reply, namespace: str) -> Page[Session]:
    """Return a page of headers."""
    page = read(reply, _Sessions)
    return Page(
        (_session_of(shape, namespace) for shape in page.data),
        has_more=page.has_more,
        next_cursor=page.next_cursor,
    )


def read_messages(reply: Reply) -> Page[Message]:
    """Return messages, with the last seq of their session."""
    page = read(reply, _Messages)
    version = (reply.headers.get("etag") or "").strip('"') or None
    return Page(page.data, has_more=page.has_more, last_seq=page.last_seq, version=version)


def read_popped(reply: Reply) -> list[Message]:
    """Return messages that were removed."""
    return read(reply, _Popped).data


def read_turn(reply: Reply) -> Turn:
    """Return the turn that the caller holds."""
    turn = read(reply, _Turn)
    return Turn(turn.turn, turn.expires_at)


def _not_ours(reply: Reply) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"what answered {reply.status} is not the session service; check base_url and proxies",
        outcome_unknown=reply.method != "GET",
    )


def _grant_of(shape: _Grant) -> Grant:
    return Grant(
        subject=shape.subject,
        role=_known(AccessRole, shape.role, AccessRole.VIEWER),
        granted_by=shape.granted_by,
        granted_at=shape.granted_at,
        expires_at=shape.expires_at,
    )


def _session_of(shape: _Session, namespace: str) -> Session:
    end = shape.turn_expires_at
    header = SessionMetadata(
        namespace=namespace,
        session_id=shape.id,
        incarnation=(read_version(shape.version) or NOTHING).incarnation or 0,
        owner_id=shape.owner_id,
        created_at=shape.created_at,
        updated_at=shape.updated_at,
        last_active_at=shape.last_active_at,
        title=shape.title,
        tags=shape.tags,
        attributes=shape.metadata,
        archived=shape.status == "archived",
        public=shape.visibility == Visibility.PUBLIC,
        grants={grant.subject: _grant_of(grant) for grant in shape.grants},
        expires_at=shape.expires_at,
        ttl_seconds=shape.ttl_seconds,
        max_lifetime_seconds=shape.max_lifetime_seconds,
        renew_on=_known(RenewOn, shape.renew_on, RenewOn.WRITE),
        last_seq=shape.last_seq,
        message_count=shape.message_count,
        revision=shape.revision,
        turn=None if end is None else Turn(None, end),
    )
    return Session(
        metadata=header,
        context=shape.context,
        messages=shape.messages,
        access_role=_known(AccessRole, shape.access_role, AccessRole.VIEWER),
        visibility=_known(Visibility, shape.visibility, Visibility.PRIVATE),
    )


def _known(kind: type[E], value: str, otherwise: E) -> E:
    """Return the member of an enum; a value of a later version is read as the most cautious one."""
    try:
        return kind(value)
    except ValueError:
        return otherwise
