"""Errors that a dialect raises so that the core knows what may be retried."""

from __future__ import annotations

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    SessionError,
    StorageUnavailableError,
)


class ClashError(ConflictError):
    """A concurrent transaction conflicted and nothing was written: retry.

    It is a deadlock, a serialization failure or a unique violation.
    """


class DeadlockError(ClashError):
    """The server ended this transaction because it and another one waited for each other."""


class LockedError(ClashError):
    """Another transaction held a lock for longer than this one would wait."""


class ConnectionLostError(StorageUnavailableError):
    """The connection broke; a retry on another one may work, unless ``outcome_unknown`` is set."""


def left_nothing(error: Exception) -> bool:
    """Whether a batch failed before its commit, perhaps because of only one of its changes."""
    if isinstance(error, ConnectionLostError):
        return not error.outcome_unknown
    return isinstance(error, ClashError | InvalidInputError) or not isinstance(error, SessionError)
