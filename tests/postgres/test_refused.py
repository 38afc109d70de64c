"""Writes that PostgreSQL refuses, or never gets."""

from __future__ import annotations

from typing import ClassVar

import pytest

from agent_cores.session.errors import ConflictError, QuotaExceededError, StorageUnavailableError
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql.dialect import Statement, Step
from tests.postgres.support import connected
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
    "25006": StorageUnavailableError,  # read-only: a standby
    "53100": QuotaExceededError,  # the disk is full
    "53200": StorageUnavailableError,  # no memory
    "53300": StorageUnavailableError,  # too many connections
    "58030": StorageUnavailableError,  # the disk fails
}


class TestRefusedWrites(RefusedWrites):
    kind: ClassVar[type[PostgresProvider]] = PostgresProvider


@verbs
@pytest.mark.parametrize("code", REFUSALS)
async def test_what_the_server_refuses_was_not_written(url: str, code: str, verb: str) -> None:
    provider = PostgresProvider.from_url(url, timeout=TIMEOUT)
    async with managing(provider) as (manager, talk), connected(url) as connection:
        await connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END$$"
        )
        for table in ("messages", "sessions"):
            await connection.execute(
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON {table}"
                " EXECUTE FUNCTION refuse()"
            )
        assert type(await refusal(VERBS[verb](manager, talk))) is REFUSALS[code]


@pytest.mark.parametrize("verb", ["append", "update", "share"])
async def test_what_waits_for_a_locked_session_until_the_end_was_not_written(
    url: str, verb: str
) -> None:
    provider = PostgresProvider.from_url(url, timeout=TIMEOUT)
    async with managing(provider) as (manager, talk):
        async with provider.database.transaction(deadline=1e9) as connection:
            await connection.run(Step(Statement.LOCK, [("default", talk)]))
            error = await refusal(VERBS[verb](manager, talk))
        assert (await manager.get_session(talk, "ann")).metadata.message_count == 1
    assert isinstance(error, ConflictError)
