"""Translate asyncmy's errors; no other module does, and none of them reaches a caller."""

from __future__ import annotations

import ssl

from asyncmy.constants import ER
from asyncmy.errors import MySQLError

from agent_cores.session.errors import (
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

DRIVER_ERRORS = (MySQLError, OSError, TimeoutError)

_CLIENT_CODES = range(2000, 3000)
_ENDED_BY_SERVER = {ER.SERVER_SHUTDOWN, ER.NEW_ABORTING_CONNECTION, 1317, 1927, 3169, 4031}
"""Errors that end the connection; perhaps only the response was lost."""
_CLASHES = {ER.DUP_ENTRY, ER.CHECKREAD}
_LOCKED = {ER.LOCK_WAIT_TIMEOUT, 3572}
_READ_ONLY = {ER.OPTION_PREVENTS_STATEMENT, 1792, 1836}
_BAD_VALUES = {ER.DATA_TOO_LONG, ER.WARN_DATA_OUT_OF_RANGE, ER.NET_PACKET_TOO_LARGE}
_DENIED = {
    ER.DBACCESS_DENIED_ERROR,
    ER.ACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
}


def statement_error(error: Exception, *, may_be_done: bool) -> SessionError:
    """Return our error for that of a statement; ``may_be_done``: it may have been written."""
    code = _code(error)
    if code == ER.LOCK_DEADLOCK:
        return deadlock()
    if code in _CLASHES:
        return ClashError(f"a concurrent transaction was in the way (MySQL error {code})")
    if code in _LOCKED:
        return locked()
    if is_read_only(error):
        return StorageUnavailableError("the MySQL server is read-only: a replica")
    if code in _BAD_VALUES:
        return InvalidInputError("value", f"MySQL refuses it (error {code})")
    if code == ER.NO_SUCH_TABLE:
        return no_tables()
    if code in {ER.BAD_FIELD_ERROR, ER.TABLE_EXISTS_ERROR}:
        return StoreFormatError(
            "the tables of these names belong to another program; choose other names for ours "
            "with SESSION_TABLE_PREFIX"
        )
    if code in _DENIED:
        return StorageUnavailableError(
            f"MySQL denies this user access (error {code}); docs/mysql.md says what to grant"
        )
    if code and code not in _ENDED_BY_SERVER:
        detail = f"MySQL refuses the statement (error {code})"
        return StorageUnavailableError(detail, outcome_unknown=may_be_done)
    return no_response("MySQL", error, may_be_done=may_be_done)


def connection_error(error: Exception) -> SessionError:
    """Return our error for a failure to connect."""
    code = _code(error)
    cause = error.__cause__ or error
    if code in _DENIED or code == ER.BAD_DB_ERROR:
        return StorageUnavailableError(
            f"MySQL refuses the connection: {printable(error.args[-1])}; check user, password and "
            "database of the storage URL"
        )
    if code in {ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS}:
        return StorageUnavailableError("MySQL has too many connections; lower SESSION_POOL_SIZE")
    if isinstance(cause, ssl.SSLError):
        why = getattr(cause, "verify_message", "") or cause.reason
        return StorageUnavailableError(
            f"TLS with the MySQL server failed ({why}); check ssl_mode and ssl_ca of the storage "
            "URL, and whether the server offers TLS"
        )
    if isinstance(cause, TimeoutError):
        return StorageUnavailableError(
            "MySQL did not answer in time, or all connections of the pool are in use"
        )
    if code:
        return StorageUnavailableError(f"MySQL refuses the connection: {printable(error.args[-1])}")
    return ConnectionLostError(
        "nothing accepts connections at the host and port, or the socket, of the storage URL "
        f"({type(cause).__name__})"
    )


def is_read_only(error: BaseException) -> bool:
    """Whether the server refuses writes: it is a replica, or has become one."""
    return _code(error) in _READ_ONLY


def _code(error: BaseException) -> int:
    """Return the number of a server's error; 0 for any other error."""
    if not isinstance(error, MySQLError) or not error.args or type(error.args[0]) is not int:
        return 0
    return 0 if error.args[0] in _CLIENT_CODES else error.args[0]
