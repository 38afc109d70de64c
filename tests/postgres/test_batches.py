"""A batch that fails as a whole: its changes run one by one, and answer for themselves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agent_cores.session.errors import SessionExistsError, TurnLostError
from agent_cores.session.models import Applied, Change
from agent_cores.session.models.change import State, apply_change
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.postgres.connection import LOOKS, Transaction
from agent_cores.session.storage.postgres.fast_queries import HOT_APPENDS
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.storage.sql import batch as sql_batch
from agent_cores.session.storage.sql.dialect import Row, Step
from agent_cores.session.testing.samples import creation, new_context, new_header
from tests.postgres.support import connected
from tests.sql_stores import append, change, create, message_ids

pytestmark = pytest.mark.anyio

WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def test_an_error_of_ours_is_the_answer_of_the_change_that_met_it_alone(
    provider: PostgresProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(state: State, change: Change) -> Applied:
        if change.metadata == {"title": "bad"}:
            raise RuntimeError
        return apply_change(state, change)

    monkeypatch.setattr(sql_batch, "apply_change", failing)
    header = await create(provider)
    titles = ("first", "bad", "last")
    answers = await asyncio.gather(
        *(provider.apply(change(header, metadata={"title": title})) for title in titles),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Applied, RuntimeError, Applied]
    look = await provider.read("default", "talk")
    assert look is not None
    assert look.header.title == "last"


async def test_each_create_of_a_batch_is_answered_for_itself(provider: PostgresProvider) -> None:
    taken = await create(provider, "taken", incarnation=1)
    await create(provider, "ended", created=utc_now() - timedelta(days=2), incarnation=2)
    wanted = [
        new_header("new", at=utc_now(), incarnation=3),
        new_header("taken", at=utc_now(), incarnation=4),
        taken,
        new_header("ended", at=utc_now(), incarnation=5, tags=("a",)),
        new_header("new", at=utc_now(), incarnation=6),
        new_header("also new", at=utc_now(), incarnation=7),
    ]
    answers = await asyncio.gather(
        *(provider.apply(creation(header)) for header in wanted), return_exceptions=True
    )
    new, exists, replay, replacing, again, also = answers
    assert isinstance(exists, SessionExistsError)
    assert isinstance(again, SessionExistsError)
    assert isinstance(replay, Applied)
    assert replay.replayed
    for answer, incarnation in ((new, 3), (replacing, 5), (also, 7)):
        assert isinstance(answer, Applied)
        stored = await provider.read("default", answer.header.session_id)
        assert stored is not None
        assert stored.header.incarnation == incarnation
    assert (await provider.count("default", utc_now())).sessions == 4


async def test_a_repeated_message_is_looked_for_and_leaves_the_rest_of_its_batch_hot(
    provider: PostgresProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    fetch = Transaction.fetch

    async def noted(connection: Transaction, text: str, *arguments: object) -> list[Row]:
        sent.append(text)
        return await fetch(connection, text, *arguments)

    monkeypatch.setattr(Transaction, "fetch", noted)
    blind, looking = HOT_APPENDS[False, False], HOT_APPENDS[True, False]
    repeated, other = await create(provider, "repeated"), await create(provider, "other")
    await provider.apply(append(repeated, "a"))
    sent.clear()
    replay, fresh = await asyncio.gather(
        provider.apply(append(repeated, "a")), provider.apply(append(other, "b"))
    )
    assert replay.replayed
    assert not fresh.replayed
    assert sent == [blind, looking]
    for nth in range(LOOKS + 1):
        await provider.apply(append(repeated, f"c{nth}"))
    assert sent == [blind, *[looking] * (LOOKS + 1), blind]
    ids = ["a", *[f"c{nth}" for nth in range(LOOKS + 1)]]
    assert await message_ids(provider, "repeated") == ids
    assert await message_ids(provider, "other") == ["b"]


async def test_appends_that_fall_back_because_of_one_of_them_share_a_few_statements(
    provider: PostgresProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Step] = []
    run = Transaction.run

    async def noted(connection: Transaction, step: Step) -> list[Row]:
        steps.append(step)
        return await run(connection, step)

    header = (await provider.apply(append(await create(provider), "stored"))).header
    monkeypatch.setattr(Transaction, "run", noted)
    sent = [append(header, "stored"), append(header, "lost", turn="not held")]
    sent += [append(header, f"m{number}") for number in range(60)]
    sent += [append(header, "m7"), append(header, "m8", "last")]
    sent += [append(header, "whole", whole_append=True), append(header, "stored")]
    answers = await asyncio.gather(*map(provider.apply, sent), return_exceptions=True)
    assert len(steps) < len(sent)
    assert [type(answer) for answer in answers if not isinstance(answer, Applied)] == [
        TurnLostError
    ]
    seqs = {
        message.id: message.seq
        for answer in answers
        if isinstance(answer, Applied)
        for message in answer.messages
    }
    assert sum(answer.replayed for answer in answers if isinstance(answer, Applied)) == 3
    assert await message_ids(provider) == sorted(seqs, key=seqs.__getitem__)
    assert sorted(seqs.values()) == list(range(1, 64))
    look = await provider.read("default", "talk")
    assert look is not None
    assert (look.header.last_seq, look.header.message_count) == (63, 63)


async def test_two_processes_that_create_the_same_sessions_share_them_out(
    provider: PostgresProvider, url: str
) -> None:
    other = PostgresProvider.from_url(url)
    await other.initialize()
    creates = [
        each.apply(creation(new_header(f"s{number}", at=utc_now(), incarnation=2 * number + which)))
        for number in range(1, 41)
        for which, each in enumerate((provider, other))
    ]
    answers = await asyncio.gather(*creates, return_exceptions=True)
    for pair in zip(answers[::2], answers[1::2], strict=True):
        assert sorted(type(answer).__name__ for answer in pair) == ["Applied", "SessionExistsError"]
    assert (await provider.count("default", utc_now())).sessions == 40
    await other.shutdown()


async def test_a_session_that_is_locked_for_long_keeps_one_connection_waiting(
    provider: PostgresProvider, url: str
) -> None:
    locked, other = await create(provider), await create(provider, "other")
    writer = PostgresProvider.from_url(url, timeout=2, pool_size=6)
    await writer.initialize()
    changes = [change(locked, context_set=new_context(key=number)) for number in range(20)]
    async with connected(url) as watcher:
        async with connected(url) as connection, connection.transaction():
            await connection.execute("SELECT FROM sessions WHERE session_id = 'talk' FOR UPDATE")
            free = asyncio.ensure_future(
                writer.apply(change(other, context_set=new_context(key=1)))
            )
            waiting = [asyncio.ensure_future(writer.apply(item)) for item in changes]
            while not await watcher.fetchval("SELECT count(*) FROM context"):
                pass  # the batch waited in vain, and its changes run one by one
            samples = [await watcher.fetchval(WAITING) for _ in range(50)]
        await asyncio.gather(free, *waiting)
    assert max(samples) == 1
    look = await provider.read("default", "talk", context=True)
    assert look is not None
    assert look.context == new_context(key=19)
    await writer.shutdown()
