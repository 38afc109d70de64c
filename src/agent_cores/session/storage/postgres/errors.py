"""What asyncpg's errors mean: the one place that translates them, so that none leaks."""

from __future__ import annotations

import socket
import ssl

import asyncpg

from agent_cores.session.errors import (
    ConfigurationError,
    InvalidInputError,
    SessionError,
    StorageUnavailableError,
    StoreFormatError,
)
from agent_cores.session.storage.sql.errors import ClashError, ConnectionLostError
from agent_cores.session.storage.sql.failures import (
    deadlock,
    locked,
    no_response,
    no_tables,
    printable,
)

DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_CLASHES = (
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
)
_ENDED_BY_SERVER = (  # the connection went with it, and perhaps only the answer was lost
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
_NO_TABLES = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError)
_FOREIGN_TABLES = (asyncpg.UndefinedColumnError, asyncpg.DuplicateTableError)
_NO_TLS = "rejected SSL upgrade"  # the driver has no class for it
_REFUSED = "Connect call failed"  # asyncio's, where a host has several addresses


def statement_error(error: Exception, *, may_be_done: bool) -> SessionError:
    """Return what an error of a statement means; ``may_be_done``: whether it may have written."""
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return StorageUnavailableError("PostgreSQL is read-only here: a standby")
    if isinstance(error, asyncpg.LockNotAvailableError):
        return locked()
    if isinstance(error, asyncpg.DeadlockDetectedError):
        return deadlock()
    if isinstance(error, _CLASHES):
        return ClashError(f"another transaction was in the way ({type(error).__name__})")
    if isinstance(error, asyncpg.DataError | asyncpg.ProgramLimitExceededError | ValueError):
        return InvalidInputError("value", f"PostgreSQL refuses it ({type(error).__name__})")
    if isinstance(error, _NO_TABLES):
        return no_tables()
    if isinstance(error, _FOREIGN_TABLES):
        return StoreFormatError(
            "tables of these names are there and not ours; give ours other names by "
            "SESSION_TABLE_PREFIX, or another schema by SESSION_DATABASE_SCHEMA"
        )
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return StorageUnavailableError(
            "PostgreSQL does not let this user at the tables (InsufficientPrivilegeError); "
            "docs/postgres.md says what to grant"
        )
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _ENDED_BY_SERVER):
        return StorageUnavailableError(f"PostgreSQL refuses: {type(error).__name__}")
    return no_response("PostgreSQL", error, may_be_done=may_be_done)


def connection_error(error: Exception, *, pooled: bool, seconds: float) -> SessionError:
    """Return why there is no connection; ``seconds`` is how long it was waited for."""
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return StorageUnavailableError("no server is what target_session_attrs asks for")
    if isinstance(error, asyncpg.ProtocolViolationError):
        detail = "the server refuses a setting of the URL"
        if not pooled:
            detail = "the server refuses settings; behind a pooler, say pooler=transaction"
        return StorageUnavailableError(f"{detail} ({_reason(error)})")
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _ENDED_BY_SERVER):
        return StorageUnavailableError(_refusal(error))
    if isinstance(error, asyncpg.ClientConfigurationError):
        return ConfigurationError(f"the storage URL: {_reason(error)}")
    if isinstance(error, TimeoutError):
        return StorageUnavailableError(
            f"PostgreSQL did not answer within {seconds:g} s: the server is silent, or all "
            "connections of the pool are taken"
        )
    if isinstance(error, ssl.SSLError):
        return StorageUnavailableError(_tls_failure(error))
    if isinstance(error, OSError):
        return _unreachable(error)
    if isinstance(error, ValueError):  # may quote a part of the URL, and so of a password
        return ConfigurationError(
            "the storage URL cannot be read; characters such as @ : / ? # in a user name or "
            "password are written in percent-encoding, as %40 for @"
        )
    return no_response("PostgreSQL", error, may_be_done=False)


def _refusal(error: asyncpg.PostgresError) -> str:
    """Return what the server says of a connection: it names user, database and host, no secret."""
    hint = {
        asyncpg.InvalidPasswordError: "check the user and the password of the storage URL",
        asyncpg.InvalidCatalogNameError: "create the database, or name another in the storage URL",
        asyncpg.InvalidAuthorizationSpecificationError: (
            "check the user of the storage URL, and what the server lets in (pg_hba.conf; sslmode)"
        ),
        asyncpg.TooManyConnectionsError: "lower SESSION_POOL_SIZE, or connect through a pooler",
    }.get(type(error))
    refusal = f"PostgreSQL refuses the connection ({type(error).__name__}): {_reason(error)}"
    return f"{refusal}; {hint}" if hint else refusal


def _reason(error: Exception) -> str:
    return printable(error.args[0] if error.args else type(error).__name__)


def _tls_failure(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the certificate of the PostgreSQL server cannot be verified: {error.verify_message}; "
            "name the file that vouches for it by sslrootcert, or the host as the certificate does"
        )
    return (
        f"TLS with the PostgreSQL server failed ({error.reason or type(error).__name__}); "
        "check sslrootcert, sslcert and sslkey of the storage URL"
    )


def _unreachable(error: OSError) -> StorageUnavailableError:
    if _NO_TLS in str(error):
        return StorageUnavailableError(
            "the PostgreSQL server does not offer TLS, and the sslmode of the storage URL needs "
            "it; turn TLS on at the server, or say sslmode=prefer where the network is trusted"
        )
    if isinstance(error, socket.gaierror):
        return StorageUnavailableError("the host of the storage URL is not known (gaierror)")
    if isinstance(error, ConnectionRefusedError | FileNotFoundError) or _REFUSED in str(error):
        return ConnectionLostError(
            "nothing accepts connections at the host and port of the storage URL "
            f"({type(error).__name__})"
        )
    return no_response("PostgreSQL", error, may_be_done=False)
