"""``PostgresOptions``: the options of a PostgreSQL URL and provider, without the driver's own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from agent_cores.session.storage.sql.options import ServerOptions


class PostgresOptions(ServerOptions, frozen=True, kw_only=True):
    """``database_schema`` is the schema of the tables; ``pooler``, what is before the server."""

    store = "PostgreSQL"
    advice: ClassVar[dict[str, str]] = {
        "connection_limit": "say pool_size",
        "pool_timeout": "say timeout, which bounds the wait for a connection too",
        "statement_cache_size": "behind a pooler say pooler=transaction",
        "prepared_statement_cache_size": "behind a pooler say pooler=transaction",
        "prepared_statements": "behind a pooler say pooler=transaction",
        "preparethreshold": "behind a pooler say pooler=transaction",
        "currentschema": "say database_schema",
        "hostaddr": "give the address as the host",
        "keepalives": "the driver sets none; tcp_keepalives_idle has the server send them",
        "keepalives_idle": "the driver sets none; tcp_keepalives_idle has the server send them",
        "keepalives_interval": "the driver sets none; tcp_keepalives_interval is the server's",
        "keepalives_count": "the driver sets none; tcp_keepalives_count is the server's",
        "load_balance_hosts": "the driver tries the hosts in their order",
        "require_auth": "the driver takes the way of authentication that the server asks for",
        "sslaccept": "say sslmode=require, or verify-full to check the certificate",
        "requiressl": "say sslmode=require",
        "command_timeout": "say timeout",
    }

    schema: Annotated[
        Literal["apply", "check"],
        Meta(description="apply or check; the PostgreSQL schema of the tables is database_schema"),
    ] = "apply"
    database_schema: str = "public"
    pooler: Annotated[
        Literal["transaction"] | None, Meta(description="transaction, or left out")
    ] = None
