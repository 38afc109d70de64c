"""An empty store of each kind that keeps sessions outside of its process, by URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.servers import mariadb, postgres
from tests.servers.redis import empty_store, shared_cluster, shared_valkey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STORES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: f"sqlite:///{folder / 'sessions.db'}",
    "valkey": lambda _: empty_store(shared_valkey().url),
    "cluster": lambda _: empty_store(shared_cluster().url),
    "postgres": lambda _: postgres.reused_store(postgres.shared_server().url()),
    "mariadb": lambda _: mariadb.reused_store(),
}
