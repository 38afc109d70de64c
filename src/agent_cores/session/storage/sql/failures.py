"""Errors that every database server can cause, in the words that all dialects use for them."""

from __future__ import annotations

from agent_cores.session.errors import StorageUnavailableError, StoreFormatError
from agent_cores.session.storage.sql.errors import ConnectionLostError, DeadlockError, LockedError

_LONGEST_REASON = 200


def deadlock() -> DeadlockError:
    """Return the error of a transaction that the server ended because of a deadlock."""
    return DeadlockError("the server ended this transaction because of a deadlock")


def locked() -> LockedError:
    """Return the error of a lock that was not granted in time."""
    return LockedError("another transaction holds a lock that this one needs")


def no_tables() -> StoreFormatError:
    """Return the error of a store that was not created."""
    return StoreFormatError("the tables do not exist; run: agent-sessions migrate")


def no_response(store: str, error: Exception, *, may_be_done: bool) -> StorageUnavailableError:
    """Return the error of a server that did not answer; ``may_be_done``: it may have written."""
    detail = f"{store} did not answer ({type(error).__name__})"
    if isinstance(error, TimeoutError):
        return StorageUnavailableError(detail, outcome_unknown=may_be_done)
    return ConnectionLostError(detail, outcome_unknown=may_be_done)


def printable(reason: object) -> str:
    """Return a server's text for an error message: one line, at most 200 characters."""
    return "".join(c if c.isprintable() else " " for c in str(reason))[:_LONGEST_REASON]
