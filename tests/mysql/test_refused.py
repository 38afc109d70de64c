"""Writes that MariaDB refuses, or never gets."""

from __future__ import annotations

from typing import ClassVar

import pytest

from agent_cores.session.errors import QuotaExceededError, StorageUnavailableError
from agent_cores.session.storage.mysql.provider import MysqlProvider
from tests.mysql.support import sql
from tests.refused_writes import (
    TIMEOUT,
    VERBS,
    RefusedWrites,
    managing,
    refusal,
    verbs,
)

pytestmark = pytest.mark.anyio

REFUSALS = {
    1290: StorageUnavailableError,  # read-only: a replica
    1114: QuotaExceededError,  # the table is full
    1021: QuotaExceededError,  # the disk is full
    1026: StorageUnavailableError,  # the disk fails
    1030: StorageUnavailableError,  # the storage engine fails
    1040: StorageUnavailableError,  # too many connections
}


class TestRefusedWrites(RefusedWrites):
    kind: ClassVar[type[MysqlProvider]] = MysqlProvider


@verbs
@pytest.mark.parametrize("code", REFUSALS)
async def test_what_the_server_refuses_was_not_written(url: str, code: int, verb: str) -> None:
    provider = MysqlProvider.from_url(url, timeout=TIMEOUT)
    async with managing(provider) as (manager, talk):
        for event in ("INSERT", "UPDATE", "DELETE"):
            sql(
                url,
                f"CREATE TRIGGER refuse_{event} BEFORE {event} ON sessions"
                f" FOR EACH ROW SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}",
            )
        assert type(await refusal(VERBS[verb](manager, talk))) is REFUSALS[code]
