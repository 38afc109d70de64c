"""The session and its header: what they hold, not what happens to them.

``SessionMetadata`` is the header of a session, one frozen struct that every rule reads.
``Session`` is the header with the context and a window of messages. What was not asked for is
``None``, never empty.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agent_cores.session.models.message import Message
from agent_cores.session.models.representation import hides, in_full
from agent_cores.session.models.version import version_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

DEFAULT_NAMESPACE = "default"
"""The namespace of a manager that is given none."""
GROUP_PREFIX = "group:"


class SessionStatus(StrEnum):
    """``expired`` holds from the instant ``expires_at``, swept or not."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    EXPIRED = "expired"


class Visibility(StrEnum):
    """Derived: ``public`` by the flag, else ``shared`` by a live grant, else ``private``."""

    PRIVATE = "private"
    SHARED = "shared"
    PUBLIC = "public"


class AccessRole(StrEnum):
    """What a user may do in a session; each role may do all that the one before it may."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        """1 viewer, 2 editor, 3 owner."""
        return _RANKS[self]


_RANKS = {AccessRole.VIEWER: 1, AccessRole.EDITOR: 2, AccessRole.OWNER: 3}


class RenewOn(StrEnum):
    """What restarts the idle time: writes; writes and reads by editors and the owner; nothing."""

    WRITE = "write"
    ACCESS = "access"
    NEVER = "never"


class Hold(StrEnum):
    """Why a session refuses ordinary writes: it is being built, being moved, or has moved.

    Forks and imports use ``opening``. No verb sets ``frozen`` or ``moved`` yet: they are for moving
    sessions between stores, and every provider honours them already.
    """

    OPENING = "opening"
    FROZEN = "frozen"
    MOVED = "moved"


class Grant(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A role given to a subject: a user id, or ``group:<name>``. It ends at ``expires_at``."""

    subject: str
    role: AccessRole
    granted_by: str
    granted_at: datetime
    expires_at: datetime | None = None

    def is_live(self, at: datetime) -> bool:
        """Whether the grant still holds at that instant."""
        return self.expires_at is None or at < self.expires_at


class Subjects(tuple[str, ...]):  # noqa: SLOT001 - a tuple takes no slots
    """Many subjects, with their set built once: a listing needs it for every header."""

    known: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> Subjects:
        """Return subjects in their order."""
        subjects = cls(names)
        subjects.known = frozenset(subjects)
        return subjects


def grants_to(grants: Mapping[str, Grant], subjects: tuple[str, ...]) -> list[Grant]:
    """Return the grants to any of the subjects; for ``Subjects`` this costs the fewer of both."""
    if isinstance(subjects, Subjects) and len(grants) < len(subjects):
        wanted = subjects.known
        return [grant for subject, grant in grants.items() if subject in wanted]
    return [grants[subject] for subject in subjects if subject in grants]


@hides("token")
class Turn(msgspec.Struct, frozen=True, gc=False):
    """The lease of the one worker that answers. Only its holder sees the ``token``."""

    token: str | None
    expires_at: datetime


