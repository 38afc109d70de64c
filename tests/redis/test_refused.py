"""A server that refuses every attempt has written nothing, and the error says so."""

from __future__ import annotations

from contextlib import suppress

import pytest
from redis._parsers.base import BaseParser

from agent_cores.session.errors import QuotaExceededError, StorageUnavailableError
from agent_cores.session.storage.redis import connection as redis_connection
from agent_cores.session.storage.redis.driver import AbstractConnection
from agent_cores.session.storage.redis.provider import RedisProvider
from tests.refused_writes import TIMEOUT, VERBS, managing, refusal, verbs
from tests.servers.redis import RedisServer, empty_store

pytestmark = pytest.mark.anyio


def provider_of(server: RedisServer) -> RedisProvider:
    return RedisProvider.from_url(empty_store(server.url), timeout=TIMEOUT)


def error_reply(line: str) -> object:
    """Return the error that the driver makes of a server's reply."""
    return BaseParser.parse_error(line)  # type: ignore[no-untyped-call]


@verbs
async def test_a_server_that_stays_a_replica_has_written_nothing(verb: str) -> None:
    with RedisServer() as server:
        async with managing(provider_of(server)) as (manager, talk):
            server.command("REPLICAOF", "127.0.0.1", 1)
            error = await refusal(VERBS[verb](manager, talk))
            server.command("REPLICAOF", "NO", "ONE")
            assert isinstance(error, StorageUnavailableError)
            assert error.why == "unwritable"
            assert (await manager.get_session(talk, "ann")).metadata.message_count == 1


@verbs
async def test_a_server_that_nobody_can_reach_was_sent_nothing(verb: str) -> None:
    with RedisServer() as server:
        async with managing(provider_of(server)) as (manager, talk):
            await manager.create_session("ann")
            server.stop()
            with suppress(StorageUnavailableError):  # it finds that its connection is broken
                await manager.list_user_sessions("ann")
            error = await refusal(VERBS[verb](manager, talk))
            assert isinstance(error, StorageUnavailableError)


REFUSALS = [
    "READONLY You can't write against a read only replica.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "BUSY Redis is busy running a script.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "NOREPLICAS Not enough good replicas to write.",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
    "NOPERM User default has no permissions to run the 'evalsha' command",
]


@verbs
@pytest.mark.parametrize("line", REFUSALS)
async def test_what_the_server_refuses_until_the_end_was_not_written(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, line: str, verb: str
) -> None:
    async def refuse(connection: AbstractConnection) -> object:
        await reply(connection)
        return error_reply(line)

    reply = redis_connection._reply  # noqa: SLF001 - stands in for the server's replies
    async with managing(provider_of(server)) as (manager, talk):
        monkeypatch.setattr(redis_connection, "_reply", refuse)
        error = await refusal(VERBS[verb](manager, talk))
        monkeypatch.undo()
    assert isinstance(error, StorageUnavailableError | QuotaExceededError)


async def test_a_response_that_was_lost_stays_unknown_whatever_is_refused_after_it(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    async def lose_one(connection: AbstractConnection) -> object:
        nonlocal attempts
        attempts += 1
        await reply(connection)
        if attempts == 1:
            raise ConnectionResetError
        return error_reply(REFUSALS[0])

    reply = redis_connection._reply  # noqa: SLF001 - as above
    async with managing(provider_of(server)) as (manager, talk):
        monkeypatch.setattr(redis_connection, "_reply", lose_one)
        with pytest.raises(StorageUnavailableError) as caught:
            await manager.add_message(talk, "ann", "user", "hello")
        monkeypatch.undo()
    assert caught.value.outcome_unknown
    assert attempts > 1
