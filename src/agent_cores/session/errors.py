"""Every error that this package raises.

    SessionError                              internal
    ├── InvalidInputError (ValueError)        invalid_input: a value breaks a bound
    ├── SessionNotFoundError (LookupError)    session_not_found: none that the caller may read
    │   └── SessionExpiredError               session_expired: raised to its owner only
    ├── MessageNotFoundError (LookupError)    message_not_found
    ├── AccessDeniedError (PermissionError)   access_denied: readable, but this is not allowed
    ├── UnauthenticatedError                  unauthenticated: a service does not know the caller
    ├── QuotaExceededError                    quota_exceeded: the store or a user is full
    ├── SessionExistsError                    session_exists: the id is taken
    ├── ConflictError                         conflict: another write came first
    │   ├── RevisionMismatchError             revision_mismatch
    │   ├── LastSeqMismatchError              last_seq_mismatch
    │   └── StaleHeaderError                  conflict: storage to manager, which decides again
    │       └── ReplacementError              conflict: storage to manager, which confirms the time
    ├── SessionArchivedError                  session_archived: archived sessions refuse writes
    ├── TurnHeldError                         turn_held: another worker holds the turn
    ├── TurnLostError                         turn_lost: the named turn is no longer held
    ├── SessionMovedError                     session_moved: being built or moved; retry
    ├── CorruptRecordError                    corrupt_record: a stored record cannot be read
    ├── UnsupportedError                      unsupported: by this store or this release
    ├── OverloadedError                       overloaded: too many writes are waiting; retry
    ├── GroupsUnavailableError                groups_unavailable: groups_of did not respond
    ├── ConfigurationError (ValueError)       invalid_configuration: a setting is wrong
    │   └── UnknownStorageError               unknown_storage: no provider has that name or scheme
    ├── MissingDependencyError (ImportError)  missing_dependency: a driver is not installed
    ├── WrongContextError (RuntimeError)      wrong_context: another event loop, or a forked process
    └── StorageError                          storage_error
        ├── StorageUnavailableError           storage_unavailable: the store did not respond
        └── StoreFormatError                  store_format: damaged, or of an unknown schema

Each class that reaches a caller has a stable ``code`` of its own, for programs to compare, and the
``http_status`` with which a web application reports it. The docstring ends with the cure; nothing
was written unless it says otherwise. Messages name the field, the kind of value and the bound; they
never hold message text, context values, tokens or passwords.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from datetime import datetime


class SessionError(Exception):
    """A fault of this package, and the base of all its errors.

    Cure: find the request id in the log, which has where the error was raised, and report it.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500


class InvalidInputError(SessionError, ValueError):
    """An argument breaks a bound. Nothing was written.

    ``field`` names the argument, as a path (``messages/2/content``); ``problem`` says what is wrong
    with it.

    Cure: correct the field; bounds are settings, ``SESSION_MAX_…``.
    """

    code = "invalid_input"
    http_status = 422

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class SessionNotFoundError(SessionError, LookupError):
    """There is no such session, or none that the caller may read: the error does not tell which.

    Cure: check the id, the namespace, and who shares the session with whom.
    """

    code = "session_not_found"
    http_status = 404

    def __init__(self, message: str = "session not found") -> None:
        super().__init__(message)


class SessionExpiredError(SessionNotFoundError):
    """The session has expired. Only its owner gets this; all others get "not found".

    Cure: create another; ``ttl_hours`` or ``SESSION_DEFAULT_EXPIRY`` keep sessions longer.
    """

    code = "session_expired"
    http_status = 410

    def __init__(self) -> None:
        super().__init__("session has expired")


class MessageNotFoundError(SessionError, LookupError):
    """The session holds no message with that seq.

    Cure: read the messages again; it may have been removed.
    """

    code = "message_not_found"
    http_status = 404

    def __init__(self, seq: int) -> None:
        super().__init__(f"the session holds no message with seq {seq}")
        self.seq = seq


class AccessDeniedError(SessionError, PermissionError):
    """The caller may read the session, but not do this with it.

    Cure: let the owner grant the role, or use a key with the right, that it names.
    """

    code = "access_denied"
    http_status = 403


class UnauthenticatedError(SessionError):
    """The service does not know the caller: the key or token is wrong, expired or revoked.

    Cure: ``agent-sessions keys list``; of a token, compare issuer, audience and clock.
    """

    code = "unauthenticated"
    http_status = 401


class QuotaExceededError(SessionError):
    """The store, or a user, holds as much as the setting allows.

    Cure: give the store memory or disk, or let sessions expire earlier.
    """

    code = "quota_exceeded"
    http_status = 403


class SessionExistsError(SessionError):
    """A session with that id exists already.

    Cure: choose another id, or continue that one: ``open_session()``.
    """

    code = "session_exists"
    http_status = 409

    def __init__(
        self, message: str = "a session with this id already exists; choose another id"
    ) -> None:
        super().__init__(message)


class ConflictError(SessionError):
    """Another write came first, or a message id is stored with other content.

    Cure: read the session and decide again; other content needs another message id.
    """

    code = "conflict"
    http_status = 409


class RevisionMismatchError(ConflictError):
    """The session is not at ``expected_revision``, or not in the state of ``expected_version``.

    ``expected`` and ``actual`` are revisions. They are equal if the version is that of another
    session, which had the id before.

    Cure: read the session again, and make the change to what it is now.
    """

    code = "revision_mismatch"
    http_status = 412

    def __init__(self, expected: int, actual: int) -> None:
        wanted = f"expected revision {expected}"
        if expected == actual:
            wanted += " of another session with this id"
        super().__init__(f"{wanted}, the session is at {actual}; read it again")
        self.expected = expected
        self.actual = actual


