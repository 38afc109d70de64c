"""No operation takes longer than the timeout, whatever stands still; lists hold nothing up."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.errors import SessionError, StaleHeaderError, StorageUnavailableError
from agent_cores.session.models import AccessEffect, Change, Query
from agent_cores.session.models.times import to_millis, utc_now
from agent_cores.session.storage.redis.changes import Changes
from agent_cores.session.storage.redis.keys import Keys
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.storage.redis.writes import Write
from agent_cores.session.testing.samples import change_of
from tests.redis.talks import append, opened, start
from tests.servers.redis import ClusterServers, RedisServer, empty_store

TIMEOUT = 2.0
SPARE = 1.5
"""Seconds that a busy machine may take beside; less than a second timeout would."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """Return a server of one's own: it is going to stand still."""
    with RedisServer() as server:
        yield server
        server.go_on()


@asynccontextmanager
async def taking(at_most: float, *, at_least: float = 0) -> AsyncIterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert at_least <= took <= at_most + SPARE


def _verbs(manager: SessionManager, session_id: str) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "append": lambda: manager.add_message(session_id, "ann", "user", "hello"),
        "read": lambda: manager.get_session(session_id, "ann"),
        "list": lambda: manager.list_user_sessions("ann"),
        "create": lambda: manager.create_session("ann"),
        "share": lambda: manager.share_session(session_id, "ann", "bob"),
        "delete": lambda: manager.delete_session(session_id, "ann"),
        "statistics": manager.get_statistics,
    }


async def test_a_silent_server_costs_each_verb_the_timeout_and_so_does_the_shutdown(
    server: RedisServer,
) -> None:
    settings = SessionSettings(timeout=TIMEOUT, cleanup_interval=0)
    manager = SessionManager(
        RedisProvider.from_url(f"{empty_store(server.url)}&timeout={TIMEOUT}"), settings=settings
    )
    await manager.initialize()
    session_id = await manager.create_session("ann")
    await manager.add_message(session_id, "ann", "user", "hello")
    server.pause()
    for _ in range(2):  # the second time while the servers are being looked for
        verbs = _verbs(manager, session_id).values()
        async with taking(TIMEOUT, at_least=0.5):
            outcomes = await asyncio.gather(
                *(verb() for verb in verbs for _ in range(10)), return_exceptions=True
            )
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailableError}
    adding = asyncio.create_task(manager.add_message(session_id, "ann", "user", "hello"))
    await asyncio.sleep(0.1)
    async with taking(TIMEOUT):
        await manager.shutdown()
    with pytest.raises(SessionError):
        await adding


async def test_a_silent_server_costs_the_provider_alone_no_more(server: RedisServer) -> None:
    provider = RedisProvider.from_url(f"{empty_store(server.url)}&timeout={TIMEOUT}")
    await provider.initialize()
    header = await start(provider)
    query = Query(namespace="default", at=utc_now(), owner_id="ann")
    server.pause()
    for work in (provider.apply(append(header, "m1")), provider.find(query)):
        async with taking(TIMEOUT):
            with pytest.raises(StorageUnavailableError):
                await work
    async with taking(TIMEOUT):
        await provider.shutdown()


async def test_a_start_waits_for_a_server_that_comes_within_the_timeout() -> None:
    server = RedisServer()
    provider = RedisProvider.from_url(f"{server.url}?timeout=20")
    opening = asyncio.create_task(provider.initialize())
    await asyncio.sleep(0.2)
    assert not opening.done()
    with server:
        await opening
        await provider.shutdown()


async def test_a_start_ends_with_the_timeout_or_with_a_refusal() -> None:
    provider = RedisProvider.from_url(f"{RedisServer().url}?timeout=0.3")
    async with taking(0.3, at_least=0.2):
        with pytest.raises(StorageUnavailableError, match=r"does not answer: .*onnect"):
            await provider.initialize()
    with RedisServer("--requirepass", "s3cret") as server:
        for login in ("", ":wrong@"):
            url = f"redis://{login}127.0.0.1:{server.port}?timeout=20"
            async with taking(1):
                with pytest.raises(StorageUnavailableError, match="refuses"):
                    await RedisProvider.from_url(url).initialize()


