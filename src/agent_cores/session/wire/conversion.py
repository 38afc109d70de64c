"""Convert between the library's types and the shapes of requests and responses.

An unknown enum value, from a later version, is read as the most cautious known one.
"""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from msgspec import UNSET

from agent_cores.session.models import (
    AccessRole,
    Grant,
    Message,
    RenewOn,
    Session,
    SessionMetadata,
    Turn,
    Visibility,
)
from agent_cores.session.models.version import NOTHING, read_version
from agent_cores.session.wire import shapes

E = TypeVar("E", bound=StrEnum)


def wire_time(at: datetime) -> str:
    """Return an aware time as RFC 3339, UTC, with milliseconds."""
    return at.isoformat(timespec="milliseconds")[:23] + "Z"


def whole_seconds(seconds: float | None) -> int | None:
    """Return a duration in whole seconds, rounded up."""
    return None if seconds is None else math.ceil(seconds)


def message_shape(message: Message) -> shapes.Message:
    """Return the shape of a message."""
    return shapes.Message(
        message.seq,
        message.id,
        message.role,
        message.content,
        message.author_id,
        wire_time(message.created_at),
        message.metadata,
        None if message.updated_at is None else wire_time(message.updated_at),
    )


def grant_shape(grant: Grant) -> shapes.Grant:
    """Return the shape of a grant."""
    return shapes.Grant(
        subject=grant.subject,
        role=grant.role.value,
        expires_at=None if grant.expires_at is None else wire_time(grant.expires_at),
        granted_by=grant.granted_by,
        granted_at=wire_time(grant.granted_at),
    )


def session_shape(session: Session) -> shapes.Session:
    """Return the shape of a session."""
    header = session.metadata
    return shapes.Session(
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


def time_of(text: str) -> datetime:
    """Return the time in an RFC 3339 text; ``ValueError`` for other text."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at


def message_of(shape: shapes.Message) -> Message:
    """Return the message that a shape describes."""
    return Message(
        seq=shape.seq,
        id=shape.id,
        role=shape.role,
        content=shape.content,
        author_id=shape.author_id,
        created_at=time_of(shape.created_at),
        metadata=shape.metadata,
        updated_at=_optional_time(shape.updated_at),
    )


def grant_of(shape: shapes.Grant) -> Grant:
    """Return the grant that a shape describes."""
    return Grant(
        subject=shape.subject,
        role=_known(AccessRole, shape.role, AccessRole.VIEWER),
        granted_by=shape.granted_by,
        granted_at=time_of(shape.granted_at),
        expires_at=_optional_time(shape.expires_at),
    )


def turn_of(shape: shapes.Turn) -> Turn:
    """Return the turn that a shape describes."""
    return Turn(shape.turn, time_of(shape.expires_at))


def session_of(shape: shapes.Session, namespace: str) -> Session:
    """Return the session that a shape describes; shapes do not contain the namespace."""
    messages = shape.messages
    return Session(
        metadata=_header_of(shape, namespace),
        context=None if shape.context is UNSET else shape.context,
        messages=None if messages is UNSET else [message_of(message) for message in messages],
        access_role=_known(AccessRole, shape.access_role, AccessRole.VIEWER),
        visibility=_known(Visibility, shape.visibility, Visibility.PRIVATE),
    )


def _header_of(shape: shapes.Session, namespace: str) -> SessionMetadata:
    turn_end = _optional_time(shape.turn_expires_at)
    grants = [] if shape.grants is UNSET else shape.grants
    return SessionMetadata(
        namespace=namespace,
        session_id=shape.id,
        incarnation=(read_version(shape.version) or NOTHING).incarnation or 0,
        owner_id=shape.owner_id,
        created_at=time_of(shape.created_at),
        updated_at=time_of(shape.updated_at),
        last_active_at=time_of(shape.last_active_at),
        title=shape.title,
        tags=shape.tags,
        attributes=shape.metadata,
        archived=shape.status == "archived",
        public=shape.visibility == Visibility.PUBLIC,
        grants={grant.subject: grant_of(grant) for grant in grants},
        expires_at=_optional_time(shape.expires_at),
        ttl_seconds=shape.ttl_seconds,
        max_lifetime_seconds=shape.max_lifetime_seconds,
        renew_on=_known(RenewOn, shape.renew_on, RenewOn.WRITE),
        last_seq=shape.last_seq,
        message_count=shape.message_count,
        revision=shape.revision,
        turn=None if turn_end is None else Turn(None, turn_end),
    )


def _optional_time(text: str | None) -> datetime | None:
    return None if text is None else time_of(text)


def _known(kind: type[E], value: str, otherwise: E) -> E:
    try:
        return kind(value)
    except ValueError:
        return otherwise
