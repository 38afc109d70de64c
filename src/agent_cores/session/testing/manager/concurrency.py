"""Many tasks, and two managers on one store, each with its own header cache."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    RevisionMismatchError,
    SessionArchivedError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
)
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

TASKS = 50


class ConcurrencyCases(ManagerCases):
    """``second`` is another manager of the same store, whose header cache may be stale."""

    @pytest.fixture
    async def second(
        self, opened: Store, manager: SessionManager, clock: ManualClock
    ) -> SessionManager:
        """Open another manager."""
        return await opened.open_manager(clock)

    async def test_fifty_tasks_append_to_one_session(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        async def write(task: int) -> list[int]:
            chosen = second if task % 2 else manager
            said = [await chosen.add_message(talk, "ann", "user", f"{task}-{n}") for n in range(3)]
            return [message.seq for message in said]

        answers = await asyncio.gather(*(write(task) for task in range(TASKS)))
        assert all(seqs == sorted(seqs) for seqs in answers)
        assert sorted(chain.from_iterable(answers)) == list(range(1, 3 * TASKS + 1))
        found = await texts(manager, talk)
        assert sorted(map(str, found)) == sorted(f"{t}-{n}" for t in range(TASKS) for n in range(3))
        header = (await second.get_session(talk, "ann")).metadata
        assert (header.last_seq, header.message_count) == (3 * TASKS, 3 * TASKS)

    async def test_a_provider_of_two_managers_stays_open_until_both_have_left(
        self, opened: Store, clock: ManualClock
    ) -> None:
        provider = opened.new_provider()
        one = await opened.open_manager(clock, provider=provider)
        other = await opened.open_manager(clock, provider=provider)
        talk = await one.create_session("ann")
        await one.shutdown()
        await other.add_message(talk, "ann", "user", "one")
        await one.initialize()
        await other.shutdown()
        await one.add_message(talk, "ann", "user", "two")
        assert await texts(one, talk) == ["one", "two"]

    @pytest.mark.parametrize("which", ["the same manager", "another manager"])
    async def test_tasks_that_append_without_a_pause_starve_neither_a_replacement_nor_a_pop(
        self, manager: SessionManager, second: SessionManager, talk: str, which: str
    ) -> None:
        appending = second if which == "another manager" else manager
        await manager.add_message(talk, "ann", "user", "first")
        done = asyncio.Event()
        added: list[int] = []

        async def append() -> None:
            while not done.is_set():
                added.append((await appending.add_message(talk, "ann", "user", "more")).seq)

        tasks = [asyncio.create_task(append()) for _ in range(4)]
        gone: list[int] = []
        try:
            for _ in range(3):
                await manager.add_message(talk, "ann", "user", "one more")
                await manager.add_message(talk, "ann", "user", "and another")
                gone += [m.seq for m in await manager.pop_messages(talk, "ann", 2)]
                new = [{"role": "user", "content": "new"}]
                await manager.replace_messages(talk, "ann", new, after_seq=1)
        finally:
            done.set()
            await asyncio.gather(*tasks)
        assert len(set(gone)) == len(gone) == 6
        assert len(set(added)) == len(added)
        assert (await texts(manager, talk))[:2] == ["first", "new"]

    @pytest.mark.parametrize("content", ["4", "changed"])
    async def test_a_replacement_that_keeps_an_id_of_another_managers_append_replaces_all(
        self, manager: SessionManager, second: SessionManager, talk: str, content: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        await second.add_messages(talk, "ann", said(4, 5))
        kept = [{"id": "m4", "role": "user", "content": content}]
        [new] = await manager.replace_messages(talk, "ann", kept, after_seq=3)
        assert new.seq == 6
        assert await texts(manager, talk) == ["1", "2", "3", content]

    async def test_writers_of_different_context_keys_never_undo_each_other(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        async def write(task: int) -> None:
            chosen = second if task % 2 else manager
            for value in range(3):
                await chosen.update_session(talk, "ann", {f"key{task}": value})

        await asyncio.gather(*(write(task) for task in range(10)))
        session = await manager.get_session(talk, "ann")
        assert session.context == {f"key{task}": 2 for task in range(10)}
        assert session.metadata.revision == 31

    async def test_a_context_update_beside_fifty_appending_tasks_succeeds(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        appends = [manager.add_message(talk, "ann", "user", str(n)) for n in range(TASKS)]
        updates = [second.update_session(talk, "ann", {f"k{n}": n}) for n in range(3)]
        await asyncio.gather(*appends[:25], *updates, *appends[25:])
        session = await manager.get_session(talk, "ann")
        assert session.context == {f"k{n}": n for n in range(3)}
        assert session.metadata.message_count == TASKS

    async def test_appends_with_context_beside_plain_ones_are_whole(
        self, manager: SessionManager, talk: str
    ) -> None:
        async def write(task: int) -> None:
            context = {"last": task} if task % 3 == 0 else None
            await manager.add_message(talk, "ann", "user", str(task), context_updates=context)

        await asyncio.gather(*(write(task) for task in range(30)))
        assert sorted(map(str, await texts(manager, talk))) == sorted(map(str, range(30)))
        assert (await manager.get_session(talk, "ann")).metadata.revision == 11

    async def test_of_many_that_expect_one_revision_one_writes(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        answers = await asyncio.gather(
            *(
                (manager, second)[n % 2].update_session(talk, "ann", {"k": n}, expected_revision=1)
                for n in range(10)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, RevisionMismatchError) for answer in answers) == 9

    async def test_of_many_creates_of_one_id_one_wins(
        self, manager: SessionManager, second: SessionManager
    ) -> None:
        answers = await asyncio.gather(
            *(
                (manager, second)[n % 2].create_session(f"u{n}", session_id="one")
                for n in range(10)
            ),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, SessionExistsError) for answer in answers) == 9
        (winner,) = (n for n, answer in enumerate(answers) if answer == "one")
        assert (await manager.get_session("one", f"u{winner}")).owner_id == f"u{winner}"

    async def test_a_revoked_user_is_out_at_the_very_next_write_elsewhere(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await second.add_message(talk, "bob", "user", "1")
        await manager.revoke_access(talk, "ann", "bob")
        with pytest.raises(SessionNotFoundError):
            await second.add_message(talk, "bob", "user", "2")
        await manager.share_session(talk, "ann", "bob")
        with pytest.raises(AccessDeniedError):
            await second.update_session(talk, "bob", {"k": 1})
        await manager.share_session(talk, "ann", "bob", role="editor")
        await second.add_message(talk, "bob", "user", "3")
        assert await texts(manager, talk) == ["1", "3"]

    async def test_what_one_manager_does_the_other_goes_by(
        self, manager: SessionManager, second: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        await second.add_message(talk, "ann", "user", "1")
        await manager.archive_session(talk, "ann")
        with pytest.raises(SessionArchivedError):
            await second.add_message(talk, "ann", "user", "no")
        await manager.unarchive_session(talk, "ann")
        await second.add_message(talk, "ann", "user", "2")
        await manager.transfer_ownership(talk, "ann", "bob")
        for call in (
            second.add_message(talk, "ann", "user", "no"),
            second.delete_session(talk, "ann"),
            second.share_session(talk, "ann", "eve"),
        ):
            with pytest.raises(SessionNotFoundError):
                await call
        await second.add_message(talk, "bob", "user", "3")
        await manager.renew_session(talk, "bob", ttl_hours=1)
        clock.advance(1_800)
        await second.add_message(talk, "bob", "user", "4")
        header = (await manager.get_session(talk, "bob")).metadata
        assert header.expires_at is not None
        assert (header.expires_at - clock()).total_seconds() == 3_600

    async def test_a_re_created_session_is_not_met_by_what_is_remembered_of_the_first(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        await second.add_message(talk, "ann", "user", "old")
        await manager.delete_session(talk, "ann")
        await manager.create_session("eve", session_id=talk)
        for call in (
            second.add_message(talk, "ann", "user", "no"),
            second.update_session(talk, "ann", {"k": 1}),
            second.share_session(talk, "ann", "bob"),
            second.rewind_session(talk, "ann", 0),
            second.delete_session(talk, "ann"),
        ):
            with pytest.raises(SessionNotFoundError):
                await call
        session = await manager.get_session(talk, "eve")
        assert (session.messages, session.context, session.metadata.revision) == ([], {}, 1)
        await second.add_message(talk, "eve", "user", "new")
        assert await texts(manager, talk, "eve") == ["new"]

    async def test_a_session_re_created_by_its_owner_takes_the_write(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        await second.add_message(talk, "ann", "user", "old", message_id="m")
        await manager.delete_session(talk, "ann")
        await manager.create_session("ann", session_id=talk)
        assert (await second.add_message(talk, "ann", "user", "new", message_id="m")).seq == 1

    async def test_everything_at_once_leaves_a_session_that_adds_up(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        async def stir(task: int) -> None:
            chosen = second if task % 2 else manager
            message = await chosen.add_message(talk, "ann", "user", str(task))
            await chosen.update_session(talk, "ann", {f"k{task % 3}": task}, {"a": task})
            await chosen.share_session(talk, "ann", f"u{task % 4}", role="editor")
            if task % 5 == 0:
                await chosen.delete_message(talk, "ann", message.seq)
            if task % 4 == 0:
                await chosen.revoke_access(talk, "ann", f"u{task % 4}")

        await asyncio.gather(*(stir(task) for task in range(20)))
        session = await manager.get_session(talk, "ann")
        assert session.messages is not None
        assert len(session.messages) == session.metadata.message_count == 16
        assert session.metadata.last_seq == 20
        assert len({message.seq for message in session.messages}) == 16
        assert set(session.context or ()) == {"k0", "k1", "k2"}

    async def test_a_cancelled_append_is_whole_or_absent(
        self, manager: SessionManager, talk: str
    ) -> None:
        for number in range(20):
            batch = [{"role": "user", "content": "x", "id": f"{number}-{n}"} for n in range(3)]
            task = asyncio.ensure_future(manager.add_messages(talk, "ann", batch))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        seen = await manager.get_session(talk, "ann", message_limit=100)  # some are in flight
        assert seen.messages is not None
        count = seen.metadata.message_count
        assert count % 3 == 0
        assert len(seen.messages) == count == seen.metadata.last_seq
        for number in range(20):
            batch = [{"role": "user", "content": "x", "id": f"{number}-{n}"} for n in range(3)]
            await manager.add_messages(talk, "ann", batch)
        assert len(await texts(manager, talk)) == 60

    async def test_a_delete_beside_appends_leaves_nothing_or_all(
        self, manager: SessionManager, second: SessionManager, talk: str
    ) -> None:
        calls = [second.add_message(talk, "ann", "user", str(n)) for n in range(20)]
        answers = await asyncio.gather(
            *calls[:10], manager.delete_session(talk, "ann"), *calls[10:], return_exceptions=True
        )
        assert answers[10] is True
        for answer in answers:
            assert not isinstance(answer, BaseException) or isinstance(answer, SessionNotFoundError)
        with pytest.raises(SessionError):
            await manager.get_session(talk, "ann")
        await manager.create_session("ann", session_id=talk)
        assert await texts(second, talk) == []
