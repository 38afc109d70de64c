"""``ServerOptions``: the options that every database server has, and where settings give them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the types of options are read at run time
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.options import (
    AtLeastOne,
    AtLeastTwo,
    SchemaMode,
    Seconds,
    StoreOptions,
    TablePrefix,
)
from agent_cores.session.storage.sql.failures import unreadable_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.settings import SessionSettings


class ServerOptions(StoreOptions, frozen=True, kw_only=True):
    """``timeout`` bounds an operation, ``connect_timeout`` the connecting in it; both in seconds.

    ``pool_size`` is at least 2: one connection for the writes of a batch, one for concurrent reads.
    """

    advice: ClassVar[Mapping[str, str]] = {}
    """Options of other drivers, and what to write in their place."""

    pool_size: AtLeastTwo = 10
    timeout: Seconds = 10.0
    connect_timeout: Seconds | None = None
    schema: SchemaMode = "apply"
    table_prefix: TablePrefix | None = None
    max_queued: AtLeastOne = MAX_QUEUED

    @classmethod
    def unknown(cls, name: str, query: str = "", *, known: Iterable[str] = ()) -> str:
        """Return the error message for an unknown option, with advice for another driver's."""
        advice = cls.advice.get(name.lower())
        if advice is not None:
            return f"{cls.store} has no option {name!r}: {advice}"
        return super().unknown(name, query, known=known)


def split_server_url(url: str, *, store: str, port: int) -> tuple[dict[str, Any], str]:
    """Return what ``scheme://user:password@host:port/database?query`` names, and its query.

    The former are ``host``, ``port``, ``user``, ``password`` and ``database``; a URL without a port
    has the given one.
    """
    try:
        parts = urlsplit(url)
        named_port = parts.port
    except ValueError:
        raise unreadable_url(store) from None
    database = unquote(parts.path.removeprefix("/"))
    if not database or "/" in database:
        example = f"{parts.scheme}://host/database"
        raise ConfigurationError(f"{store}: name one database in the URL: {example}")
    place = {
        "host": parts.hostname or "localhost",
        "port": named_port or port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": database,
    }
    return place, parts.query


def server_options_from(settings: SessionSettings) -> dict[str, Any]:
    """Return those of these options that settings of a service have."""
    return {
        "pool_size": max(2, settings.pool_size),
        "timeout": settings.timeout,
        "schema": settings.schema,
        "table_prefix": settings.table_prefix,
        "max_queued": settings.max_queued_writes,
    }
