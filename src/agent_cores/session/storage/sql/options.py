"""``ServerOptions``: the options that every database server has, and where settings give them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the types of options are read at run time
from typing import TYPE_CHECKING, Any, ClassVar

from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.options import (
    AtLeastOne,
    AtLeastTwo,
    SchemaMode,
    Seconds,
    StoreOptions,
    TablePrefix,
)

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


def server_options_from(settings: SessionSettings) -> dict[str, Any]:
    """Return those of these options that settings of a service have."""
    return {
        "pool_size": max(2, settings.pool_size),
        "timeout": settings.timeout,
        "schema": settings.schema,
        "table_prefix": settings.table_prefix,
        "max_queued": settings.max_queued_writes,
    }
