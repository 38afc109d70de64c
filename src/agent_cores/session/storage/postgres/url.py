"""PostgreSQL URLs: which options are ours, which the driver's, and which are unknown.

Options that libpq supports and asyncpg does not are implemented here, or refused by name.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.postgres.options import PostgresOptions
from agent_cores.session.storage.sql.tls import client_context, require_file

if TYPE_CHECKING:
    from collections.abc import Callable

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
"""Server settings that the driver passes on; any other name is probably a typo."""

_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "target_session_attrs": (
        "any", "primary", "standby", "prefer-standby", "read-write", "read-only",
    ),
    "pgbouncer": ("true", "false"),
}  # fmt: skip
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_ZERO = re.compile(r"0+(\.0*)?")
_SCHEMES = {
    "postgresql": "postgresql",
    "postgres": "postgres",
    "postgresql+asyncpg": "postgresql",
    "postgres+asyncpg": "postgres",
}


def split_url(url: str) -> tuple[str, dict[str, Any]]:
    """Return the driver's URL and our own options; refuse options that neither knows."""
    base, _, query = url.partition("?")
    theirs: dict[str, str] = {}
    own: dict[str, Any] = {}
    for given, text in parse_qsl(query, keep_blank_values=True):
        name = "sslmode" if given == "ssl" else given
        value = _checked(given, text)
        if name in _TRANSLATED:
            _TRANSLATED[name](value, theirs, own)
        elif name in PostgresOptions.__struct_fields__:
            own[name] = PostgresOptions.read(name, value)
        elif name in _DRIVER or name in _SERVER:
            if name == "sslmode" and theirs.get(name, value) != value:
                raise ConfigurationError("the storage URL has two values of sslmode")
            theirs[name] = value
        else:
            known = _DRIVER | _SERVER
            raise ConfigurationError(PostgresOptions.unknown(given, query, known=known))
    _verify_instead_of_binding(theirs)
    base = _with_known_scheme(base)
    return f"{base}?{urlencode(theirs)}" if theirs else base, own


def _checked(name: str, value: str) -> str:
    """Return the value of an option; refuse one that is not among its choices."""
    if name == "ssl":  # as in SQLAlchemy and Node
        value = {"true": "require", "1": "require", "false": "disable"}.get(value, value)
    choices = _CHOICES["sslmode" if name == "ssl" else name] if name in {"ssl", *_CHOICES} else ()
    if choices and value not in choices:
        raise ConfigurationError(f"{name} in the storage URL is one of {', '.join(choices)}")
    return value


def _take_pgbouncer(value: str, _: dict[str, str], own: dict[str, Any]) -> None:
    if value == "true":
        own.setdefault("pooler", "transaction")


def _take_gssencmode(value: str, _: dict[str, str], __: dict[str, Any]) -> None:
    if value == "require":
        raise ConfigurationError(
            "gssencmode=require in the storage URL: the driver encrypts by TLS and not by GSSAPI; "
            "leave it out, and say sslmode=verify-full"
        )


def _take_channel_binding(value: str, theirs: dict[str, str], _: dict[str, Any]) -> None:
    if value == "require":
        theirs["channel_binding"] = value


def _take_connect_timeout(value: str, _: dict[str, str], own: dict[str, Any]) -> None:
    if _ZERO.fullmatch(value) is None:  # 0 in libpq: connecting has no timeout of its own
        own["connect_timeout"] = PostgresOptions.read("connect_timeout", value)


def _take_fallback_name(value: str, theirs: dict[str, str], _: dict[str, Any]) -> None:
    theirs.setdefault("application_name", value)


def _take_encoding(value: str, _: dict[str, str], __: dict[str, Any]) -> None:
    if value.lower().replace("-", "") not in {"utf8", "auto"}:
        raise ConfigurationError("client_encoding in the storage URL is utf8, or left out")


_TRANSLATED: dict[str, Callable[[str, dict[str, str], dict[str, Any]], None]] = {
    "pgbouncer": _take_pgbouncer,
    "gssencmode": _take_gssencmode,
    "channel_binding": _take_channel_binding,
    "connect_timeout": _take_connect_timeout,
    "fallback_application_name": _take_fallback_name,
    "client_encoding": _take_encoding,
}


def _verify_instead_of_binding(theirs: dict[str, str]) -> None:
    """Replace ``channel_binding=require``, which asyncpg lacks: verify the certificate instead.

    Both keep out a machine in the middle. Without a certificate file the system's certificates are
    used.
    """
    if theirs.pop("channel_binding", None) is None:
        return
    if theirs.get("sslmode") in {"disable", "allow"}:
        raise ConfigurationError(
            "channel_binding=require in the storage URL needs TLS, which its sslmode leaves out"
        )
    theirs.setdefault("sslrootcert", "system")
    if theirs.get("sslmode") != "verify-ca":
        theirs["sslmode"] = "verify-full"


def _with_known_scheme(base: str) -> str:
    """Return the URL with a scheme that the driver knows."""
    scheme, separator, rest = base.partition("://")
    known = _SCHEMES.get(scheme.lower())
    if known is None:
        if not separator:
            raise ConfigurationError("the storage URL begins with postgresql://")
        raise ConfigurationError(
            f"{scheme}:// in the storage URL: this store connects through asyncpg; "
            "write postgresql:// or postgresql+asyncpg://"
        )
    return f"{known}://{rest}"


def driver_tls(dsn: str) -> tuple[str, ssl.SSLContext | None]:
    """Return the driver's URL, and the TLS context if the driver cannot make it by itself.

    The latter is for ``sslrootcert=system``: trust the system's certificates and verify the host
    name. Unreadable certificate or key files raise ``ConfigurationError``.
    """
    base, _, query = dsn.partition("?")
    options = {name: values[-1] for name, values in parse_qs(query).items()}
    system = options.get("sslrootcert") == "system"
    for name in _FILES:
        if not (system and name == "sslrootcert"):
            require_file(name, options.get(name))
    if not system:
        return dsn, None
    if options.setdefault("sslmode", "verify-full") != "verify-full":
        raise ConfigurationError("sslrootcert=system in the storage URL needs sslmode=verify-full")
    context = client_context(
        None, options.get("sslcert"), options.get("sslkey"), options.get("sslpassword", "")
    )
    if "ssl_min_protocol_version" in options:
        context.minimum_version = _tls_version(options["ssl_min_protocol_version"])
    if "ssl_max_protocol_version" in options:
        context.maximum_version = _tls_version(options["ssl_max_protocol_version"])
    rest = {name: text for name, text in options.items() if name not in _TLS}
    return f"{base}?{urlencode(rest)}" if rest else base, context


_TLS = frozenset(
    {
        "sslmode", "sslcert", "sslkey", "sslrootcert", "sslpassword",
        "ssl_min_protocol_version", "ssl_max_protocol_version",
    }
)  # fmt: skip


def _tls_version(text: str) -> ssl.TLSVersion:
    try:
        return ssl.TLSVersion[text.replace(".", "_")]
    except KeyError as error:
        raise ConfigurationError(f"no TLS version is known as {text!r}") from error


def without_password(dsn: str) -> str:
    """Return the host and database of a URL, for the log."""
    parts = urlsplit(dsn)
    return f"{parts.netloc.rpartition('@')[2] or 'its default host'}{parts.path}"
