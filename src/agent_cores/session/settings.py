"""``SessionSettings``: every setting of the library, and where its value comes from.

Precedence: argument, environment, ``.env`` in the working folder, the TOML file named by
``SESSION_CONFIG``, default. In all of them a setting has the same name in capitals: ``SESSION_``
and the field's name, or ``REDIS_URL``. Unknown names are rejected in the TOML file and logged
elsewhere, because other programs use that prefix too: see :mod:`agent_cores.session.sources`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.models.limits import Limits
from agent_cores.session.sources import log_unknown, read_dotenv, read_toml, unknown_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.sources import UnknownName

CONFIG = "SESSION_CONFIG"
"""The variable that names the TOML file."""
_COMMENT = re.compile(r"\s+#.*$")


SERVICE_SETTINGS = frozenset(
    {
        "BODY_TIMEOUT",
        "CLIENT_IDS",
        "CORS_ORIGINS",
        "DOCS",
        "DRAIN_SECONDS",
        "FAILED_LOGINS_PER_MINUTE",
        "HEADER_TIMEOUT",
        "HOST",
        "JWT_ISSUERS",
        "JWT_ROLES",
        "KEEP_ALIVE",
        "KEYS_FILE",
        "LOG_KEY",
        "LOG_USER_IDS",
        "MAX_BODY_BYTES",
        "MAX_BUFFERED_BYTES",
        "MAX_CONNECTIONS",
        "MAX_HEADER_BYTES",
        "MAX_HEADER_COUNT",
        "MAX_IN_FLIGHT",
        "MAX_IN_FLIGHT_PER_CALLER",
        "MAX_URL_BYTES",
        "METRICS_PORT",
        "OTEL_METRICS",
        "PORT",
        "REQUESTS_PER_SECOND",
        "SEND_TIMEOUT",
        "SHUTDOWN_TIMEOUT",
        "TRACING",
        "TRUSTED_PROXIES",
        "WORKERS",
    }
)
"""The settings of the HTTP service, ``SESSION_SERVICE_…``, which may not be installed."""

_DAY = 86_400
_CENTURY = 100 * 366 * _DAY
_TIMES = frozenset({"default_expiry", "cleanup_interval", "timeout", "max_clock_skew"})


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Times are in seconds, sizes in bytes. Errors name the setting and its range."""

    storage_url: str | None = None
    """The store: ``sqlite://``, ``redis://``, ``postgresql://``, ``mysql://``, ``memory://``.
    ``get_session_manager`` also takes the address of a service here, ``https://…``."""
    redis_url: str | None = None
    """The store, if ``SESSION_STORAGE_URL`` is not set or is just ``redis``."""
    key_prefix: str = "session:"
    """The prefix of all key names in Redis."""
    default_expiry: float = 86_400.0
    """Idle seconds of a session created without ``ttl_hours``; 0 is never."""
    cleanup_interval: float = 60.0
    """Seconds between background sweeps; 0 is never."""
    pool_size: int = 10
    """Connections, or reader threads, of a manager."""
    timeout: float = 10.0
    """Seconds that an operation may take, retries included."""
    schema: str = "apply"
    """``apply`` alters tables at start where needed; ``check`` only checks them, and
    ``agent-sessions migrate`` alters them."""
    table_prefix: str | None = None
    """The prefix of SQL table names: letters, digits, ``_``. If left out, that of the store that is
    found; a new store gets ``agent_cores_`` on PostgreSQL, MySQL and MariaDB, none on SQLite."""
    database_schema: str = "public"
    """The PostgreSQL schema that holds the tables."""
    max_clock_skew: float = 5.0
    """Seconds by which this clock may differ from the store's before the log warns; also by how
    much the store's clock may jump before nothing is swept or replaced for ten minutes. ``inf``:
    the process's clock is used uncorrected, for tests that set it by hand."""
    max_cached_headers: int = 10_000
    """Headers that a manager caches."""
    max_cached_header_bytes: int = 33_554_432
    """Estimated bytes that the grants in cached headers may take; the rest of a header takes about
    2 KB more."""
    max_queued_writes: int = 10_000
    """Writes that may wait; past it ``OverloadedError``."""
    max_name_bytes: int = 255
    """Bytes of an id, subject, tag, role or context key."""
    max_tags: int = 64
    """Tags of a session."""
    max_groups: int = 256
    """Groups of a caller: from ``groups_of``, a token or ``X-User-Groups``; a listing of what is
    shared with them reads that many lists."""
    max_grants: int = 1_000
    """Grants of a session."""
    max_content_bytes: int = 1_048_576
    """Bytes of a message's content, as JSON."""
    max_metadata_bytes: int = 65_536
    """Bytes of a session's or message's metadata, as JSON."""
    max_context_bytes: int = 1_048_576
    """Bytes of a session's context, keys and values."""
    max_context_keys: int = 1_000
    """Context keys in one change."""
    max_append_messages: int = 1_000
    """Messages in one append."""
    max_append_bytes: int = 8_388_608
    """Bytes of one append."""
    max_page_items: int = 1_000
    """The largest ``limit``."""
    max_page_bytes: int = 4_194_304
    """Bytes at which a page of messages or sessions ends; it has at least one."""
    max_json_depth: int = 100
    """Nesting of a JSON value."""

    def __post_init__(self) -> None:
        """Raise ``ConfigurationError`` for a value out of range."""
        for name in ("default_expiry", "cleanup_interval"):
            _refuse(name, not 0 <= getattr(self, name) <= _CENTURY, "0 or more, at most a century")
        _refuse("timeout", not 0 < self.timeout <= _DAY, "more than 0, at most a day")
        _refuse("max_clock_skew", not self.max_clock_skew > 0, "more than 0")
        _refuse("schema", self.schema not in {"apply", "check"}, "apply or check")
        wrong = re.fullmatch(r"[A-Za-z0-9_]{0,40}", self.table_prefix or "") is None
        _refuse("table_prefix", wrong, "letters, digits and _, at most 40")
        _refuse("database_schema", not self.database_schema, "the name of a PostgreSQL schema")
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) is int and name not in _TIMES:
                _refuse(name, value < 1, "at least 1")

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown: list[tuple[str, Any]] = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name in {"storage_url", "redis_url"} and value:  # they may hold a password
                value = f"{value.partition(':')[0]}:…"
            shown.append((name, value))
        return shown

    def limits(self) -> Limits:
        """Return the limits that these settings define."""
        named = {f"max_{name}": name for name in Limits.__struct_fields__}
        given = {name: getattr(self, key) for key, name in named.items() if hasattr(self, key)}
        return Limits(**given)

    @classmethod
    def load(cls, **arguments: Any) -> SessionSettings:  # noqa: ANN401 - checked against the fields
        """Read every source. Arguments are fields of this class and take precedence."""
        unknown = arguments.keys() - set(cls.__struct_fields__)
        if unknown:
            detail = f"no such setting: {', '.join(sorted(unknown))}"
            raise ConfigurationError(detail)
        found = from_files()
        found.update(os.environ)
        values: dict[str, Any] = {}
        for name in cls.__struct_fields__:
            value = _bare(found.get(environment_name(name)))
            if value is not None and value != "":
                values[name] = value
        try:
            return msgspec.convert(values | arguments, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(named(str(error), environment_name)) from error


def environment_name(field: str) -> str:
    """Return the name of a field's setting: ``REDIS_URL``, else ``SESSION_<FIELD>``."""
    return "REDIS_URL" if field == "redis_url" else f"SESSION_{field.upper()}"


def _refuse(field: str, wrong: bool, bound: str) -> None:  # noqa: FBT001 - a private check
    if wrong:
        detail = f"{environment_name(field)} must be {bound}"
        raise ConfigurationError(detail)


def named(problem: str, name_of: Callable[[str], str]) -> str:
    """Put the name of the setting into a message of the converter, which says ``$.field``."""
    return re.sub(r"`\$\.(\w+)", lambda match: f"`{name_of(match[1])}", problem)


def known_names() -> frozenset[str]:
    """Return the names of all settings, of the library and the service."""
    ours = {environment_name(field) for field in SessionSettings.__struct_fields__}
    return frozenset(ours | {f"SESSION_SERVICE_{name}" for name in SERVICE_SETTINGS})


def from_files() -> dict[str, Any]:
    """Return what ``.env`` and the TOML file named by ``SESSION_CONFIG`` set, by name.

    An unknown name in the TOML file raises ``ConfigurationError``. One in ``.env`` or the
    environment is logged, as a warning if it looks like a misspelling.
    """
    log_unknown(unknown_settings())
    dotenv = read_dotenv()
    config = os.environ.get(CONFIG) or dotenv.get(CONFIG)
    found = read_toml(config, known_names()) if config else {}
    found.update(dotenv)
    return found


def unknown_settings() -> list[UnknownName]:
    """Return the names of the environment and of ``.env`` that have our prefix and no meaning."""
    known = known_names() | {CONFIG}
    return [
        *unknown_names(os.environ, known, "the environment"),
        *unknown_names(read_dotenv(), known, ".env of the working folder"),
    ]


def source_of(name: str, value: str) -> str:
    """Return where the value of a setting comes from, for a log line."""
    if _bare(os.environ.get(name)) == value:
        return f"{name} in the environment"
    if _bare(read_dotenv().get(name)) == value:
        return f"{name} in .env of the working folder"
    if _bare(from_files().get(name)) == value:
        return f"{name} in the file that SESSION_CONFIG names"
    return name


def where_set() -> dict[str, str]:
    """Return for each name that has a value where it is set, highest precedence first."""
    dotenv = read_dotenv()
    config = os.environ.get(CONFIG) or dotenv.get(CONFIG)
    sources: list[tuple[dict[str, Any], str]] = [
        (dict(os.environ), "environment"),
        (dotenv, ".env"),
        (read_toml(config, known_names()) if config else {}, str(config)),
    ]
    found: dict[str, str] = {}
    for values, place in sources:
        for name in known_names() - found.keys():
            if _bare(values.get(name, "")) != "":
                found[name] = place
    return found


def _bare(value: object) -> object:
    """Return a value without a trailing comment."""
    return _COMMENT.sub("", value).strip() if isinstance(value, str) else value
