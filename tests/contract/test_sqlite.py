"""SQLite against the contract, with its fast path and without."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.storage.sqlite_provider import SQLiteProvider
from agent_cores.session.testing import ManagerContract, ProviderContract, Store

if TYPE_CHECKING:
    from pathlib import Path


def store_in(folder: Path) -> Store:
    path = folder / "sessions.db"
    return Store(partial(SQLiteProvider, path), url=f"sqlite:///{path}")


class TestSQLiteProvider(ProviderContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return store_in(tmp_path)


class TestSQLiteManager(ManagerContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return store_in(tmp_path)
