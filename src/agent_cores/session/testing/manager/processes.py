"""Two processes on one store, each with its own manager."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.errors import (
    RevisionMismatchError,
    SessionNotFoundError,
    TurnHeldError,
)
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said
from agent_cores.session.testing.processes import RefusedThereError, other_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.processes import OtherProcess
    from agent_cores.session.testing.store import Store


class ProcessCases(ManagerCases):
    """``other`` is another process, ``None`` if the provider declares that it is not shared."""

    @pytest.fixture
    async def other(
        self, opened: Store, manager: SessionManager, clock: ManualClock
    ) -> AsyncIterator[OtherProcess | None]:
        """Start the other process."""
        provider = await opened.open()
        assert provider.capabilities.shared == (opened.url is not None)
        if opened.url is None:
            yield None
            return
        async with other_process(opened.url, clock) as other:
            yield other

    async def test_two_processes_append_to_one_session(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        theirs = asyncio.ensure_future(
            other.do("say", session_id=talk, user_id="ann", texts=[f"b{n}" for n in range(50)])
        )
        ours = await asyncio.gather(
            *(manager.add_message(talk, "ann", "user", f"a{n}") for n in range(50))
        )
        assert sorted([message.seq for message in ours] + await theirs) == list(range(1, 101))
        expected = [f"{side}{n}" for side in "ab" for n in range(50)]
        assert sorted(map(str, await texts(manager, talk))) == sorted(expected)

    async def test_two_processes_append_to_a_session_that_one_of_them_creates(
        self, manager: SessionManager, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        said = {"session_id": "new", "user_id": "ann", "create": {"metadata": {"tags": ["x"]}}}
        for round_ in range(5):
            theirs = asyncio.ensure_future(
                other.verb("add_messages", messages=[{"role": "user", "content": "b"}], **said)
            )
            ours = await asyncio.gather(
                *(
                    manager.add_messages(
                        "new", "ann", [{"role": "user", "content": f"a{n}"}], create=True
                    )
                    for n in range(3)
                )
            )
            seqs = [message.seq for [message] in ours]
            assert sorted([*seqs, (await theirs)[0]["seq"]]) == [1, 2, 3, 4], round_
            assert sorted(map(str, await texts(manager, "new"))) == ["a0", "a1", "a2", "b"]
            await manager.delete_session("new", "ann")

    async def test_two_processes_open_one_session(
        self, manager: SessionManager, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        for round_ in range(5):
            theirs = asyncio.ensure_future(
                other.verb("open_session", session_id="new", user_id="ann")
            )
            ours = await manager.open_session("new", "ann")
            incarnation = (await theirs)["metadata"]["incarnation"]
            assert incarnation == ours.metadata.incarnation, round_
            await manager.delete_session("new", "ann")

    async def test_a_revoke_here_refuses_the_very_next_write_there(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        said = {"session_id": talk, "user_id": "bob", "role": "user"}
        await manager.share_session(talk, "ann", "bob", role="editor")
        await other.verb("add_message", content="1", **said)
        await manager.revoke_access(talk, "ann", "bob")
        with pytest.raises(RefusedThereError) as caught:
            await other.verb("add_message", content="2", **said)
        assert caught.value.type is SessionNotFoundError
        await manager.share_session(talk, "ann", "bob", role="editor")
        await other.verb("add_message", content="3", **said)
        assert await texts(manager, talk) == ["1", "3"]

    async def test_a_revoke_there_refuses_the_very_next_write_here(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        grant = {"session_id": talk, "owner_id": "ann", "target_user_id": "bob", "role": "editor"}
        with pytest.raises(SessionNotFoundError):
            await manager.add_message(talk, "bob", "user", "0")
        await other.verb("share_session", **grant)
        await manager.add_message(talk, "bob", "user", "1")
        await other.verb("revoke_access", session_id=talk, user_id="ann", target_user_id="bob")
        with pytest.raises(SessionNotFoundError):
            await manager.add_message(talk, "bob", "user", "2")
        assert await texts(manager, talk) == ["1"]

    async def test_a_session_re_created_there_is_not_met_by_what_is_remembered_here(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        await manager.add_message(talk, "ann", "user", "old")
        await other.verb("delete_session", session_id=talk, user_id="ann")
        await other.verb("create_session", user_id="eve", session_id=talk)
        for call in (
            manager.add_message(talk, "ann", "user", "no"),
            manager.delete_session(talk, "ann"),
            manager.update_session(talk, "ann", {"k": 1}),
        ):
            with pytest.raises(SessionNotFoundError):
                await call
        assert await texts(manager, talk, "eve") == []

    async def test_an_update_there_is_read_and_held_to_here(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        await manager.add_messages(talk, "ann", said(1, 2))
        update = {"session_id": talk, "user_id": "ann"}
        there = await other.verb("update_message", seq=1, content="there", **update)
        assert there["updated_at"] is not None
        assert await texts(manager, talk) == ["there", "2"]
        with pytest.raises(RevisionMismatchError):
            await manager.update_message(talk, "ann", 1, content="no", expected_revision=1)

        async def theirs() -> None:
            for n in range(8):
                await other.verb("update_message", seq=1, metadata_updates={f"b{n}": n}, **update)

        await asyncio.gather(
            theirs(),
            *(
                manager.update_message(talk, "ann", 1, metadata_updates={f"a{n}": n})
                for n in range(8)
            ),
            manager.add_messages(talk, "ann", said(3)),
        )
        [first, *_] = await manager.get_session_messages(talk, "ann")
        assert first.content == "there"
        assert first.metadata == {f"{side}{n}": n for side in "ab" for n in range(8)}

    async def test_two_processes_delete_messages_and_each_counts_its_own(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        await manager.add_messages(talk, "ann", said(*range(1, 101)))
        there = {"session_id": talk, "user_id": "ann"}
        ids = [f"m{n}" for n in range(1, 41)]
        theirs = asyncio.ensure_future(other.verb("delete_messages", ids=ids, **there))
        ours = await asyncio.gather(
            *(manager.delete_messages(talk, "ann", ids=[name]) for name in reversed(ids)),
            manager.delete_messages(talk, "ann", seqs=range(41, 51)),
            manager.add_messages(talk, "ann", said(101)),
        )
        assert sum(count for count in ours if isinstance(count, int)) + await theirs == 50
        assert await texts(manager, talk) == [str(n) for n in range(51, 102)]
        theirs = asyncio.ensure_future(other.verb("delete_messages", keep_last=20, **there))
        count, _ = await asyncio.gather(
            manager.delete_messages(talk, "ann", before_seq=91),
            manager.add_messages(talk, "ann", said(102)),
        )
        left = [int(str(text)) for text in await texts(manager, talk)]
        assert count + await theirs + len(left) == 52
        assert left == [*range(103 - len(left), 103)]
        assert len(left) <= 12

    async def test_two_processes_replace_and_pop_while_both_append(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        await manager.add_messages(talk, "ann", said(1, 2, 3))
        there = {"session_id": talk, "user_id": "ann"}
        theirs = asyncio.ensure_future(other.do("say", texts=[f"b{n}" for n in range(40)], **there))
        popping = asyncio.ensure_future(manager.pop_messages(talk, "ann", 2))
        await asyncio.gather(
            *(manager.add_message(talk, "ann", "user", f"a{n}") for n in range(40))
        )
        await theirs
        popped = await popping
        gone = [str(message.content) for message in popped]
        left = [str(text) for text in await texts(manager, talk)]
        said_all = [f"{side}{n}" for side in "ab" for n in range(40)]
        assert sorted(gone + left) == sorted(["1", "2", "3", *said_all])
        new = await manager.replace_messages(talk, "ann", said(4), after_seq=1)
        assert await texts(manager, talk) == ["1", new[0].content]

    async def test_a_process_that_appends_without_a_pause_starves_neither_a_replacement_nor_a_pop(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        await manager.add_messages(talk, "ann", said(*range(1, 11)))
        await other.do("start_appending", session_id=talk, user_id="ann", callers=8)
        popped = [await manager.pop_messages(talk, "ann") for _ in range(5)]
        gone = [message.seq for messages in popped for message in messages]
        for number in range(11, 16):
            await manager.replace_messages(talk, "ann", said(number), after_seq=1)
        added = await other.do("stop_appending")
        first, new, *later = await manager.get_session_messages(talk, "ann", 1_000, after_seq=0)
        assert (first.content, new.content) == ("1", "15")
        stayed = sorted(seq for seq in added if seq > new.seq)
        assert [message.seq for message in later] == stayed[: len(later)]
        header = (await manager.get_session(talk, "ann")).metadata
        assert header.message_count == 2 + len(stayed)
        assert len(set(gone)) == len(gone) == 5
        assert set(gone) <= {*range(2, 11), *added}

    async def test_a_turn_and_a_revision_hold_across_processes(
        self, manager: SessionManager, talk: str, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        turn = await manager.take_turn(talk, "ann")
        with pytest.raises(RefusedThereError) as caught:
            await other.verb("take_turn", session_id=talk, user_id="ann")
        assert caught.value.type is TurnHeldError
        assert turn.token is not None
        await manager.release_turn(talk, "ann", turn.token)
        await other.verb("take_turn", session_id=talk, user_id="ann")
        with pytest.raises(TurnHeldError):
            await manager.take_turn(talk, "ann")
        update = {"session_id": talk, "user_id": "ann", "context_updates": {"k": 1}}
        await other.verb("update_session", expected_revision=1, **update)
        with pytest.raises(RevisionMismatchError):
            await manager.update_session(talk, "ann", {"k": 2}, expected_revision=1)

    async def test_sweeps_of_several_processes_race_a_renewal(
        self, opened: Store, manager: SessionManager, clock: ManualClock, other: OtherProcess | None
    ) -> None:
        if other is None:
            return
        assert opened.url is not None
        for number in range(20):
            await manager.create_session("ann", ttl_hours=1, session_id=f"s{number}")
        async with AsyncExitStack() as stack:
            third = await stack.enter_async_context(other_process(opened.url, clock))
            clock.advance(3_599.999)
            renewals = [
                asyncio.ensure_future(manager.renew_session(f"s{number}", "ann"))
                for number in range(0, 20, 4)
            ]
            await asyncio.sleep(0)
            clock.advance(0.001)
            counts = await asyncio.gather(
                other.verb("clean_expired_sessions"),
                third.verb("clean_expired_sessions"),
                manager.clean_expired_sessions(),
            )
            renewed = await asyncio.gather(*renewals, return_exceptions=True)
        survived = {s.id for s in await manager.list_user_sessions("ann", limit=100)}
        lived = [
            f"s{n}"
            for n, answer in zip(range(0, 20, 4), renewed, strict=True)
            if not isinstance(answer, BaseException)
        ]
        assert survived == set(lived)
        assert sum(counts) == 20 - len(survived)
        assert await manager.get_statistics() == {"sessions": len(survived), "due": 0}
