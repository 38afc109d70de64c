"""From the shapes of the wire to the types of the library; fields not known are passed over."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

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
from agent_cores.session.verbs.upkeep import ErasureReceipt

E = TypeVar("E", bound=StrEnum)


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
    turn_expires_at: datetime | None = None
    context: dict[str, Any] | None = None
    grants: list[Grant] = []
    messages: list[Message] | None = None


class _Sessions(msgspec.Struct):
    data: list[_Session]
    has_more: bool
    next_cursor: str | None = None


class _Messages(msgspec.Struct):
    data: list[Message]
    last_seq: int
    has_more: bool = False


class _Turn(msgspec.Struct):
    turn: str
    expires_at: datetime


class Me(msgspec.Struct):
    """Who the service says that the credential is."""

    namespace: str
    rights: list[str]
    user_id: str | None = None


_session = msgspec.json.Decoder(_Session).decode
_sessions = msgspec.json.Decoder(_Sessions).decode
_messages = msgspec.json.Decoder(_Messages).decode
_turn = msgspec.json.Decoder(_Turn).decode
read_me = msgspec.json.Decoder(Me).decode
read_grant = msgspec.json.Decoder(Grant).decode
read_receipt = msgspec.json.Decoder(ErasureReceipt).decode


def read_session(body: bytes, etag: str | None, namespace: str) -> Session:
    """Return a session; its incarnation stands in the ETag."""
    return _session_of(_session(body), namespace, _incarnation(etag))


def read_sessions(body: bytes, namespace: str) -> Page[Session]:
    """Return a page of headers. Their incarnations are 0: a listing does not tell them."""
    page = _sessions(body)
    return Page(
        (_session_of(shape, namespace, 0) for shape in page.data),
        has_more=page.has_more,
        next_cursor=page.next_cursor,
    )


def read_messages(body: bytes) -> Page[Message]:
    """Return messages, with the last seq of their session."""
    page = _messages(body)
    return Page(page.data, has_more=page.has_more, last_seq=page.last_seq)


def read_turn(body: bytes) -> Turn:
    """Return the turn that the caller holds."""
    turn = _turn(body)
    return Turn(turn.turn, turn.expires_at)


def _session_of(shape: _Session, namespace: str, incarnation: int) -> Session:
    end = shape.turn_expires_at
    header = SessionMetadata(
        namespace=namespace,
        session_id=shape.id,
        incarnation=incarnation,
        owner_id=shape.owner_id,
        created_at=shape.created_at,
        updated_at=shape.updated_at,
        last_active_at=shape.last_active_at,
        title=shape.title,
        tags=shape.tags,
        attributes=shape.metadata,
        archived=shape.status == "archived",
        public=shape.visibility == Visibility.PUBLIC,
        grants={grant.subject: grant for grant in shape.grants},
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


def _incarnation(etag: str | None) -> int:
    text = (etag or "").strip('"').partition(".")[0]
    return int(text) if text.isdigit() else 0
