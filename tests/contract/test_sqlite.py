"""SQLite against the contract, with its fast path and without."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import apsw
import pytest

from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from agent_cores.session.testing import ManagerContract, ProviderContract, Store

if TYPE_CHECKING:
    from pathlib import Path


def store_in(folder: Path) -> Store:
    path = folder / "sessions.db"

    async def spoil(namespace: str, session_id: str) -> None:
        update = "UPDATE sessions SET format = 99 WHERE namespace = ? AND session_id = ?"
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute(update, (namespace, session_id))
            assert connection.changes() == 1

    return Store(partial(SQLiteProvider, path), url=f"sqlite:///{path}", spoil=spoil)


class TestSQLiteProvider(ProviderContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return store_in(tmp_path)


class TestSQLiteManager(ManagerContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return store_in(tmp_path)
