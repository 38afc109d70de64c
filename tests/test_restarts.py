"""A manager may be started again after its last shutdown, on every store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_cores.session import SessionManager
from tests.servers.postgres import empty_store, shared_server
from tests.servers.redis import shared_cluster, shared_valkey

STORES: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/sessions.db",
    "redis": lambda folder: f"{shared_valkey().url}?prefix={folder.name}:",
    "redis cluster": lambda folder: f"{shared_cluster().url}?prefix={folder.name}:",
    "postgres": lambda _: empty_store(shared_server().url()),
}


@pytest.mark.parametrize("store", STORES)
async def test_a_manager_that_was_shut_down_starts_again(store: str, tmp_path: Path) -> None:
    manager = SessionManager(STORES[store](tmp_path))
    for number in range(3):
        async with manager:
            session_id = await manager.create_session(f"user-{number}")
            assert (await manager.add_message(session_id, f"user-{number}", "user", "x")).seq == 1
            await manager.delete_session(session_id, f"user-{number}")
