"""PostgreSQL URLs: which options are ours, which the driver's, and which nobody's."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from agent_cores.session.errors import ConfigurationError

_OWN = {
    "pool_size": int,
    "timeout": float,
    "max_queued": int,
    "schema": str,
    "table_prefix": str,
    "database_schema": str,
    "pooler": str,
}
_DRIVER = frozenset(
    {
        "host", "port", "user", "password", "passfile", "database", "dbname",
        "service",
        "sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation",
        "ssl_min_protocol_version", "ssl_max_protocol_version",
        "target_session_attrs", "krbsrvname", "gsslib",
    }
)  # fmt: skip
_SERVER = frozenset(
    {
        "application_name", "options", "search_path", "statement_timeout", "lock_timeout",
        "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout",
        "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count",
        "tcp_user_timeout", "client_connection_check_interval", "synchronous_commit", "role",
    }
)  # fmt: skip
"""Settings of the server that the driver hands on; another name would be a slip of the pen."""

_OPTION = re.compile("[a-z_]+")


def split_url(url: str) -> tuple[str, dict[str, Any]]:
    """Return what the driver takes, and our own options; refuse options that neither knows."""
    base, _, query = url.partition("?")
    theirs: list[tuple[str, str]] = []
    own: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name in _OWN:
            try:
                own[name] = _OWN[name](text)
            except ValueError as error:
                raise ConfigurationError(f"{name} in the storage URL is not a number") from error
        elif name in _DRIVER or name in _SERVER:
            theirs.append((name, text))
        else:
            raise ConfigurationError(_unknown(name, query))
    return f"{base}?{urlencode(theirs)}" if theirs else base, own


def _unknown(name: str, query: str) -> str:
    """Say that an option is unknown, by its name unless that may be the end of a password."""
    if "@" in query or _OPTION.fullmatch(name) is None:
        return (
            "the storage URL has an option which is known neither here nor to the driver; "
            "a ? in a password is written %3F"
        )
    return f"the storage URL has an option {name!r}, which is known neither here nor to the driver"


def without_password(dsn: str) -> str:
    """Return host and database of a URL, for a log line."""
    parts = urlsplit(dsn)
    return f"{parts.netloc.rpartition('@')[2] or 'its default host'}{parts.path}"
