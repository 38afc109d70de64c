"""Translate asyncmy's errors; no other module does, and none of them reaches a caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from asyncmy.constants import ER
from asyncmy.errors import MySQLError

from agent_cores.session.storage.sql.failures import CodedErrors, Failure, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLIENT_CODES = range(2000, 3000)
_DENIED = (
    ER.DBACCESS_DENIED_ERROR,
    ER.ACCESS_DENIED_ERROR,
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
)
_TOO_MANY = (ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS)
_ENDED_BY_SERVER = (0, ER.SERVER_SHUTDOWN, ER.NEW_ABORTING_CONNECTION, 1317, 1927, 3169, 4031)
_OF_A_COMMIT = ER.ERROR_DURING_COMMIT
"""A storage engine failed at its part of a COMMIT that was decided already."""


class MysqlErrors(CodedErrors):
    """The errors of asyncmy, by the numbers of the server."""

    server: ClassVar[Server] = Server(
        "MySQL", "docs/mysql.md", ca_option="ssl_ca", tls_options="ssl_mode, ssl_ca and ssl_cert"
    )
    classes: ClassVar[tuple[type[Exception], ...]] = (MySQLError, OSError, TimeoutError)
    connecting: ClassVar[tuple[type[Exception], ...]] = (RuntimeError,)  # of a pool that was closed
    rolls_back = True  # an error ends the packet, so that its COMMIT is not executed
    failures: ClassVar[Mapping[int, Failure]] = {
        ER.LOCK_DEADLOCK: Failure.DEADLOCK,
        **dict.fromkeys((ER.DUP_ENTRY, ER.CHECKREAD), Failure.CLASH),
        **dict.fromkeys((ER.LOCK_WAIT_TIMEOUT, 3572), Failure.LOCKED),
        **dict.fromkeys((ER.OPTION_PREVENTS_STATEMENT, 1792, 1836), Failure.READ_ONLY),
        **dict.fromkeys((ER.DISK_FULL, ER.RECORD_FILE_FULL), Failure.FULL),
        **dict.fromkeys((ER.DATA_TOO_LONG, ER.WARN_DATA_OUT_OF_RANGE), Failure.BAD_VALUE),
        ER.NET_PACKET_TOO_LARGE: Failure.BAD_VALUE,
        ER.NO_SUCH_TABLE: Failure.NO_TABLE,
        **dict.fromkeys((ER.BAD_FIELD_ERROR, ER.TABLE_EXISTS_ERROR), Failure.NOT_OURS),
        **dict.fromkeys(_DENIED, Failure.DENIED),
        **dict.fromkeys((*_ENDED_BY_SERVER, _OF_A_COMMIT), Failure.NO_RESPONSE),
    }
    hints: ClassVar[Mapping[int, str]] = {
        **dict.fromkeys(
            (*_DENIED, ER.BAD_DB_ERROR), "check user, password and database of the storage URL"
        ),
        **dict.fromkeys(_TOO_MANY, "lower SESSION_POOL_SIZE"),
    }

    def code(self, error: Exception) -> int:
        """Return the number of a server's error; 0 for any other error."""
        if not isinstance(error, MySQLError) or not error.args or type(error.args[0]) is not int:
            return 0
        return 0 if error.args[0] in _CLIENT_CODES else error.args[0]
