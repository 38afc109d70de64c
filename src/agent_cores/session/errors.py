"""Every error that this package raises.

    SessionError
    ├── InvalidInputError (ValueError)        a value breaks a bound; nothing was written
    ├── SessionNotFoundError (LookupError)    no such session, or none that the caller may read
    │   └── SessionExpiredError               it has ended; only its owner is told so
    ├── MessageNotFoundError (LookupError)    the session holds no such message
    ├── AccessDeniedError (PermissionError)   readable, but this is not allowed to the caller
    ├── UnauthenticatedError                  a service does not know the caller
    ├── QuotaExceededError                    the store or a user is full
    ├── SessionExistsError                    that id is taken
    ├── ConflictError                         another write was first
    │   ├── RevisionMismatchError             the expected revision or version no longer stands
    │   ├── LastSeqMismatchError              expected_last_seq no longer stands
    │   └── StaleHeaderError                  storage to manager: look again, decide again
    │       └── ReplacementError              storage to manager: an ended session has that id
    ├── SessionArchivedError                  archived sessions refuse writes
    ├── TurnHeldError                         another worker holds the turn
    ├── TurnLostError                         the named turn is no longer held
    ├── SessionMovedError                     being built or moved; try again
    ├── CorruptRecordError                    a stored record cannot be read
    ├── UnsupportedError                      this store or release cannot do that
    ├── OverloadedError                       too much is waiting; try again later
    ├── GroupsUnavailableError                groups_of did not answer in time; nothing was decided
    ├── ConfigurationError (ValueError)       a setting or an argument of a setting is wrong
    │   └── UnknownStorageError               no provider has that name or URL scheme
    ├── MissingDependencyError (ImportError)  a driver is not installed
    ├── WrongContextError (RuntimeError)      used from another event loop or a forked process
    └── StorageError
        ├── StorageUnavailableError           the store did not answer
        └── StoreFormatError                  damaged, or of a schema this program does not know

Each class has a stable ``code`` for programs to compare. Messages name the field, the kind of value
and the bound; they never carry message text, context values, tokens or passwords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from datetime import datetime


class SessionError(Exception):
    """Base of every error of this package."""

    code: ClassVar[str] = "internal"


class InvalidInputError(SessionError, ValueError):
    """An argument breaks a bound. Nothing was written.

    ``field`` names the argument, as a path (``messages/2/content``).
    """

    code = "invalid_input"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class SessionNotFoundError(SessionError, LookupError):
    """There is no such session, or none that the caller may read: the two are one answer."""

    code = "session_not_found"

    def __init__(self, message: str = "session not found") -> None:
        super().__init__(message)


class SessionExpiredError(SessionNotFoundError):
    """The session has reached its end. Only its owner is told; all others get "not found"."""

    code = "session_expired"

    def __init__(self) -> None:
        super().__init__("session has expired")


class MessageNotFoundError(SessionError, LookupError):
    """The session holds no message with that seq."""

    code = "message_not_found"

    def __init__(self, seq: int) -> None:
        super().__init__(f"no message with seq {seq}")
        self.seq = seq


class AccessDeniedError(SessionError, PermissionError):
    """The caller may read the session, but not do this with it."""

    code = "access_denied"


class UnauthenticatedError(SessionError):
    """The service does not know the caller: the key or token is wrong, expired or revoked."""

    code = "unauthenticated"


class QuotaExceededError(SessionError):
    """The store or a user holds as much as its setting allows."""

    code = "quota_exceeded"


class SessionExistsError(SessionError):
    """A session with that id exists already."""

    code = "session_exists"

    def __init__(self) -> None:
        super().__init__("a session with this id exists already")


class ConflictError(SessionError):
    """Another write was first, or a message id is known with other content."""

    code = "conflict"


class RevisionMismatchError(ConflictError):
    """``expected_revision`` is not the session's revision, or ``expected_version`` another's.

    The two numbers are equal where the version is that of another session, which had the id before.
    """

    code = "revision_mismatch"

    def __init__(self, expected: int, actual: int) -> None:
        seen = f"expected revision {expected}"
        if expected == actual:
            seen += " of another session with this id"
        super().__init__(f"{seen}, the session is at {actual}")
        self.expected = expected
        self.actual = actual


class LastSeqMismatchError(ConflictError):
    """``expected_last_seq`` is not the session's last seq."""

    code = "last_seq_mismatch"

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected last seq {expected}, the session is at {actual}")
        self.expected = expected
        self.actual = actual


