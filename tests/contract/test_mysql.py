"""The contract kit on MariaDB: with the fast path, and without it."""

from __future__ import annotations

import pytest

from agent_cores.session.storage.mysql.provider import MysqlProvider
from agent_cores.session.storage.sql.names import DEFAULT_PREFIX
from agent_cores.session.testing import ManagerContract, ProviderContract, Store
from tests.servers.mariadb import reused_store, shared_server


def new_store(*, fast_path: bool = True) -> Store:
    """Return an empty store on the shared server."""
    url = reused_store()

    async def spoil(namespace: str, session_id: str) -> None:
        update = f"UPDATE {DEFAULT_PREFIX}sessions SET format = 99"  # noqa: S608 - written here
        where = f"WHERE namespace = '{namespace}' AND session_id = '{session_id}'"
        database = url.rpartition("/")[2]
        done = shared_server().sql(f"{update} {where}; SELECT ROW_COUNT()", database)
        assert done == "1"

    return Store(lambda: MysqlProvider.from_url(url, fast_path=fast_path), url=url, spoil=spoil)


class TestMysqlProvider(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return new_store()


class TestMysqlProviderWithoutItsFastPath(ProviderContract):
    @pytest.fixture
    def store(self) -> Store:
        return new_store(fast_path=False)


class TestManagerOnMysql(ManagerContract):
    @pytest.fixture
    def store(self) -> Store:
        return new_store()
