"""What another transaction holds is waited for up to the timeout, and holds up nothing else."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import (
    SessionError,
    SessionExistsError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.models import Query, SeqRange, StoredMessage
from agent_cores.session.models.times import utc_now
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql.in_flight import InFlight
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.postgres.support import connected, uncommitted
from tests.servers.cutting_proxy import CuttingProxy
from tests.servers.postgres import empty_store, shared_server
from tests.sql_stores import append, change, create, message_ids

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from agent_cores.session.models import Change, SessionMetadata

pytestmark = pytest.mark.anyio

TIMEOUT = 1.0
PATIENT = 30.0
"""A timeout that no test reaches, however loaded the machine is."""


@pytest.fixture(params=["hot", "generic"])
def fast_path(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "hot")


@pytest.fixture
async def provider(url: str, fast_path: bool) -> AsyncIterator[PostgresProvider]:
    async with opened(url, TIMEOUT, fast_path) as provider:
        yield provider


@pytest.fixture
async def patient(url: str, fast_path: bool) -> AsyncIterator[PostgresProvider]:
    async with opened(url, PATIENT, fast_path) as provider:
        yield provider


@asynccontextmanager
async def opened(url: str, timeout: float, fast_path: bool) -> AsyncIterator[PostgresProvider]:  # noqa: ASYNC109 - the provider's
    provider = PostgresProvider.from_url(url, timeout=timeout, pool_size=4, fast_path=fast_path)
    await provider.initialize()
    yield provider
    await provider.shutdown()


@asynccontextmanager
async def held(url: str, *session_ids: str) -> AsyncIterator[None]:
    """Hold sessions in another transaction."""
    lock = "SELECT FROM sessions WHERE session_id = ANY($1) FOR UPDATE"
    async with connected(url) as connection, connection.transaction():
        await connection.execute(lock, list(session_ids))
        yield


async def refused(work: Awaitable[object], error: type[SessionError] = StaleHeaderError) -> None:
    with pytest.raises(error):
        await asyncio.wait_for(work, PATIENT)


def changes_of(header: SessionMetadata) -> dict[str, Change]:
    body = b"1" + b"x" * 300_000
    return {
        "append": append(header, "m"),
        "context": change(header, context_set=new_context(a=1)),
        "large": change(header, append=(StoredMessage(0, "l", header.created_at, body),)),
        "rewind": change(header, remove=SeqRange(first=1, last=9)),
        "delete": change(header, delete=True),
    }


KINDS = ["append", "context", "large", "rewind", "delete"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_held_session_is_refused_after_the_timeout(
    provider: PostgresProvider, url: str, kind: str
) -> None:
    write = changes_of(await create(provider))[kind]
    async with held(url, "talk"):
        begun = time.monotonic()
        await refused(provider.apply(write))
        assert time.monotonic() - begun > TIMEOUT - 0.2
    assert await message_ids(provider) == []
    await provider.apply(write)


@pytest.mark.parametrize("kind", KINDS)
async def test_others_go_on_while_a_held_session_is_waited_for(
    patient: PostgresProvider, url: str, kind: str
) -> None:
    header, other = await create(patient), await create(patient, "other")
    async with held(url, "talk"):
        waiting = asyncio.ensure_future(patient.apply(changes_of(header)[kind]))
        for number in range(5):
            many = [append(other, f"{number}-{n}") for n in range(10)]
            await asyncio.gather(*map(patient.apply, many))
        await patient.apply(changes_of(other)["context"])
        await create(patient, "new")
        assert not waiting.done()
    await waiting


async def test_what_waits_goes_on_in_its_order_once_the_session_is_free(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    async with held(url, "talk"):
        first = asyncio.ensure_future(provider.apply(append(header, "m0")))
        await asyncio.sleep(0.3)  # longer than a batch waits
        later = [asyncio.ensure_future(provider.apply(append(header, f"m{n}"))) for n in (1, 2, 3)]
        later.append(asyncio.ensure_future(provider.apply(changes_of(header)["context"])))
        await asyncio.sleep(0.3)
        assert not any(write.done() for write in (first, *later))
    answers = await asyncio.gather(first, *later)
    assert [answer.header.last_seq for answer in answers] == [1, 2, 3, 4, 4]
    assert await message_ids(provider) == ["m0", "m1", "m2", "m3"]


async def test_more_sessions_than_connections_are_held_and_the_others_go_on(
    patient: PostgresProvider, url: str
) -> None:
    names = [f"held{number}" for number in range(9)]
    headers = [await create(patient, name) for name in names]
    other = await create(patient, "other")
    async with held(url, *names):
        waiting = asyncio.gather(*(patient.apply(append(header, "m")) for header in headers))
        await asyncio.sleep(0.3)
        await patient.apply(append(other, "m"))
        await patient.read("default", "other")
        assert not waiting.done()
    await waiting


async def test_more_sessions_than_connections_that_are_held_are_refused_together(
    provider: PostgresProvider, url: str
) -> None:
    names = [f"held{number}" for number in range(9)]
    headers = [await create(provider, name) for name in names]
    async with held(url, *names):
        writes = [provider.apply(append(header, "m")) for header in headers]
        await asyncio.gather(*map(refused, writes))
    await provider.apply(append(headers[0], "m"))


async def test_a_create_waits_for_another_of_that_id_and_holds_up_nothing(
    provider: PostgresProvider, patient: PostgresProvider
) -> None:
    other = await create(patient, "other")
    taken = creation(new_header("new", at=utc_now(), incarnation=1))
    async with uncommitted(provider, creation(new_header("new", at=utc_now(), incarnation=2))):
        waiting = asyncio.ensure_future(patient.apply(taken))
        await asyncio.sleep(0.2)
        await patient.apply(append(other, "m"))
        assert not waiting.done()
        await refused(provider.apply(taken))
    await refused(waiting, SessionExistsError)  # the other transaction committed


async def test_a_caller_that_gives_up_takes_along_what_waits(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    async with held(url, "talk"):
        waiting = asyncio.ensure_future(provider.apply(append(header, "gone")))
        await asyncio.sleep(0.3)
        behind = asyncio.ensure_future(provider.apply(append(header, "behind")))
        also = asyncio.ensure_future(provider.apply(append(header, "also gone")))
        await asyncio.sleep(0.05)
        also.cancel()
        waiting.cancel()
        await asyncio.sleep(0.4)  # the turn that it was in ends
    await behind
    assert await message_ids(provider) == ["behind"]


async def test_a_manager_is_told_within_its_timeout(url: str) -> None:
    settings = SessionSettings(timeout=TIMEOUT, cleanup_interval=0)
    async with SessionManager(url, settings=settings) as manager:
        for name in ("talk", "other"):
            await manager.create_session("ann", session_id=name)
        async with held(url, "talk"):
            late = manager.add_message("talk", "ann", "user", "hello")
            waiting = asyncio.ensure_future(refused(late, SessionError))
            await asyncio.sleep(0.05)
            await manager.add_message("other", "ann", "user", "hi")
            await waiting
        await manager.add_message("talk", "ann", "user", "hello")


async def test_a_shutdown_does_not_wait_longer_than_its_timeout_for_a_held_session(
    provider: PostgresProvider, url: str
) -> None:
    header = await create(provider)
    async with held(url, "talk"):
        waiting = asyncio.ensure_future(refused(provider.apply(append(header, "m")), SessionError))
        await asyncio.sleep(0.5)
        await asyncio.wait_for(provider.shutdown(), PATIENT)
        assert waiting.done()
    await provider.initialize()
    assert await message_ids(provider) == []


async def test_a_silent_server_costs_the_timeout_once() -> None:
    async with CuttingProxy(shared_server().port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        provider = PostgresProvider.from_url(empty_store(url), timeout=TIMEOUT)
        await provider.initialize()
        header = await create(provider)
        await provider.apply(append(header, "m"))
        proxy.fall_silent()
        query = Query(namespace="default", owner_id="ann", at=utc_now())
        calls: list[Awaitable[object]] = [
            *(provider.apply(append(header, f"n{number}")) for number in range(20)),
            *(provider.apply(write) for write in changes_of(header).values()),
            provider.apply(creation(new_header("new", at=utc_now()))),
            provider.read("default", "talk"),
            provider.find(query),
            provider.due(utc_now(), 10, 30),
            provider.count(None, utc_now()),
            provider.store_time(),
        ]
        taken = [asyncio.ensure_future(refused(call, StorageUnavailableError)) for call in calls]
        await asyncio.sleep(0.2)
        late = asyncio.ensure_future(refused(provider.apply(append(header, "l")), SessionError))
        await asyncio.gather(*taken)
        await asyncio.wait_for(provider.shutdown(), PATIENT)
        await late


async def test_two_batches_of_one_process_never_wait_for_each_other() -> None:
    flights = InFlight()
    one, other = change(new_header(at=utc_now())), change(new_header("other", at=utc_now()))
    deadline = asyncio.get_running_loop().time() + PATIENT
    with flights.sending([one]) as first:
        with flights.sending([other]):
            assert not await first.wait_for_others(deadline)
        with flights.sending([other, one]) as second:
            both = asyncio.gather(first.wait_for_others(deadline), second.wait_for_others(deadline))
            await asyncio.wait_for(both, PATIENT / 2)
        with flights.sending([one]):
            waiting = asyncio.ensure_future(first.wait_for_others(deadline))
            await asyncio.sleep(0.01)
            assert not waiting.done()
        assert await waiting