class LastSeqMismatchError(ConflictError):
    """``expected_last_seq`` is not the session's last seq.

    Cure: read the new messages, and decide again.
    """

    code = "last_seq_mismatch"
    http_status = 409

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(f"expected last seq {expected}, the session is at {actual}; read it again")
        self.expected = expected
        self.actual = actual


class StaleHeaderError(ConflictError):
    """The header on which a change was decided is stale. The manager reads and decides again.

    Raised by ``apply_change`` if ``incarnation`` or ``access_revision`` differ, and by a provider
    whose write was overtaken by another process. A caller of the manager gets it, as a
    :class:`ConflictError`, only if this goes on until ``SESSION_TIMEOUT``.
    """

    def __init__(self) -> None:
        super().__init__("the session changed between reading and writing")


class ReplacementError(StaleHeaderError):
    """A create met an expired session, and may not replace it before the time is confirmed.

    Raised by ``apply_change`` if ``replaces`` is not set. It never reaches a caller of the manager.
    """


class SessionArchivedError(SessionError):
    """The session is archived and refuses writes until it is unarchived.

    Cure: unarchive the session, or continue in another.
    """

    code = "session_archived"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("the session is archived and read-only; unarchive it first")


class TurnHeldError(SessionError):
    """Another worker holds the turn, until ``expires_at`` unless it renews it.

    Cure: leave the answer to that worker, or try again at ``expires_at``.
    """

    code = "turn_held"
    http_status = 409

    def __init__(self, expires_at: datetime) -> None:
        super().__init__(f"another worker holds the turn until {expires_at.isoformat()}")
        self.expires_at = expires_at


class TurnLostError(SessionError):
    """The named turn is no longer held. Stop answering in this conversation.

    Cure: discard the answer; take the turn again to go on.
    """

    code = "turn_lost"
    http_status = 409

    def __init__(self) -> None:
        super().__init__("this turn is no longer held; take a new one to go on")


class SessionMovedError(SessionError):
    """The session is being built or moved, or has moved.

    Cure: retry after a second; a fork or an import is being written.
    """

    code = "session_moved"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("the session is being built or moved; try again later")


class CorruptRecordError(SessionError):
    """A stored record cannot be read. ``session_id`` names the session.

    Cure: delete it, and import it from a backup: docs/backup.md says how. All others work.
    """

    code = "corrupt_record"

    def __init__(self, namespace: str, session_id: str, problem: str) -> None:
        super().__init__(f"session {session_id!r} of namespace {namespace!r}: {problem}")
        self.namespace = namespace
        self.session_id = session_id


class UnsupportedError(SessionError):
    """This store, or this release, cannot do that.

    Cure: use another store, or a newer release; the message says what is missing.
    """

    code = "unsupported"
    http_status = 501


class OverloadedError(SessionError):
    """Too many writes or requests are waiting. Nothing of this one was written.

    Cure: retry later. The store is slower than its callers
    (``agent_sessions_storage_seconds``): add capacity, or limit callers by
    ``SESSION_SERVICE_REQUESTS_PER_SECOND``.
    """

    code = "overloaded"
    http_status = 503


class GroupsUnavailableError(SessionError):
    """``groups_of`` did not respond within ``SESSION_TIMEOUT``. Nothing was written.

    Cure: look at what your ``groups_of`` asks; callers may retry.
    """

    code = "groups_unavailable"
    http_status = 503

    def __init__(self) -> None:
        super().__init__("groups_of did not respond within SESSION_TIMEOUT")


class ConfigurationError(SessionError, ValueError):
    """A setting, or an argument that configures, is wrong. The message names it.

    Cure: correct it; ``agent-sessions doctor`` lists every setting with its source.
    """

    code = "invalid_configuration"


class UnknownStorageError(ConfigurationError):
    """No storage provider is registered under that name or URL scheme.

    Cure: correct the name or URL, or register the provider with ``StorageFactory``.
    """

    code = "unknown_storage"


class MissingDependencyError(SessionError, ImportError):
    """A driver is not installed. The message holds the pip command that installs it.

    Cure: run the command in the message.
    """

    code = "missing_dependency"

    def __init__(self, package: str, extra: str) -> None:
        are = "are" if " and " in package else "is"
        super().__init__(
            f"{package} {are} not installed; run: pip install 'agent-cores-session[{extra}]'"
        )


class WrongContextError(SessionError, RuntimeError):
    """Used in another event loop or process than the one in which it was initialized.

    Cure: make a manager in each event loop and process, or one with ``any_loop=True``.
    """

    code = "wrong_context"


class StorageError(SessionError):
    """Something else went wrong in the store, and the base of its errors.

    Cure: the message says what the store refused.
    """

    code = "storage_error"


class StorageUnavailableError(StorageError):
    """The store did not respond, or could not.

    ``outcome_unknown`` is true if a write may have been applied all the same: read the session
    before you repeat it. The manager has already retried creates, deletes, turns and appends, an
    append only if no message can have been removed since.

    ``why`` is ``unwritable`` if the store refuses every write, such as a replica or a file that is
    read-only, ``replaced`` if another store is in its place, and ``None`` for all else.

    Cure: look at the store; run ``agent-sessions doctor``. Callers may retry.
    """

    code = "storage_unavailable"
    http_status = 503

    def __init__(
        self,
        message: str,
        *,
        outcome_unknown: bool = False,
        why: Literal["unwritable", "replaced"] | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
        self.why = why


class StoreFormatError(StorageError):
    """The store is damaged, lacks a table, is not one of ours, or is newer than this program.

    It was left untouched.

    Cure: run ``agent-sessions doctor``, which says what is wrong: migrate an older store
    (``agent-sessions migrate``), restore a damaged one, upgrade for a newer one.
    """

    code = "store_format"
    http_status = 503
