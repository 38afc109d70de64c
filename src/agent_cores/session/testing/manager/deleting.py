"""Messages read and deleted by name, and the oldest ones deleted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionArchivedError,
    SessionError,
    SessionNotFoundError,
    TurnLostError,
)
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said, seqs

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager


class DeletingCases(ManagerCases):
    """``get_messages`` and ``delete_messages``."""

    async def test_messages_are_read_by_id(self, manager: SessionManager, talk: str) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 9)))
        await manager.delete_message(talk, "ann", 4)
        page = await manager.get_messages(talk, "ann", ids=["m7", "gone", "m4", "m2", "m7"])
        assert [(message.seq, message.id, message.content) for message in page] == [
            (2, "m2", "2"),
            (7, "m7", "7"),
        ]
        session = await manager.get_session(talk, "ann")
        assert (page.has_more, page.last_seq) == (False, 8)
        assert page.version == session.version
        assert await manager.get_messages(talk, "ann", ids=["gone"]) == []
        empty = await manager.get_messages(talk, "ann", ids=[])
        assert (list(empty), empty.has_more, empty.last_seq) == ([], False, 8)
        assert seqs(await manager.get_messages(talk, "ann", ids=(f"m{n}" for n in (3, 1)))) == [
            1,
            3,
        ]

    async def test_many_messages_are_read_by_id(self, manager: SessionManager, talk: str) -> None:
        numbers = range(1, 301)
        await manager.add_messages(talk, "ann", said(*numbers))
        ids = [f"m{number}" for number in reversed(numbers)]
        assert seqs(await manager.get_messages(talk, "ann", ids=ids)) == list(numbers)
        assert await manager.delete_messages(talk, "ann", ids=ids[:299]) == 299
        assert await texts(manager, talk) == ["1"]

    @pytest.mark.parametrize(
        "ids", ["m1", b"m1", None, 1, [1], [""], ["a\nb"], ["x" * 256], ["m"] * 1_001]
    )
    async def test_ids_are_a_list_of_at_most_a_thousand_names(
        self,
        manager: SessionManager,
        talk: str,
        ids: Any,  # noqa: ANN401
    ) -> None:
        await manager.add_messages(talk, "ann", said(1))
        with pytest.raises(InvalidInputError) as caught:
            await manager.get_messages(talk, "ann", ids=ids)
        assert caught.value.field.startswith("ids")
        with pytest.raises(InvalidInputError):
            await manager.delete_messages(talk, "ann", ids=ids)
        with pytest.raises(SessionNotFoundError):
            await manager.get_messages(talk, "eve", ids=ids)
        assert await texts(manager, talk) == ["1"]

    async def test_named_messages_are_deleted(self, manager: SessionManager, talk: str) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 10)))
        before = (await manager.get_session(talk, "ann")).metadata
        assert await manager.delete_messages(talk, "ann", ids=["m8", "m2", "gone", "m8"]) == 2
        assert await manager.delete_messages(talk, "ann", seqs=[9, 2, 1, 99, 1]) == 2
        assert await manager.delete_messages(talk, "ann", seqs=[2], expected_last_seq=9) == 0
        assert await manager.delete_messages(talk, "ann", ids=[]) == 0
        assert await texts(manager, talk) == ["3", "4", "5", "6", "7"]
        after = (await manager.get_session(talk, "ann")).metadata
        assert (after.message_count, after.last_seq) == (5, 9)
        assert after.revision == before.revision + 2
        [again] = await manager.add_messages(talk, "ann", said(2))
        assert again.seq == 10

    async def test_the_oldest_messages_are_deleted(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 10)))
        await manager.delete_message(talk, "ann", 4)
        assert await manager.delete_messages(talk, "ann", before_seq=3) == 2
        assert await manager.delete_messages(talk, "ann", before_seq=3) == 0
        assert await manager.delete_messages(talk, "ann", keep_last=4) == 2
        assert await manager.delete_messages(talk, "ann", keep_last=4) == 0
        assert await texts(manager, talk) == ["6", "7", "8", "9"]
        assert await manager.delete_messages(talk, "ann", keep_last=2**62) == 0
        assert await manager.delete_messages(talk, "ann", keep_last=0) == 4
        assert await texts(manager, talk) == []
        assert await manager.delete_messages(talk, "ann", before_seq=2**62) == 0
        [again] = await manager.add_messages(talk, "ann", said(2))
        assert again.seq == 10

    async def test_exactly_one_selector_is_given(self, manager: SessionManager, talk: str) -> None:
        await manager.add_messages(talk, "ann", said(1))
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {"ids": ["m1"], "seqs": [1]},
            {"seqs": [1], "keep_last": 0},
            {"before_seq": 2, "keep_last": 0},
            {"seqs": [0]},
            {"seqs": ["1"]},
            {"seqs": [True]},
            {"seqs": 1},
            {"seqs": [1] * 1_001},
            {"before_seq": -1},
            {"before_seq": "2"},
            {"keep_last": -1},
            {"keep_last": 0, "expected_last_seq": -1},
        )
        for arguments in wrong:
            with pytest.raises(InvalidInputError):
                await manager.delete_messages(talk, "ann", **arguments)
            with pytest.raises(SessionNotFoundError):
                await manager.delete_messages(talk, "eve", **arguments)
        assert await texts(manager, talk) == ["1"]

    async def test_an_editor_deletes_what_they_wrote_or_nothing(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.share_session(talk, "ann", "vic", role="viewer")
        await manager.add_messages(talk, "ann", said(1, 2))
        await manager.add_messages(talk, "bob", said(3, 4, 5))
        for remove in (
            {"ids": ["m3", "m2"]},
            {"seqs": [3, 2]},
            {"keep_last": 0},
            {"before_seq": 1},
        ):
            for user_id in ("bob", "vic"):
                with pytest.raises(AccessDeniedError):
                    await manager.delete_messages(talk, user_id, **remove)
            with pytest.raises(SessionNotFoundError):
                await manager.delete_messages(talk, "eve", **remove)
        assert await texts(manager, talk) == ["1", "2", "3", "4", "5"]
        assert await manager.delete_messages(talk, "bob", ids=["m4", "gone"]) == 1
        assert await manager.delete_messages(talk, "bob", seqs=[4, 5]) == 1
        assert await manager.delete_messages(talk, "ann", ids=["m3", "m1"]) == 2
        assert await texts(manager, talk) == ["2"]

    async def test_a_former_owner_deletes_their_own_messages(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(1, 2))
        await manager.transfer_ownership(talk, "ann", "bob", keep_role="editor")
        await manager.add_messages(talk, "bob", said(3))
        assert await manager.delete_messages(talk, "ann", ids=["m1"]) == 1
        with pytest.raises(AccessDeniedError):
            await manager.delete_messages(talk, "ann", ids=["m2", "m3"])
        assert await manager.delete_messages(talk, "bob", ids=["m2", "m3"]) == 2

    async def test_a_deletion_is_refused_as_a_whole(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.share_session(talk, "ann", "bob", role="editor")
        await manager.add_messages(talk, "bob", said(1, 2, 3))
        refusals: tuple[tuple[type[SessionError], dict[str, Any]], ...] = (
            (LastSeqMismatchError, {"expected_last_seq": 2}),
            (RevisionMismatchError, {"expected_revision": 99}),
            (TurnLostError, {"turn": "nobody's"}),
        )
        for error, condition in refusals:
            for user_id, remove in (
                ("ann", {"keep_last": 1}),
                ("ann", {"ids": ["m1"]}),
                ("bob", {"seqs": [1]}),
            ):
                with pytest.raises(error):
                    await manager.delete_messages(talk, user_id, **remove, **condition)
        turn = await manager.take_turn(talk, "ann")
        session = await manager.get_session(talk, "ann")
        held: dict[str, Any] = {
            "expected_last_seq": 3,
            "turn": turn.token,
            "expected_version": session.version,
        }
        assert await manager.delete_messages(talk, "ann", before_seq=3, **held) == 2
        await manager.archive_session(talk, "ann")
        for remove in ({"keep_last": 0}, {"ids": ["m3"]}, {"seqs": [3]}):
            with pytest.raises(SessionArchivedError):
                await manager.delete_messages(talk, "ann", **remove)
        assert await texts(manager, talk) == ["3"]

    async def test_concurrent_deletions_count_each_message_once(
        self, manager: SessionManager, talk: str
    ) -> None:
        await manager.add_messages(talk, "ann", said(*range(1, 31)))
        counts = await asyncio.gather(
            *(manager.delete_messages(talk, "ann", keep_last=10) for _ in range(3)),
            *(manager.delete_messages(talk, "ann", ids=["m3", "m25"]) for _ in range(3)),
            *(manager.add_messages(talk, "ann", said(n)) for n in range(40, 44)),
        )
        deleted = sum(count for count in counts if isinstance(count, int))
        header = (await manager.get_session(talk, "ann")).metadata
        left = await texts(manager, talk)
        assert header.message_count == len(left) == 34 - deleted
        assert {"40", "41", "42", "43"} <= set(left)
        assert "25" not in left

    async def test_a_page_of_named_messages_ends_at_four_mib(
        self, manager: SessionManager, talk: str
    ) -> None:
        for number in range(1, 7):
            large = [{**one, "content": "x" * 1_000_000} for one in said(number)]
            await manager.add_messages(talk, "ann", large)
        ids = [f"m{number}" for number in (6, 5, 4, 3, 2, 1)]
        page = await manager.get_messages(talk, "ann", ids=ids)
        assert (seqs(page), page.has_more) == ([1, 2, 3, 4], True)
        rest = await manager.get_messages(talk, "ann", ids=ids[:2])
        assert (seqs(rest), rest.has_more) == ([5, 6], False)
        await manager.share_session(talk, "ann", "bob", role="editor")
        with pytest.raises(AccessDeniedError):
            await manager.delete_messages(talk, "bob", ids=ids)
        assert await manager.delete_messages(talk, "ann", ids=ids) == 6