async def test_a_cancelled_change_that_is_then_refused_leaves_no_word_in_the_log(
    provider: RedisProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    header = await start(provider)
    reached, go_on = asyncio.Event(), asyncio.Event()
    write = Changes.write

    async def late(self: Changes, *arguments: Any) -> Any:  # noqa: ANN401 - whatever it takes
        reached.set()
        await go_on.wait()
        raise StaleHeaderError

    monkeypatch.setattr(Changes, "write", late)
    task = asyncio.create_task(provider.apply(change_of(header, utc_now(), metadata={"a": 1})))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    monkeypatch.setattr(Changes, "write", write)
    go_on.set()
    await asyncio.wait(list(provider._running))  # noqa: SLF001 - what goes on without its caller
    await asyncio.sleep(0)
    del task

    gc.collect()
    assert said == []


@pytest.mark.parametrize("error", [StorageUnavailableError("down"), asyncio.CancelledError()])
async def test_an_entry_that_was_moved_up_for_an_append_that_failed_is_put_back(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    url = empty_store(server.url)
    key = f"{url.rpartition('prefix=')[2]}owner:{{default/ann}}:active"
    async with opened(url) as provider:
        header = await start(provider)
        assert header.listed_at is not None

        async def fails(self: Changes, change: Change, keys: object, write: Write) -> None:
            await asyncio.sleep(0.02)
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Changes, "_write", fails)
            late = append(header, "m1", at=utc_now() + timedelta(seconds=5))
            with pytest.raises(type(error)):
                await provider.apply(late)
    with server.client() as client:
        assert client.zscore(key, "talk\x001") == to_millis(header.listed_at)


async def test_a_list_whose_node_is_gone_holds_no_append_and_no_revoke_up() -> None:
    with ClusterServers(replicas=0) as cluster:
        for each in cluster.servers:
            each.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with opened(f"{cluster.url}?timeout=5") as provider:
            names = [f"talk-{number}" for number in range(60)]
            headers = [await start(provider, name) for name in names]
            healthy = [h for h in headers if _node(provider, h.session_id) != _list(provider)]
            assert len(healthy) > 10
            gone = next(s for s in cluster.servers if str(s.port) in _list(provider))
            gone.pause()
            for number in range(3):
                at = utc_now() + timedelta(seconds=5 * number + 5)
                async with taking(0.4):
                    await asyncio.gather(
                        *(provider.apply(append(h, f"m{number}", at=at)) for h in healthy)
                    )
            async with taking(1.0):
                public = AccessEffect(public=True)
                await provider.apply(change_of(healthy[0], utc_now(), access=public))
            gone.go_on()
            later = utc_now() + timedelta(minutes=5)
            query = Query(namespace="default", at=later, owner_id="ann", limit=100)
            assert len((await provider.find(query)).headers) == 60


def _node(provider: RedisProvider, session_id: str) -> str:
    key = Keys("session:").session("default", session_id).header
    return provider._wire._topology.node_of(key)  # noqa: SLF001 - which node that is


def _list(provider: RedisProvider) -> str:
    key = Keys("session:").owned("default", "ann", archived=False)
    return provider._wire._topology.node_of(key)  # noqa: SLF001 - which node that is


async def test_changes_that_wait_for_each_other_are_not_sent_once_their_time_is_over(
    server: RedisServer,
) -> None:
    settings = SessionSettings(timeout=TIMEOUT, cleanup_interval=0)
    provider = RedisProvider.from_url(f"{empty_store(server.url)}&timeout={TIMEOUT}")
    manager = SessionManager(provider, settings=settings)
    await manager.initialize()
    session_id = await manager.create_session("ann")
    server.pause()
    updates = [
        manager.update_session(session_id, "ann", metadata_updates={f"k{number}": 1})
        for number in range(20)
    ]
    async with taking(TIMEOUT):
        outcomes = await asyncio.gather(*updates, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailableError}
    server.go_on()
    await asyncio.sleep(0.2)
    assert not provider._running  # noqa: SLF001 - what goes on without its caller
    session = await manager.get_session(session_id, "ann")
    assert len(session.metadata.attributes) <= 1
    await manager.shutdown()
