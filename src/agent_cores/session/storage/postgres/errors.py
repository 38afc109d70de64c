"""Translate asyncpg's errors; no other module does, and none of them reaches a caller."""

from __future__ import annotations

from typing import ClassVar

import asyncpg

from agent_cores.session.errors import ConfigurationError, SessionError, StorageUnavailableError
from agent_cores.session.storage.sql.failures import (
    DriverErrors,
    Failure,
    Server,
    no_connection,
    reason_of,
    refused_connection,
    unreadable_url,
)

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_ENDED_BY_SERVER = (  # the connection went with it
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
_FAILURES: tuple[tuple[type[Exception], Failure], ...] = (
    (asyncpg.ReadOnlySQLTransactionError, Failure.READ_ONLY),
    (asyncpg.DiskFullError, Failure.FULL),
    (asyncpg.LockNotAvailableError, Failure.LOCKED),
    (asyncpg.DeadlockDetectedError, Failure.DEADLOCK),
    (asyncpg.UniqueViolationError, Failure.CLASH),
    (asyncpg.SerializationError, Failure.CLASH),
    (asyncpg.DataError, Failure.BAD_VALUE),
    (asyncpg.ProgramLimitExceededError, Failure.BAD_VALUE),
    (ValueError, Failure.BAD_VALUE),
    (asyncpg.UndefinedTableError, Failure.NO_TABLE),
    (asyncpg.InvalidSchemaNameError, Failure.NO_TABLE),
    (asyncpg.UndefinedColumnError, Failure.NOT_OURS),
    (asyncpg.DuplicateTableError, Failure.NOT_OURS),
    (asyncpg.InsufficientPrivilegeError, Failure.DENIED),
    *((kind, Failure.NO_RESPONSE) for kind in _ENDED_BY_SERVER),
    (asyncpg.PostgresError, Failure.REFUSED),
)
"""What each class means; the first that fits counts."""
_HINTS: dict[type[Exception], str] = {
    asyncpg.InvalidPasswordError: "check the user and the password of the storage URL",
    asyncpg.InvalidCatalogNameError: "create the database, or name another in the storage URL",
    asyncpg.InvalidAuthorizationSpecificationError: (
        "check the user of the storage URL, and what the server lets in (pg_hba.conf; sslmode)"
    ),
    asyncpg.TooManyConnectionsError: "lower SESSION_POOL_SIZE, or connect through a pooler",
}
_NO_TLS = "rejected SSL upgrade"  # the driver has no class for it


class PostgresErrors(DriverErrors):
    """The errors of asyncpg, by their classes. ``pooled``: behind a transaction pooler."""

    server: ClassVar[Server] = Server(
        "PostgreSQL",
        "docs/postgres.md",
        ca_option="sslrootcert",
        tls_options="sslrootcert, sslcert and sslkey",
        names_option="SESSION_TABLE_PREFIX, or another schema with SESSION_DATABASE_SCHEMA",
    )
    classes: ClassVar[tuple[type[Exception], ...]] = DRIVER_ERRORS
    connecting: ClassVar[tuple[type[Exception], ...]] = (
        ValueError,
    )  # of a URL that the driver cannot read
    rolls_back = True

    def __init__(self, *, pooled: bool) -> None:
        self._pooled = pooled

    def failure(self, error: Exception) -> Failure:
        """Return what the error of a statement means."""
        meanings = (failure for kind, failure in _FAILURES if isinstance(error, kind))
        return next(meanings, Failure.NO_RESPONSE)

    def name(self, error: Exception) -> str:
        """Return the class of the error."""
        return type(error).__name__

    def of_connection(self, error: Exception, *, seconds: float) -> SessionError:
        """Return our error for a failure to connect."""
        if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
            return StorageUnavailableError("no server is what target_session_attrs asks for")
        if isinstance(error, asyncpg.ProtocolViolationError):
            detail = "the server refuses a setting of the URL"
            if not self._pooled:
                detail = "the server refuses settings; behind a pooler, say pooler=transaction"
            return StorageUnavailableError(f"{detail} ({reason_of(error)})")
        if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _ENDED_BY_SERVER):
            reason = f"{reason_of(error)} ({type(error).__name__})"
            return refused_connection(self.server, reason, _HINTS.get(type(error), ""))
        if isinstance(error, asyncpg.ClientConfigurationError):
            return ConfigurationError(f"the storage URL: {reason_of(error)}")
        if isinstance(error, OSError) and _NO_TLS in str(error):
            return StorageUnavailableError(
                "the PostgreSQL server does not offer TLS, and the sslmode of the storage URL "
                "needs it; turn TLS on at the server, or say sslmode=prefer where the network is "
                "trusted"
            )
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            return unreadable_url("PostgreSQL")
        return no_connection(self.server, error, seconds=seconds)
