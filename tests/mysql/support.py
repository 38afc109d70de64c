"""Helpers of these tests: SQL on the tables themselves."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.servers.mariadb import shared_server


def database_of(url: str) -> str:
    """Return the name of a store's database."""
    return urlsplit(url).path.removeprefix("/")


def sql(url: str, statement: str) -> str:
    """Run a statement in a store's database, on the shared server."""
    return shared_server().sql(statement, database_of(url))
