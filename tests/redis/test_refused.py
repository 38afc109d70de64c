"""A server that refuses every attempt has written nothing, and the error says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis._parsers.base import BaseParser

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.errors import (
    QuotaExceededError,
    SessionError,
    StorageUnavailableError,
)
from agent_cores.session.storage.redis import connection as redis_connection
from agent_cores.session.storage.redis.driver import AbstractConnection
from agent_cores.session.storage.redis.provider import RedisProvider
from tests.servers.redis import RedisServer, empty_store

pytestmark = pytest.mark.anyio

TIMEOUT = 0.6
VERBS: dict[str, Callable[[SessionManager, str], Awaitable[object]]] = {
    "append": lambda manager, talk: manager.add_message(talk, "ann", "user", "hello"),
    "share": lambda manager, talk: manager.share_session(talk, "ann", "bob"),
    "create": lambda manager, _: manager.create_session("ann"),
    "delete": lambda manager, talk: manager.delete_session(talk, "ann"),
}
verbs = pytest.mark.parametrize("verb", VERBS)


@asynccontextmanager
async def managing(url: str) -> AsyncIterator[tuple[SessionManager, str]]:
    """Open a manager with a short timeout, and a session that its header cache knows."""
    settings = SessionSettings(timeout=TIMEOUT, cleanup_interval=0)
    provider = RedisProvider.from_url(f"{empty_store(url)}&timeout={TIMEOUT}")
    async with SessionManager(provider, settings=settings) as manager:
        talk = await manager.create_session("ann")
        await manager.add_message(talk, "ann", "user", "hello")
        yield manager, talk


def error_reply(line: str) -> object:
    """Return the error that the driver makes of a server's reply."""
    return BaseParser.parse_error(line)  # type: ignore[no-untyped-call]


async def refusal(action: Awaitable[object]) -> SessionError:
    with pytest.raises(SessionError) as caught:
        await action
    return caught.value


@verbs
async def test_a_server_that_stays_a_replica_has_written_nothing(verb: str) -> None:
    with RedisServer() as server:
        async with managing(server.url) as (manager, talk):
            server.command("REPLICAOF", "127.0.0.1", 1)
            error = await refusal(VERBS[verb](manager, talk))
            server.command("REPLICAOF", "NO", "ONE")
            assert isinstance(error, StorageUnavailableError)
            assert (error.outcome_unknown, error.why) == (False, "unwritable")
            assert (await manager.get_session(talk, "ann")).metadata.message_count == 1


@verbs
async def test_a_server_that_nobody_can_reach_was_sent_nothing(verb: str) -> None:
    with RedisServer() as server:
        async with managing(server.url) as (manager, talk):
            await manager.create_session("ann")
            server.stop()
            await refusal(VERBS[verb](manager, talk))  # it finds that its connections are broken
            error = await refusal(VERBS[verb](manager, talk))
            assert isinstance(error, StorageUnavailableError)
            assert not error.outcome_unknown


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
    async with managing(server.url) as (manager, talk):
        monkeypatch.setattr(redis_connection, "_reply", refuse)
        error = await refusal(VERBS[verb](manager, talk))
        monkeypatch.undo()
    assert isinstance(error, StorageUnavailableError | QuotaExceededError)
    assert not getattr(error, "outcome_unknown", False), error


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
    async with managing(server.url) as (manager, talk):
        monkeypatch.setattr(redis_connection, "_reply", lose_one)
        error = await refusal(manager.add_message(talk, "ann", "user", "hello"))
        monkeypatch.undo()
    assert isinstance(error, StorageUnavailableError)
    assert error.outcome_unknown
    assert attempts > 1
