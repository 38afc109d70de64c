"""``PostgresOptions``: the options of a PostgreSQL URL and provider, without the driver's own."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from agent_cores.session.storage.sql.options import ServerOptions


class PostgresOptions(ServerOptions, frozen=True, kw_only=True):
    """``database_schema`` is the schema of the tables; ``pooler``, what is before the server."""

    store = "PostgreSQL"

    schema: Annotated[
        Literal["apply", "check"],
        Meta(description="apply or check; the PostgreSQL schema of the tables is database_schema"),
    ] = "apply"
    database_schema: str = "public"
    pooler: Annotated[
        Literal["transaction"] | None, Meta(description="transaction, or left out")
    ] = None