class StaleHeaderError(ConflictError):
    """What a change was decided on no longer stands. The manager looks and decides again.

    Raised by ``apply_change`` when ``incarnation`` or ``access_revision`` differ, and by a provider
    whose write another process overtook. It reaches a caller of the manager only as a
    :class:`ConflictError` after ``SESSION_TIMEOUT``.
    """

    def __init__(self) -> None:
        super().__init__("the session changed between reading and writing")


class ReplacementError(StaleHeaderError):
    """A create met a session that has ended, and may not replace it before the time is confirmed.

    Raised by ``apply_change`` where ``replaces`` is not set; it does not reach a caller of the
    manager.
    """


class SessionArchivedError(SessionError):
    """The session is archived and refuses writes. Unarchive it first."""

    code = "session_archived"

    def __init__(self) -> None:
        super().__init__("session is archived")


class TurnHeldError(SessionError):
    """Another worker holds the turn, until ``expires_at`` at the latest."""

    code = "turn_held"

    def __init__(self, expires_at: datetime) -> None:
        super().__init__(f"the turn is held until {expires_at.isoformat()}")
        self.expires_at = expires_at


class TurnLostError(SessionError):
    """The named turn is not the one that is held. Stop answering in this conversation."""

    code = "turn_lost"

    def __init__(self) -> None:
        super().__init__("this turn is no longer held")


class SessionMovedError(SessionError):
    """The session is being built, frozen or has moved. Worth trying again."""

    code = "session_moved"

    def __init__(self) -> None:
        super().__init__("session is being moved or built, try again")


class CorruptRecordError(SessionError):
    """A stored record cannot be read. ``session_id`` names the session."""

    code = "corrupt_record"

    def __init__(self, namespace: str, session_id: str, problem: str) -> None:
        super().__init__(f"session {session_id!r} of namespace {namespace!r}: {problem}")
        self.namespace = namespace
        self.session_id = session_id


class UnsupportedError(SessionError):
    """This store or this release cannot do that."""

    code = "unsupported"


class OverloadedError(SessionError):
    """Too many writes wait already. Nothing of this one was written."""

    code = "overloaded"


class GroupsUnavailableError(SessionError):
    """``groups_of`` did not answer within ``SESSION_TIMEOUT``. Nothing was decided or written."""

    code = "groups_unavailable"

    def __init__(self) -> None:
        super().__init__("groups_of did not answer within SESSION_TIMEOUT")


class ConfigurationError(SessionError, ValueError):
    """A setting, or an argument that configures, is wrong."""


class UnknownStorageError(ConfigurationError):
    """No storage provider is known by that name or URL scheme."""


class MissingDependencyError(SessionError, ImportError):
    """A driver is not installed. The message holds the pip command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed; run: pip install 'agent-cores-session[{extra}]'"
        )


class WrongContextError(SessionError, RuntimeError):
    """Used from an event loop or a process other than the one it was initialized in."""


class StorageError(SessionError):
    """Base of what goes wrong in or with a store."""


class StorageUnavailableError(StorageError):
    """The store did not answer, or could not.

    ``outcome_unknown`` is true if a write may have been carried out all the same: read before you
    repeat it. Creates, deletes, turns and appends were repeated by the manager already, an append
    only where no message can have been removed since.
    """

    code = "storage_unavailable"

    def __init__(self, message: str, *, outcome_unknown: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown


class StoreFormatError(StorageError):
    """The store is damaged, not one of ours, or newer than this program. It was left untouched."""
