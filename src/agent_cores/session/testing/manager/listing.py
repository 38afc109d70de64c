"""Lists of the caller's own sessions and of what others share."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models import AccessRole
from agent_cores.session.testing.manager.cases import ManagerCases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent_cores.session.models import Page, Session
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store
    from agent_cores.session.verbs.listing import Included


def ids(page: Page[Session]) -> list[str]:
    """Return the ids of a page."""
    return [session.id for session in page]


async def walk(manager: SessionManager, user_id: str, **arguments: Any) -> list[str]:  # noqa: ANN401
    """Return the ids of a whole listing, page by page."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(200):
        page = await manager.list_user_sessions(user_id, cursor=cursor, **arguments)
        assert page.has_more == (page.next_cursor is not None)
        found += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            return found
    message = "the listing does not end"
    raise AssertionError(message)


class ListingCases(ManagerCases):
    """``list_user_sessions``."""

    @pytest.fixture
    async def seven(self, manager: SessionManager, clock: ManualClock) -> list[str]:
        """Create seven sessions of Ann's, s0 to s6; return their ids, newest first."""
        for number in range(7):
            clock.advance(1)
            tags = [
                tag for tag, step in (("all", 1), ("even", 2), ("third", 3)) if not number % step
            ]
            await manager.create_session("ann", {"tags": tags}, session_id=f"s{number}")
        await manager.create_session("bob", {"tags": ["all"]}, session_id="bob's")
        return [f"s{number}" for number in reversed(range(7))]

    async def test_a_list_holds_headers_newest_first(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        page = await manager.list_user_sessions("ann")
        assert ids(page) == seven
        assert (page.has_more, page.next_cursor) == (False, None)
        for session in page:
            assert (session.context, session.messages) == (None, None)
            assert session.access_role is AccessRole.OWNER
        assert await manager.list_user_sessions("nobody") == []

    async def test_cursors_neither_skip_nor_repeat(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        for limit in (1, 2, 3, 6, 7, 8):
            assert await walk(manager, "ann", limit=limit) == seven
            even = await walk(manager, "ann", limit=limit, tags=["even"])
            assert even == ["s6", "s4", "s2", "s0"]

    async def test_a_list_has_all_the_tags(self, manager: SessionManager, seven: list[str]) -> None:
        for tags, expected in (
            ([], seven),
            (["all"], seven),
            (["third", "even"], ["s6", "s0"]),
            (["even", "third", "all"], ["s6", "s0"]),
            (["even", "odd"], []),
        ):
            assert ids(await manager.list_user_sessions("ann", tags=tags)) == expected
        await manager.update_session("s6", "ann", None, {"tags": ["odd"]})
        assert ids(await manager.list_user_sessions("ann", tags=["even", "third"])) == ["s0"]
        assert ids(await manager.list_user_sessions("ann", tags=["odd"])) == ["s6"]

    async def test_metadata_lists_what_is_equal(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        for number in range(7):
            values = {"n": number % 3, "kind": {"a": [number % 2], "b": None}, "on": number == 2}
            await manager.update_session(f"s{number}", "ann", None, values)
        wanted: tuple[tuple[dict[str, Any], set[str]], ...] = (
            ({}, {"s0", "s1", "s2", "s3", "s4", "s5", "s6"}),
            ({"n": 0}, {"s0", "s3", "s6"}),
            ({"n": 0.0}, set()),
            ({"on": True, "n": 2}, {"s2"}),
            ({"on": 1}, set()),
            ({"n": None}, set()),
            ({"other": None, "n": 1}, {"s1", "s4"}),
            ({"kind": {"b": None, "a": [1]}}, {"s1", "s3", "s5"}),
        )
        for metadata, expected in wanted:
            for limit in (1, 2, 9):
                found = await walk(manager, "ann", metadata=metadata, limit=limit)
                assert len(found) == len(expected)
                assert set(found) == expected, metadata
        both = await walk(manager, "ann", metadata={"n": 0}, tags=["even"], limit=1)
        assert set(both) == {"s0", "s6"}
        assert await walk(manager, "bob", metadata={"n": 0}) == []
        await manager.update_session("s3", "ann", None, {"n": 9})
        assert set(await walk(manager, "ann", metadata={"n": 0})) == {"s0", "s6"}

    async def test_what_is_shared_is_listed_by_metadata(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        for session_id in ("s1", "s4", "s5"):
            await manager.update_session(session_id, "ann", None, {"n": session_id})
            await manager.share_session(session_id, "ann", "bob")
        assert await walk(manager, "bob", shared=True, metadata={"n": "s4"}) == ["s4"]
        assert await walk(manager, "bob", shared=True, metadata={"n": "s2"}) == []

    async def test_an_offset_skips_that_many(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        for limit, offset in ((3, 0), (3, 2), (3, 5), (3, 7), (10, 99)):
            page = await manager.list_user_sessions("ann", None, limit, offset)
            assert ids(page) == seven[offset : offset + limit]
            assert page.has_more == (offset + limit < 7)

    async def test_a_cursor_goes_on_where_an_offset_began(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        page = await manager.list_user_sessions("ann", None, 2, 3)
        rest = await manager.list_user_sessions("ann", cursor=page.next_cursor)
        assert ids(rest) == seven[5:]

    async def test_what_did_not_change_is_found_by_a_walk_that_others_disturb(
        self, manager: SessionManager, seven: list[str], clock: ManualClock
    ) -> None:
        page = await manager.list_user_sessions("ann", limit=3)
        clock.advance(5)
        await manager.delete_session("s5", "ann")
        await manager.add_message("s6", "ann", "user", "hi")
        await manager.create_session("ann", session_id="new")
        await manager.archive_session("s4", "ann")
        rest = await manager.list_user_sessions("ann", limit=99, cursor=page.next_cursor)
        assert ids(rest) == ["s3", "s2", "s1", "s0"]

    async def test_an_append_moves_a_session_to_the_front(
        self, manager: SessionManager, seven: list[str], clock: ManualClock
    ) -> None:
        clock.advance(1)
        await manager.add_message("s2", "ann", "user", "hi")
        assert (await walk(manager, "ann"))[0] == "s2"
        clock.advance(0.1)
        await manager.update_session("s1", "ann", {"k": 1})
        assert (await walk(manager, "ann"))[0] == "s1"
        clock.advance(30)
        await manager.get_session("s3", "ann")
        await manager.renew_session("s3", "ann")
        assert (await walk(manager, "ann"))[:2] == ["s1", "s2"]

    async def test_archived_sessions_have_a_list_of_their_own(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        for session_id in ("s1", "s4"):
            await manager.archive_session(session_id, "ann")
        assert await walk(manager, "ann", limit=2) == ["s6", "s5", "s3", "s2", "s0"]
        assert await walk(manager, "ann", status="active") == ["s6", "s5", "s3", "s2", "s0"]
        assert set(await walk(manager, "ann", status="archived", limit=1)) == {"s1", "s4"}
        assert await walk(manager, "ann", status="archived", tags=["even"]) == ["s4"]
        await manager.unarchive_session("s1", "ann")
        assert await walk(manager, "ann", status="archived") == ["s4"]

    async def test_what_others_share_is_listed_by_when_it_was_shared(
        self, opened: Store, seven: list[str], clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(clock, groups_of=lambda _: ["team", "other"])
        for session_id, subject in (
            ("s3", "bob"),
            ("s0", "group:team"),
            ("s5", "group:other"),
            ("s5", "bob"),
            ("s1", "eve"),
            ("s2", "group:secret"),
            ("s6", "bob"),
        ):
            clock.advance(1)
            await manager.share_session(session_id, "ann", subject)
        clock.advance(1)
        await manager.add_message("s3", "ann", "user", "hi")
        await manager.set_visibility("s4", "ann", "public")
        expected = ["s6", "s5", "s0", "s3"]
        for limit in (1, 2, 9):
            assert await walk(manager, "bob", shared=True, limit=limit) == expected
        assert await walk(manager, "bob", shared=True, tags=["third"]) == ["s6", "s0", "s3"]
        assert await walk(manager, "bob") == ["bob's"]
        page = await manager.list_user_sessions("bob", shared=True)
        assert all(session.access_role is AccessRole.VIEWER for session in page)
        assert set(page[1].metadata.grants) == {"bob", "group:other"}
        await manager.revoke_access("s6", "ann", "bob")
        await manager.revoke_access("s5", "ann", "bob")
        assert await walk(manager, "bob", shared=True) == ["s5", "s0", "s3"]
        await manager.archive_session("s0", "ann")
        assert await walk(manager, "bob", shared=True) == ["s5", "s3"]
        assert await walk(manager, "bob", shared=True, status="archived") == ["s0"]

    async def test_a_session_stays_listed_while_one_grant_of_several_lives(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(clock, groups_of=lambda _: ["team", "other"])
        talks = {}
        for ended in ("group:team", "bob"):
            for order in (("group:team", "bob"), ("bob", "group:team")):
                talk = await manager.create_session("ann")
                for subject in order:
                    clock.advance(1)
                    end = clock() + timedelta(seconds=5) if subject == ended else None
                    await manager.share_session(talk, "ann", subject, expires_at=end)
                talks[talk] = ended
        clock.advance(20)
        assert sorted(await walk(manager, "bob", shared=True)) == sorted(talks)
        for talk, ended in talks.items():
            lives = "bob" if ended == "group:team" else "group:team"
            await manager.revoke_access(talk, "ann", lives)
        assert await walk(manager, "bob", shared=True) == []

    async def test_ones_own_sessions_are_not_what_others_share(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(clock, groups_of=lambda _: ["team"])
        talk = await manager.create_session("ann")
        await manager.share_session(talk, "ann", "group:team")
        assert await walk(manager, "bob", shared=True) == [talk]
        assert await walk(manager, "ann", shared=True) == []

    async def test_a_cursor_gives_no_authority(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        page = await manager.list_user_sessions("ann", limit=2)
        others = await manager.list_user_sessions("eve", cursor=page.next_cursor)
        assert others == []

    @pytest.mark.parametrize(
        "arguments",
        [
            {"limit": 0},
            {"limit": 1_001},
            {"limit": True},
            {"limit": 1.5},
            {"offset": -1},
            {"status": "expired"},
            {"status": "gone"},
            {"tags": "x"},
            {"tags": [""]},
            {"metadata": "x"},
            {"metadata": [1]},
            {"metadata": {"owner_id": "ann"}},
            {"metadata": {"title": "x"}},
            {"metadata": {"tags": ["x"]}},
            {"metadata": {"x": float("nan")}},
            {"metadata": {1: 2}},
            {"include": "context"},
            {"include": ["messages"]},
            {"include": [["context"]]},
            {"include": {"context": True}},
            {"include": 1},
            {"cursor": "x"},
            {"cursor": ""},
            {"cursor": "W10"},
            {"cursor": "é"},
        ],
    )
    async def test_arguments_out_of_range_are_refused(
        self, manager: SessionManager, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInputError):
            await manager.list_user_sessions("ann", **arguments)

    async def test_a_cursor_goes_with_its_own_listing_and_no_offset(
        self, manager: SessionManager, seven: list[str]
    ) -> None:
        page = await manager.list_user_sessions("ann", limit=2)
        with pytest.raises(InvalidInputError):
            await manager.list_user_sessions("ann", cursor=page.next_cursor, offset=1)
        with pytest.raises(InvalidInputError):
            await manager.list_user_sessions("ann", cursor=page.next_cursor, shared=True)

    async def test_a_page_ends_at_its_bytes_and_is_never_empty(
        self, manager: SessionManager
    ) -> None:
        """A page of a thousand sessions of 64 KB would hold 62 MB."""
        long = {"a": "x" * 65_000}
        for number in range(80):
            await manager.create_session("fay", long, session_id=f"f{number:02}")
        page = await manager.list_user_sessions("fay", limit=1_000)
        assert page.next_cursor is not None
        assert 60 <= len(page) <= 64
        rest = await manager.list_user_sessions("fay", limit=1_000, cursor=page.next_cursor)
        assert sorted(ids(page) + ids(rest)) == [f"f{number:02}" for number in range(80)]
        assert len(await manager.list_user_sessions("fay", limit=1_000, offset=70)) == 10
        assert len(await walk(manager, "fay", limit=30)) == 80

    async def test_a_long_page_of_small_sessions_is_whole(self, manager: SessionManager) -> None:
        for number in range(100):
            await manager.create_session("fay", session_id=f"f{number:02}")
        page = await manager.list_user_sessions("fay", limit=99)
        assert (len(page), page.has_more) == (99, True)
        assert len(await walk(manager, "fay", limit=1_000)) == 100

    async def test_a_list_of_ones_own_may_include_contexts_and_last_messages(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        for number in range(120):
            clock.advance(1)
            first = [{"role": "user", "content": text} for text in ("first", f"last {number}")]
            await manager.create_session(
                "ann",
                {"tags": ["even"] if not number % 2 else []},
                session_id=f"s{number:03}",
                context={"n": number},
                messages=first if number else (),
            )
        both: dict[str, Any] = {"include": ("context", "last_message"), "limit": 1_000}
        page = await manager.list_user_sessions("ann", **both)
        assert (len(page), page.has_more) == (100, True)
        rest = await manager.list_user_sessions("ann", cursor=page.next_cursor, **both)
        assert ids(page) + ids(rest) == [f"s{number:03}" for number in reversed(range(120))]
        for number, session in zip(reversed(range(120)), [*page, *rest], strict=True):
            last = [f"last {number}"] if number else []
            assert session.context == {"n": number}
            assert [message.content for message in session.messages or ()] == last
            assert session.metadata == (await manager.get_session(session.id, "ann")).metadata
        [one] = await manager.list_user_sessions("ann", limit=1, offset=119, include=["context"])
        assert (one.id, one.context, one.messages) == ("s000", {"n": 0}, None)
        [one] = await manager.list_user_sessions(
            "ann", limit=1, tags=["even"], include={"last_message"}
        )
        assert (one.context, [message.content for message in one.messages or ()]) == (
            None,
            ["last 118"],
        )
        names: Iterator[Included] = iter(("context", "last_message"))
        [one] = await manager.list_user_sessions("ann", limit=1, include=names)
        assert one.context is not None
        assert one.messages is not None
        even = await walk(manager, "ann", limit=7, tags=["even"], include=["context"])
        assert even == [f"s{number:03}" for number in range(118, -1, -2)]

    async def test_a_list_includes_only_contexts_that_the_user_may_read(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        for role in (AccessRole.VIEWER, AccessRole.EDITOR, AccessRole.VIEWER):
            clock.advance(1)
            session_id = await manager.create_session("ann", context={"secret": 1})
            await manager.add_message(session_id, "ann", "user", "Hello")
            await manager.share_session(session_id, "ann", "bob", role=role)
        shared = await manager.list_user_sessions(
            "bob", shared=True, include=["context", "last_message"]
        )
        assert [session.context for session in shared] == [None, {"secret": 1}, None]
        assert [len(session.messages or ()) for session in shared] == [1, 1, 1]
        assert [list(session.metadata.grants) for session in shared] == [["bob"]] * 3

    async def test_a_list_renews_no_session(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        session_id = await manager.create_session("ann", ttl_hours=1, renew_on="access")
        clock.advance(600)
        [listed] = await manager.list_user_sessions("ann", include=["context", "last_message"])
        assert listed.metadata.expires_at == clock() + timedelta(seconds=3_000)
        await manager.get_session(session_id, "ann")
        [listed] = await manager.list_user_sessions("ann", include=["context"])
        assert listed.metadata.expires_at == clock() + timedelta(hours=1)

    @pytest.mark.parametrize("what", ["context", "last_message"])
    async def test_a_page_with_what_is_included_ends_at_its_bytes(
        self, manager: SessionManager, what: Included
    ) -> None:
        large = "x" * 600_000
        for number in range(12):
            session_id = await manager.create_session(
                "fay",
                session_id=f"f{number:02}",
                context={"a": large} if what == "context" else None,
            )
            if what == "last_message":
                await manager.add_message(session_id, "fay", "user", large)
        page = await manager.list_user_sessions("fay", limit=100, include=[what])
        assert page.has_more
        assert 6 <= len(page) <= 10
        found = await walk(manager, "fay", limit=100, include=[what])
        assert sorted(found) == [f"f{number:02}" for number in range(12)]
