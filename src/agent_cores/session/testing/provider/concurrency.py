"""Concurrent tasks on one provider, and tasks that are cancelled."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from agent_cores.session.errors import (
    RevisionMismatchError,
    SessionError,
    SessionExistsError,
    StorageUnavailableError,
    TurnHeldError,
)
from agent_cores.session.models import TurnEffect
from agent_cores.session.testing.oracle import EVERYTHING
from agent_cores.session.testing.provider.appends import created
from agent_cores.session.testing.provider.cases import ProviderCases
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)

if TYPE_CHECKING:
    from agent_cores.session.models import Applied, Change, SessionMetadata, StoredMessage
    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.testing.beside import Beside
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

TASKS = 50


async def all_messages(provider: StorageProvider) -> list[StoredMessage]:
    """Return every message of the session ``talk``."""
    snapshot = await provider.read("default", "talk", window=EVERYTHING)
    assert snapshot is not None
    assert snapshot.messages is not None
    assert snapshot.header.message_count == len(snapshot.messages)
    return snapshot.messages


class ConcurrencyCases(ProviderCases):
    """``apply`` from many tasks."""

    async def test_fifty_tasks_append_to_one_session(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)

        async def write(task: int) -> list[int]:
            seqs = []
            for turn in range(4):
                message = new_message(f"t{task}-{turn}", at=clock())
                hot = header if (task + turn) % 2 else None
                change = change_of(header, clock(), append=(message,), basis=hot)
                seqs.append((await beside.provider.apply(change)).messages[0].seq)
            return seqs

        answers = await asyncio.gather(*(write(task) for task in range(TASKS)))
        assert all(seqs == sorted(seqs) for seqs in answers)
        assert sorted(chain.from_iterable(answers)) == list(range(2, 4 * TASKS + 2))
        messages = await all_messages(beside.provider)
        assert [message.seq for message in messages] == list(range(1, 4 * TASKS + 2))
        assert len({message.id for message in messages}) == 4 * TASKS + 1

    async def test_batches_are_never_mixed(self, beside: Beside, clock: ManualClock) -> None:
        header = await created(beside, clock)

        async def write(task: int) -> list[int]:
            batch = tuple(new_message(f"t{task}-{n}", at=clock()) for n in range(5))
            change = change_of(header, clock(), append=batch, basis=header)
            return [message.seq for message in (await beside.provider.apply(change)).messages]

        answers = await asyncio.gather(*(write(task) for task in range(20)))
        assert all(seqs == list(range(seqs[0], seqs[0] + 5)) for seqs in answers)
        assert sorted(chain.from_iterable(answers)) == list(range(2, 102))

    async def test_one_message_sent_many_times_at_once_is_stored_once(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        message = new_message("a", at=clock())
        change = change_of(header, clock(), append=(message,), basis=header)
        answers = await asyncio.gather(*(beside.provider.apply(change) for _ in range(20)))
        assert [answer.messages[0].seq for answer in answers] == [2] * 20
        assert sum(not answer.replayed for answer in answers) == 1
        assert len(await all_messages(beside.provider)) == 2

    async def test_writers_of_different_context_keys_never_undo_each_other(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)

        async def write(task: int) -> None:
            for value in range(4):
                entry = new_context(**{f"key{task}": value})
                await beside.provider.apply(change_of(header, clock(), context_set=entry))

        await asyncio.gather(*(write(task) for task in range(10)))
        snapshot = await beside.provider.read("default", "talk", context=True)
        assert snapshot is not None
        assert snapshot.context == new_context(**{f"key{task}": 3 for task in range(10)})
        assert snapshot.header.revision == 41

    async def test_a_context_update_beside_fifty_appends_succeeds(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)

        async def write(task: int) -> Applied:
            message = new_message(f"t{task}", at=clock())
            change = change_of(header, clock(), append=(message,), basis=header)
            return await beside.provider.apply(change)

        context = change_of(header, clock(), context_set=new_context(k=1))
        tasks = [*(write(task) for task in range(TASKS)), beside.provider.apply(context)]
        answers = await asyncio.gather(*tasks)
        assert answers[-1].header.revision == 2
        assert len(await all_messages(beside.provider)) == TASKS + 1

    async def test_of_many_that_expect_one_revision_one_writes(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        changes = [
            change_of(header, clock(), metadata={"by": task}, expected_revision=1)
            for task in range(10)
        ]
        assert await _refusals(beside.provider, *changes) == [RevisionMismatchError] * 9

    async def test_of_many_creates_of_one_id_one_wins(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        old = new_header(at=clock(), ttl_seconds=1)
        await beside.provider.apply(creation(old, append=(new_message("m", at=clock()),)))
        clock.advance(1)
        changes = [
            creation(new_header(at=clock(), incarnation=number, owner_id=f"user{number}"))
            for number in range(2, 12)
        ]
        assert await _refusals(beside.provider, *changes) == [SessionExistsError] * 9
        assert await all_messages(beside.provider) == []

    async def test_of_two_takers_of_a_free_and_of_an_expired_turn_one_wins(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        for _ in range(2):
            end = clock() + timedelta(seconds=30)
            tokens = (f"one {end}", f"two {end}")
            changes = [
                change_of(
                    header, clock(), turn_effect=TurnEffect(token=token, lease_end=end, take=True)
                )
                for token in tokens
            ]
            assert await _refusals(beside.provider, *changes) == [TurnHeldError]
            clock.advance(30)

    async def test_a_cancelled_append_is_whole_or_absent_and_can_be_repeated(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        changes = []
        for number in range(30):
            batch = tuple(new_message(f"c{number}-{n}", at=clock()) for n in range(3))
            change = change_of(header, clock(), append=batch, basis=header)
            changes.append(change)
            task = asyncio.ensure_future(beside.provider.apply(change))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        counted = len(await all_messages(beside.provider))
        assert counted % 3 == 1
        answers = await asyncio.gather(*(beside.provider.apply(change) for change in changes))
        assert all(len(answer.messages) == 3 for answer in answers)
        messages = await all_messages(beside.provider)
        assert [message.seq for message in messages] == list(range(1, 92))

    async def test_a_cancelled_write_takes_effect_before_a_later_one_or_never(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        for number in range(60):
            ids = (f"{number:02}, cancelled {n:02}" for n in range(20))
            batch = tuple(new_message(each, "x" * 1_000, at=clock()) for each in ids)
            change = change_of(header, clock(), append=batch, basis=header)
            task = asyncio.ensure_future(beside.provider.apply(change))
            for _ in range(number % 6):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await beside.provider.apply(_append(header, clock, f"{number:02}, later"))
        stored = [message.id for message in (await all_messages(beside.provider))[1:]]
        assert stored == sorted(stored)
        assert [found for found in stored if "later" in found] == [
            f"{number:02}, later" for number in range(60)
        ]

    async def test_a_cancelled_caller_takes_nobody_elses_write_along(
        self, beside: Beside, clock: ManualClock
    ) -> None:
        header = await created(beside, clock)
        tasks = [
            asyncio.ensure_future(beside.provider.apply(_append(header, clock, f"t{task}")))
            for task in range(20)
        ]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        kept = {message.id for message in await all_messages(beside.provider)}
        assert kept >= {f"t{task}" for task in range(1, 20, 2)}
        assert not any(isinstance(answer, BaseException) for answer in answers[1::2])

    async def test_a_shutdown_finishes_what_was_accepted(
        self, store: Store, beside: Beside, clock: ManualClock
    ) -> None:
        provider = beside.provider
        header = await created(beside, clock)
        tasks = [
            asyncio.ensure_future(provider.apply(_append(header, clock, f"t{task}")))
            for task in range(TASKS)
        ]
        await asyncio.sleep(0)
        await provider.shutdown()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, StorageUnavailableError), (
                    f"a call that shutdown overtakes raises StorageUnavailableError, not {answer!r}"
                )
        if provider.capabilities.durable:
            kept = {message.id for message in await all_messages(await store.open())}
            acknowledged = {
                answer.messages[0].id for answer in answers if not isinstance(answer, BaseException)
            }
            assert acknowledged <= kept

    async def test_one_bad_write_spoils_no_other(self, beside: Beside, clock: ManualClock) -> None:
        header = await created(beside, clock)
        good = [_append(header, clock, f"t{number}") for number in range(10)]
        bad = [
            change_of(header, clock(), append=(new_message("x", at=clock()),), turn="lost"),
            change_of(new_header("absent", at=clock()), clock(), append=(good[0].append[0],)),
            change_of(header, clock(), append=(new_message("m0", "other", at=clock()),)),
        ]
        mixed = [*good[:3], bad[0], *good[3:6], bad[1], *good[6:], bad[2]]
        answers = await asyncio.gather(
            *(beside.provider.apply(change) for change in mixed), return_exceptions=True
        )
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(failed) == 3
        assert all(isinstance(error, SessionError) for error in failed)
        assert len(await all_messages(beside.provider)) == 11


def _append(header: SessionMetadata, clock: ManualClock, message_id: str) -> Change:
    message = new_message(message_id, at=clock())
    return change_of(header, clock(), append=(message,), basis=header)


async def _refusals(provider: StorageProvider, *changes: Change) -> list[type[BaseException]]:
    """Apply changes concurrently and return our errors; raise any other error."""
    answers = await asyncio.gather(
        *(provider.apply(change) for change in changes), return_exceptions=True
    )
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in errors:
        if not isinstance(error, SessionError):
            raise error
    return [type(error) for error in errors]
