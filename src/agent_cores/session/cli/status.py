"""The exit status of a command: stable, and documented in ``docs/command-line.md``."""

from __future__ import annotations

from enum import IntEnum

from agent_cores.session import errors

INTERRUPTED = 130
"""After Ctrl-C, as shells have it: 128 and the number of the signal."""


class Status(IntEnum):
    """What a script can decide by. A new kind of failure gets a new number."""

    DONE = 0
    FAILED = 1
    WRONG_USE = 2
    NOT_FOUND = 3
    DENIED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    FULL = 7
    FORMAT = 8
    MISSING_PACKAGE = 9


_OF_ERRORS: dict[type[errors.SessionError], Status] = {
    errors.InvalidInputError: Status.WRONG_USE,
    errors.ConfigurationError: Status.WRONG_USE,
    errors.SessionNotFoundError: Status.NOT_FOUND,
    errors.MessageNotFoundError: Status.NOT_FOUND,
    errors.AccessDeniedError: Status.DENIED,
    errors.UnauthenticatedError: Status.DENIED,
    errors.ConflictError: Status.CONFLICT,
    errors.SessionExistsError: Status.CONFLICT,
    errors.SessionArchivedError: Status.CONFLICT,
    errors.TurnHeldError: Status.CONFLICT,
    errors.TurnLostError: Status.CONFLICT,
    errors.SessionMovedError: Status.UNAVAILABLE,
    errors.OverloadedError: Status.UNAVAILABLE,
    errors.GroupsUnavailableError: Status.UNAVAILABLE,
    errors.StorageUnavailableError: Status.UNAVAILABLE,
    errors.QuotaExceededError: Status.FULL,
    errors.StoreFormatError: Status.FORMAT,
    errors.CorruptRecordError: Status.FORMAT,
    errors.MissingDependencyError: Status.MISSING_PACKAGE,
}


def status_of(error: BaseException) -> Status:
    """Return the exit status of an error, that of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in _OF_ERRORS:
            return _OF_ERRORS[kind]
    return Status.FAILED