@hides("title", "attributes")
class SessionMetadata(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The header of a session.

    ``attributes`` are the caller's own metadata keys; ``metadata["key"]`` reads them, ``title`` and
    ``tags`` alike. Times are aware UTC, to the millisecond. ``grants`` maps a subject to its grant.
    The fields below ``turn`` are for storage providers and ``None`` in what the manager hands out.
    """

    namespace: str
    session_id: str
    incarnation: int
    owner_id: str
    created_at: datetime
    updated_at: datetime
    last_active_at: datetime
    title: str | None = None
    tags: tuple[str, ...] = ()
    attributes: dict[str, Any] = {}
    archived: bool = False
    public: bool = False
    grants: dict[str, Grant] = {}
    expires_at: datetime | None = None
    ttl_seconds: float | None = None
    max_lifetime_seconds: float | None = None
    renew_on: RenewOn = RenewOn.WRITE
    last_seq: int = 0
    message_count: int = 0
    revision: int = 1
    turn: Turn | None = None
    access_revision: int | None = None
    hold: Hold | None = None
    context_bytes: int | None = None
    request_digest: str | None = None
    listed_at: datetime | None = None
    due_at: datetime | None = None

    @property
    def version(self) -> str:
        """One state of this session, for ``expected_version=``. Opaque: do not parse it.

        It names ``incarnation``, ``revision`` and ``last_seq``.
        """
        return version_text(self.incarnation, self.revision, self.last_seq)

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401 - the caller's own JSON value
        """Read ``title``, ``tags`` or a key of ``attributes``; ``KeyError`` if it is not there."""
        if key == "title" and self.title is not None:
            return self.title
        if key == "tags" and self.tags:
            return list(self.tags)
        return self.attributes[key]

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401 - as above
        """Like ``[]``, with ``default`` for a key that is not there."""
        try:
            return self[key]
        except KeyError:
            return default

    def is_expired(self, at: datetime) -> bool:
        """Whether the session has expired at that instant."""
        return self.expires_at is not None and at >= self.expires_at

    def status_at(self, at: datetime) -> SessionStatus:
        """The status at that instant."""
        if self.is_expired(at):
            return SessionStatus.EXPIRED
        return SessionStatus.ARCHIVED if self.archived else SessionStatus.ACTIVE

    def visibility_at(self, at: datetime) -> Visibility:
        """Who may see the session at that instant, by flag and live grants."""
        if self.public:
            return Visibility.PUBLIC
        live = any(grant.is_live(at) for grant in self.grants.values())
        return Visibility.SHARED if live else Visibility.PRIVATE


@hides("context")
class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session, as it was read or written.

    ``context`` and ``messages`` are ``None`` if they were not asked for. ``access_role`` is the
    caller's role, set by the manager.
    """

    metadata: SessionMetadata
    context: dict[str, Any] | None = None
    messages: list[Message] | None = None
    access_role: AccessRole | None = None
    visibility: Visibility | None = None

    @property
    def id(self) -> str:
        """The session's id."""
        return self.metadata.session_id

    @property
    def owner_id(self) -> str:
        """The user who owns the session."""
        return self.metadata.owner_id

    @property
    def version(self) -> str:
        """The version of the session, for ``expected_version=``. Opaque: do not parse it."""
        return self.metadata.version

    @property
    def status(self) -> SessionStatus:
        """The status now, by this machine's clock."""
        return self.metadata.status_at(datetime.now(UTC))


class Page(list[T]):
    """One page of sessions or messages: a list that knows whether more follow.

    ``next_cursor`` continues a listing of sessions. Continue a page of messages with
    ``before_seq=page[0].seq`` or ``after_seq=page[-1].seq``; ``last_seq`` and ``version`` are the
    session's.

    ``str(page)`` shows messages with their text, for people to read; ``repr(page)`` leaves it out.
    """

    def __init__(
        self,
        items: Iterable[T] = (),
        *,
        has_more: bool = False,
        next_cursor: str | None = None,
        last_seq: int | None = None,
        version: str | None = None,
    ) -> None:
        super().__init__(items)
        self.has_more = has_more
        self.next_cursor = next_cursor
        self.last_seq = last_seq
        self.version = version

    def __str__(self) -> str:
        shown = (in_full(item) if isinstance(item, Message) else repr(item) for item in self)
        return f"[{', '.join(shown)}]"


SYSTEM_KEYS = frozenset(SessionMetadata.__struct_fields__) - {"title", "tags"}


def without(values: Mapping[str, T], keys: Iterable[str]) -> dict[str, T]:
    """Return a copy of a mapping without some of its keys."""
    dropped = set(keys)
    return {key: value for key, value in values.items() if key not in dropped}
