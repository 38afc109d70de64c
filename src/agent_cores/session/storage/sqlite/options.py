"""``SQLiteOptions``: the options of a ``sqlite://`` URL and of ``SQLiteProvider``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from agent_cores.session.storage.batching import MAX_QUEUED
from agent_cores.session.storage.options import (
    AtLeastOne,
    SchemaMode,
    Seconds,
    StoreOptions,
    TablePrefix,
)

READERS = 4


class SQLiteOptions(StoreOptions, frozen=True, kw_only=True):
    """``timeout`` bounds, in seconds, how long a write waits for other processes."""

    store = "SQLite"

    synchronous: Annotated[
        str, Meta(pattern=r"(?i)\A(NORMAL|FULL|EXTRA)\Z", description="NORMAL, FULL or EXTRA")
    ] = "FULL"
    timeout: Seconds = 10.0
    pool_size: AtLeastOne = READERS
    max_queued: AtLeastOne = MAX_QUEUED
    schema: SchemaMode = "apply"
    table_prefix: TablePrefix = ""
