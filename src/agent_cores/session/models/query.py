"""The meaning of a listing: which headers belong to it, their order, and how pages continue."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated

import msgspec

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.change import Change
from agent_cores.session.models.expiry import LISTING_LAG
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import Hold, SessionMetadata, SessionStatus, grants_to
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.models.values import UNREADABLE, sorted_json

_LARGEST_SKIP = 2**63 - 1
_LAG_MILLIS = LISTING_LAG // timedelta(milliseconds=1)

WALK_LIMIT = 1_000
"""How many entries beyond those wanted one page of a listing may examine."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """A place in a listing: after the entry with this time and id. It gives no rights.

    ``skip`` is what is left of an offset: how many more entries to pass over from here. It is 0
    unless the page reached ``WALK_LIMIT`` before its offset was used up. ``created``: the time is
    that of creation.
    """

    millis: int
    session_id: str
    shared: bool = False
    skip: Annotated[int, msgspec.Meta(ge=0, le=_LARGEST_SKIP)] = 0
    created: bool = False

    @property
    def at(self) -> datetime:
        """The time of the entry."""
        return from_millis(self.millis)

    def encode(self) -> str:
        """Return the opaque text that callers carry."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read what ``encode`` wrote; ``InvalidInputError`` for anything else."""
        if not isinstance(text, str):
            raise InvalidInputError("cursor", f"must be text, not {type(text).__name__}")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            cursor = _decode_cursor(raw)
            _ = cursor.at
        except UNREADABLE as error:  # base64's own is a ValueError
            raise InvalidInputError(
                "cursor", "is not a cursor that this service returned"
            ) from error
        return cursor


_decode_cursor = msgspec.json.Decoder(Cursor).decode


@hides("attributes")
class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A listing of one namespace, newest first.

    With ``subjects`` it lists what others share with any of them, by the time of sharing;
    otherwise all sessions, or one owner's, by ``listed_at``. ``status=None`` means every stored
    session, expired and unopened ones included. ``namespace=None`` means all namespaces, for direct
    use of a provider. ``by_creation``: all sessions of the namespace, or those with the tags, by
    ``created_at``; the query then names no owner and no subjects. ``attributes`` are values that
    the header's attributes must equal, as ``sorted_json`` writes them; ``null`` stands for a key
    that is not there. ``created_after`` and ``active_after`` are bounds that a session's times
    exceed.
    """

    namespace: str | None
    at: datetime
    owner_id: str | None = None
    subjects: tuple[str, ...] = ()
    status: SessionStatus | None = None
    tags: tuple[str, ...] = ()
    attributes: Mapping[str, bytes] = {}
    created_after: datetime | None = None
    active_after: datetime | None = None
    by_creation: bool = False
    limit: int = 10
    offset: int = 0
    after: Cursor | None = None

    @property
    def skip(self) -> int:
        """How many matching entries to pass over: the offset, or what is left of it."""
        return self.offset if self.after is None else self.offset + self.after.skip

    @property
    def passes_over(self) -> bool:
        """Whether a filter has no index, so that a walk may pass over any number of sessions."""
        return bool(self.attributes or self.created_after or self.active_after)

    @property
    def floor(self) -> int | None:
        """The lowest time of the order, in milliseconds, at which there may be a session."""
        if self.by_creation:
            return None if self.created_after is None else to_millis(self.created_after)
        if self.subjects or self.active_after is None:
            return None
        return to_millis(self.active_after) - _LAG_MILLIS


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """An expired session, leased to one sweeper.

    ``header`` is ``None`` if the store had already erased the session; the sweeper's delete then
    removes what is left of it in the store's indexes.
    """

    namespace: str
    session_id: str
    incarnation: int
    header: SessionMetadata | None = None

    @classmethod
    def of(cls, header: SessionMetadata) -> Ended:
        """Return the session that this header describes."""
        return cls(
            namespace=header.namespace,
            session_id=header.session_id,
            incarnation=header.incarnation,
            header=header,
        )

    def removal(self, at: datetime) -> Change:
        """Return the change that removes exactly this session, if it is still expired."""
        return Change(
            namespace=self.namespace,
            session_id=self.session_id,
            at=at,
            incarnation=self.incarnation,
            expected_hold=None if self.header is None else self.header.hold,
            must_be_expired=True,
            delete=True,
        )


class Found(msgspec.Struct, frozen=True):
    """A page of headers; ``next`` is where the listing continues, or ``None`` at its end.

    A page may be short, even empty, with ``next`` set, because it examines a bounded number of
    entries. ``unreadable`` are the ids of sessions that may belong to this page but whose records
    cannot be read, so that one of them does not hide the others.
    """

    headers: list[SessionMetadata]
    next: Cursor | None = None
    unreadable: tuple[str, ...] = ()


class SessionCount(msgspec.Struct, frozen=True):
    """How many sessions one call has counted.

    ``complete`` is false if there may be more: count on with ``cursor=next_cursor`` and add up.
    """

    sessions: int
    complete: bool
    next_cursor: str | None = None


def shared_at(header: SessionMetadata, query: Query) -> datetime | None:
    """Return when the session was last shared with the query's subjects, by live grants."""
    grants = grants_to(header.grants, query.subjects)
    times = [grant.granted_at for grant in grants if grant.is_live(query.at)]
    return max(times, default=None)


def matches(header: SessionMetadata, query: Query) -> bool:
    """Whether the session belongs to the listing."""
    if query.namespace is not None and header.namespace != query.namespace:
        return False
    if query.owner_id is not None and header.owner_id != query.owner_id:
        return False
    if query.subjects and shared_at(header, query) is None:
        return False
    if query.status is not None:
        if header.hold in {Hold.OPENING, Hold.MOVED}:
            return False
        if header.status_at(query.at) is not query.status:
            return False
    if query.created_after is not None and header.created_at <= query.created_after:
        return False
    if query.active_after is not None and header.last_active_at <= query.active_after:
        return False
    if query.tags and not set(query.tags).issubset(header.tags):
        return False
    return not query.attributes or _has_attributes(header, query.attributes)


def _has_attributes(header: SessionMetadata, wanted: Mapping[str, bytes]) -> bool:
    held = header.attributes
    return all(sorted_json(held.get(key)) == value for key, value in wanted.items())


def order_key(header: SessionMetadata, query: Query) -> tuple[int, str]:
    """Return the place of a session in the listing; the highest comes first."""
    if query.by_creation:
        return to_millis(header.created_at), header.session_id
    when = shared_at(header, query) if query.subjects else header.listed_at
    return to_millis(when or header.last_active_at), header.session_id


def cursor_at(header: SessionMetadata, query: Query) -> Cursor:
    """Return the cursor that continues after this session."""
    millis, session_id = order_key(header, query)
    return Cursor(millis, session_id, shared=bool(query.subjects), created=query.by_creation)
