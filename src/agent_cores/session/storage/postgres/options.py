"""``PostgresOptions``: the options of a PostgreSQL URL and provider, without the driver's own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.options import (
    AtLeastOne,
    AtLeastTwo,
    Seconds,
    StoreOptions,
    TablePrefix,
)


class PostgresOptions(StoreOptions, frozen=True, kw_only=True):
    """``timeout`` bounds an operation, ``connect_timeout`` what connecting may take of it: seconds.

    ``pool_size`` is at least 2: one connection for the writes of a batch, one for reads meanwhile.
    """

    store = "PostgreSQL"

    pool_size: AtLeastTwo = 10
    timeout: Seconds = 10.0
    connect_timeout: Seconds | None = None
    schema: Annotated[
        Literal["apply", "check"],
        Meta(description="apply or check; the PostgreSQL schema of the tables is database_schema"),
    ] = "apply"
    table_prefix: TablePrefix | None = None
    database_schema: str = "public"
    pooler: Annotated[
        Literal["transaction"] | None, Meta(description="transaction, or left out")
    ] = None
    max_queued: AtLeastOne = MAX_QUEUED
