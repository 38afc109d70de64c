"""Operators: the program itself, with the owner's rights in every session of its namespace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    SessionExpiredError,
    SessionNotFoundError,
    UnsupportedError,
)
from agent_cores.session.models import AccessRole, ImportedMessage, NewMessage
from agent_cores.session.testing.manager.access import VERBS
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.listing import ids

if TYPE_CHECKING:
    from agent_cores.session.manager import SessionOperator
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store


async def walk_all(operator: SessionOperator, **arguments: Any) -> list[str]:  # noqa: ANN401
    """Return the ids of a whole listing, page by page."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(200):
        page = await operator.list_sessions(cursor=cursor, **arguments)
        found += ids(page)
        cursor = page.next_cursor
        if cursor is None:
            return found
    message = "the listing does not end"
    raise AssertionError(message)


class OperatorCases(ManagerCases):
    """``manager.as_operator(name)``."""

    @pytest.fixture
    async def operator(self, manager: SessionManager) -> SessionOperator:
        """Make a view for the program itself."""
        return manager.as_operator("console")

    async def test_an_operator_acts_as_the_owner_of_a_private_session(
        self, manager: SessionManager, operator: SessionOperator, talk: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi")
        await manager.share_session(talk, "ann", "bob", role="editor")
        session = await operator.get_session(talk, "console")
        assert session.access_role is AccessRole.OWNER
        assert session.context == {}
        assert set(session.metadata.grants) == {"bob"}
        written = await operator.add_message(talk, "support", "assistant", "hello")
        assert written.author_id == "support"
        assert await texts(manager, talk) == ["hi", "hello"]
        assert (await manager.get_session(talk, "ann")).owner_id == "ann"

    @pytest.mark.parametrize("verb", VERBS)
    async def test_an_operator_may_do_what_the_owner_may(
        self, manager: SessionManager, operator: SessionOperator, talk: str, verb: str
    ) -> None:
        await manager.add_message(talk, "ann", "user", "hi")
        _, call = VERBS[verb]
        await call(operator, "support")

    async def test_a_user_is_no_operator_whatever_the_name(
        self, manager: SessionManager, operator: SessionOperator, talk: str
    ) -> None:
        await operator.get_session(talk, "console")
        for user_id in ("console", "operator"):
            with pytest.raises(SessionNotFoundError):
                await manager.get_session(talk, user_id)
            with pytest.raises(SessionNotFoundError):
                await manager.add_message(talk, user_id, "user", "no")
        await manager.share_session(talk, "ann", "console")
        with pytest.raises(AccessDeniedError):
            await manager.add_message(talk, "console", "user", "no")
        assert await texts(manager, talk) == []

    async def test_a_missing_session_is_not_found(
        self, manager: SessionManager, operator: SessionOperator, talk: str
    ) -> None:
        await manager.delete_session(talk, "ann")
        for session_id in (talk, "other", "a/b"):
            with pytest.raises(SessionNotFoundError):
                await operator.get_session(session_id, "console")
            with pytest.raises(SessionNotFoundError):
                await operator.add_message(session_id, "console", "user", "x")

    async def test_an_operator_learns_that_a_session_has_expired(
        self, manager: SessionManager, operator: SessionOperator, clock: ManualClock
    ) -> None:
        talk = await manager.create_session("ann", ttl_hours=1)
        await operator.add_message(talk, "support", "user", "x")
        clock.advance(3_601)
        with pytest.raises(SessionExpiredError):
            await operator.add_message(talk, "support", "user", "x")
        with pytest.raises(SessionExpiredError):
            await operator.get_session(talk, "support")

    async def test_a_write_of_an_operator_outlives_changes_of_access(
        self, opened: Store, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        other = await opened.open_manager(clock)
        operator = other.as_operator("console")
        await operator.add_message(talk, "support", "user", "first")
        await manager.share_session(talk, "ann", "bob")
        await manager.transfer_ownership(talk, "ann", "eve")
        await operator.add_message(talk, "support", "user", "second")
        assert await texts(manager, talk, "eve") == ["first", "second"]

    async def test_a_transfer_by_an_operator_keeps_a_role_for_the_old_owner(
        self, manager: SessionManager, operator: SessionOperator, talk: str
    ) -> None:
        await operator.transfer_ownership(talk, "support", "bob", keep_role="viewer")
        assert (await manager.get_session(talk, "ann")).access_role is AccessRole.VIEWER
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(talk, "support")

    async def test_an_operator_reaches_no_other_namespace(
        self, opened: Store, operator: SessionOperator, talk: str, clock: ManualClock
    ) -> None:
        tenant = await opened.open_manager(clock, namespace="team-a")
        other = tenant.as_operator("console")
        with pytest.raises(SessionNotFoundError):
            await other.get_session(talk, "ann")
        assert await other.list_sessions(owner_id="ann") == []
        assert (await other.count_sessions(owner_id="ann")).sessions == 0
        with pytest.raises(UnsupportedError):
            operator.for_namespace("team-a")
        assert ids(await operator.list_sessions(owner_id="ann")) == [talk]

    async def test_an_owners_sessions_are_listed_and_counted(
        self, manager: SessionManager, operator: SessionOperator, clock: ManualClock
    ) -> None:
        for number in range(7):
            clock.advance(2)
            given = {"tags": ["even"] if number % 2 == 0 else [], "n": number % 3}
            await manager.create_session("ann", given, session_id=f"s{number}")
        await manager.create_session("bob", session_id="bob's")
        await manager.archive_session("s5", "ann")
        wanted: tuple[tuple[dict[str, Any], list[str]], ...] = (
            ({}, ["s6", "s4", "s3", "s2", "s1", "s0"]),
            ({"tags": ["even"]}, ["s6", "s4", "s2", "s0"]),
            ({"status": "archived"}, ["s5"]),
            ({"metadata": {"n": 0}}, ["s6", "s3", "s0"]),
            ({"metadata": {"n": 0}, "tags": ["even"]}, ["s6", "s0"]),
        )
        for filters, expected in wanted:
            for limit in (1, 2, 9):
                assert await walk_all(operator, owner_id="ann", limit=limit, **filters) == expected
            count = await operator.count_sessions(owner_id="ann", **filters)
            assert (count.sessions, count.complete) == (len(expected), True)
            assert count.next_cursor is None
        page = await operator.list_sessions(owner_id="ann", limit=1)
        assert page[0].access_role is AccessRole.OWNER
        assert (page[0].context, page[0].messages) == (None, None)
        rest = await operator.count_sessions(owner_id="ann", cursor=page.next_cursor)
        assert rest.sessions == 5

    async def test_the_sessions_of_a_namespace_are_listed_by_creation(
        self, opened: Store, manager: SessionManager, operator: SessionOperator, clock: ManualClock
    ) -> None:
        tenant = await opened.open_manager(clock, namespace="team-a")
        made = []
        for number in range(9):
            made.append(clock.advance(2))
            given = {"tags": ["even"] if number % 2 == 0 else ["odd"], "n": number % 3}
            owner_id = ("ann", "bob", "eve")[number % 3]
            await manager.create_session(owner_id, given, session_id=f"s{number}")
            await tenant.create_session("ann", given, session_id=f"t{number}")
        await manager.archive_session("s5", "eve")
        await manager.delete_session("s7", "bob")
        await manager.update_session("s3", "ann", None, {"tags": ["even", "late"]})
        await manager.transfer_ownership("s2", "eve", "bob")
        await manager.add_message("s0", "ann", "user", "hi")
        wanted: tuple[tuple[dict[str, Any], list[str]], ...] = (
            ({}, ["s8", "s6", "s4", "s3", "s2", "s1", "s0"]),
            ({"tags": ["even"]}, ["s8", "s6", "s4", "s3", "s2", "s0"]),
            ({"tags": ["late", "even"]}, ["s3"]),
            ({"tags": ["odd"]}, ["s1"]),
            ({"tags": ["odd"], "status": "archived"}, ["s5"]),
            ({"status": "archived"}, ["s5"]),
            ({"metadata": {"n": 0}}, ["s6", "s3", "s0"]),
            ({"metadata": {"n": 0}, "tags": ["even"]}, ["s6", "s3", "s0"]),
            ({"created_after": made[4]}, ["s8", "s6"]),
            ({"active_after": made[8]}, []),
        )
        for filters, expected in wanted:
            for limit in (1, 2, 9):
                assert await walk_all(operator, limit=limit, **filters) == expected, filters
            assert (await operator.count_sessions(**filters)).sessions == len(expected)
        page = await operator.list_sessions(limit=2, order="created", include=["last_message"])
        assert [session.owner_id for session in page] == ["eve", "ann"]
        with pytest.raises(InvalidInputError):
            await operator.list_sessions(owner_id="ann", cursor=page.next_cursor)
        with pytest.raises(InvalidInputError):
            await manager.list_user_sessions("ann", cursor=page.next_cursor)
        with pytest.raises(InvalidInputError):
            await operator.list_sessions(order="active")
        with pytest.raises(InvalidInputError):
            await operator.list_sessions(owner_id="ann", order="created")

    async def test_times_bound_a_list(
        self, manager: SessionManager, operator: SessionOperator, clock: ManualClock
    ) -> None:
        made: list[datetime] = []
        for number in range(5):
            made.append(clock.advance(10))
            await manager.create_session("ann", session_id=f"s{number}")
        clock.advance(10)
        await manager.add_message("s1", "ann", "user", "hi")
        clock.advance(0.5)
        await manager.add_message("s1", "ann", "user", "again")
        late: dict[str, Any] = {"owner_id": "ann", "created_after": made[2]}
        assert await walk_all(operator, limit=1, **late) == ["s4", "s3"]
        active: dict[str, Any] = {"owner_id": "ann", "active_after": made[3]}
        assert await walk_all(operator, limit=1, **active) == ["s1", "s4"]
        recent: dict[str, Any] = {
            "owner_id": "ann",
            "active_after": clock() - timedelta(seconds=0.2),
        }
        assert await walk_all(operator, **recent) == ["s1"]
        assert await walk_all(operator, owner_id="ann", active_after=clock()) == []
        assert (await operator.count_sessions(**active)).sessions == 2

    async def test_a_list_may_include_contexts_and_last_messages(
        self, manager: SessionManager, operator: SessionOperator, clock: ManualClock
    ) -> None:
        for number in range(20):
            clock.advance(1)
            context = {"n": number}
            await manager.create_session("ann", session_id=f"s{number:02}", context=context)
            for text in ("first", f"last {number}"):
                if number:
                    await manager.add_message(f"s{number:02}", "ann", "user", text)
        page = await operator.list_sessions(
            owner_id="ann", include=["context", "last_message"], limit=19
        )
        assert ids(page) == [f"s{number:02}" for number in range(19, 0, -1)]
        assert page.has_more
        for number, session in zip(range(19, 0, -1), page, strict=True):
            assert session.context == {"n": number}
            assert [m.content for m in session.messages or ()] == [f"last {number}"]
        [last] = await operator.list_sessions(
            owner_id="ann", include=["last_message"], cursor=page.next_cursor
        )
        assert (last.context, last.messages) == (None, [])

    async def test_imports_keep_when_and_by_whom_a_message_was_created(
        self, manager: SessionManager, operator: SessionOperator, talk: str, clock: ManualClock
    ) -> None:
        long_ago = datetime(2020, 2, 29, 12, 0, 0, 123_000, tzinfo=UTC)
        later = long_ago + timedelta(days=1)
        batch: list[NewMessage | dict[str, Any]] = [
            ImportedMessage("user", "a", "m1", {"k": 1}, long_ago, "bob"),
            {"role": "assistant", "content": "b", "created_at": later},
            NewMessage("user", "c"),
            {"role": "user", "content": [1], "author_id": "eve"},
        ]
        stored = await operator.add_messages(talk, "support", batch)
        now = clock()
        expected = [(long_ago, "bob"), (later, "support"), (now, "support"), (now, "eve")]
        assert [(message.created_at, message.author_id) for message in stored] == expected
        assert list(await manager.get_session_messages(talk, "ann")) == stored
        assert [message.seq for message in stored] == [1, 2, 3, 4]
        assert (await manager.get_session(talk, "ann")).metadata.last_active_at == now
        again = await operator.add_messages(talk, "support", batch[:1])
        assert again == stored[:1]
        [put] = await operator.replace_messages(
            talk, "ann", [ImportedMessage("user", "z", None, None, later, "bob")], after_seq=1
        )
        assert (put.created_at, put.author_id) == (later, "bob")

    async def test_only_operators_import(
        self, manager: SessionManager, operator: SessionOperator, talk: str, clock: ManualClock
    ) -> None:
        at = datetime(2020, 1, 1, tzinfo=UTC)
        imports: tuple[NewMessage | dict[str, Any], ...] = (
            {"role": "user", "content": "x", "created_at": at},
            {"role": "user", "content": "x", "author_id": "bob"},
            ImportedMessage("user", "x", created_at=at),
            ImportedMessage("user", "x", author_id="ann"),
        )
        for given in imports:
            with pytest.raises(InvalidInputError):
                await manager.add_messages(talk, "ann", [given])
            with pytest.raises(SessionNotFoundError):
                await manager.add_messages(talk, "eve", [given])
        for wrong in (
            {"created_at": clock() + timedelta(seconds=1)},
            {"created_at": datetime(2020, 1, 1)},  # noqa: DTZ001 - without a time zone
            {"author_id": "group:x"},
            {"author_id": ""},
        ):
            with pytest.raises(InvalidInputError):
                await operator.add_messages(talk, "ann", [{"role": "a", "content": "x", **wrong}])
        assert await texts(manager, talk) == []

    @pytest.mark.parametrize(
        "arguments",
        [
            {"owner_id": ""},
            {"owner_id": "group:x"},
            {"status": "expired"},
            {"include": "context"},
            {"include": ["messages"]},
            {"limit": 0},
            {"created_after": datetime(2026, 1, 1)},  # noqa: DTZ001 - without a time zone
            {"cursor": "x"},
            {"metadata": {"title": "x"}},
        ],
    )
    async def test_arguments_of_an_operator_are_checked(
        self, operator: SessionOperator, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidInputError) as caught:
            await operator.list_sessions(**{"owner_id": "ann", **arguments})
        assert caught.value.field.partition("/")[0] in arguments

    async def test_the_name_of_an_operator_is_checked(self, manager: SessionManager) -> None:
        for name in ("", "group:x", "a\nb"):
            with pytest.raises(InvalidInputError):
                manager.as_operator(name)
