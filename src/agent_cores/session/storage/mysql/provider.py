"""``MysqlProvider``: sessions in MySQL and MariaDB, by the SQL core through asyncmy."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from agent_cores.session.errors import MissingDependencyError

try:
    import asyncmy  # noqa: F401 - reports the missing driver here
except ImportError as _error:
    raise MissingDependencyError("asyncmy", "mysql") from _error

from agent_cores.session.storage.mysql.connection import MysqlDatabase
from agent_cores.session.storage.mysql.options import MysqlOptions, split_url
from agent_cores.session.storage.sql.names import DEFAULT_PREFIX, Names
from agent_cores.session.storage.sql.server_provider import SqlProvider


class MysqlProvider(SqlProvider):
    """Sessions in a database of MySQL 8.0.22 or later, or of MariaDB 10.6 or later.

    ``options`` are those of ``MysqlOptions``. ``table_prefix=None`` means ``agent_cores_``;
    ``fast_path=False`` turns the hot append off.
    """

    dialect = "mysql"
    backup_command: ClassVar[str] = (
        "mariadb-dump --single-transaction --hex-blob --result-file=FILE DATABASE"
    )
    database: MysqlDatabase

    def __init__(
        self,
        database: str,
        *,
        host: str = "localhost",
        port: int = 3306,
        user: str = "",
        password: str = "",
        fast_path: bool = True,
        **options: Any,  # noqa: ANN401 - checked there
    ) -> None:
        checked = MysqlOptions.check(**options)
        self._place = f"{checked.unix_socket or f'{host}:{port}'}/{database}"
        place = {"host": host, "port": port, "database": database, "user": user}
        server = MysqlDatabase({**place, "password": password.encode()}, checked)
        prefix = DEFAULT_PREFIX if checked.table_prefix is None else checked.table_prefix
        super().__init__(server, [Names(prefix)], checked, fast_path=fast_path)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - of __init__
        """``mysql://user:password@host:port/database?ssl_mode=verify_identity``."""
        place, own = split_url(url)
        return cls(**{**options, **place, **own})

    def describe(self) -> str:
        return f"MySQL at {self._place}"
