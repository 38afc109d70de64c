"""Every limit: allowed at the bound, refused one past it, before anything is written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models.values import encode_json
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.manager.messages import said
from agent_cores.session.testing.store import suite_settings

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock
    from agent_cores.session.testing.store import Store

MIB = 1024 * 1024
LONGEST = "x" * 252 + "字"  # 255 bytes


class Text(str):
    """As an enum's members and numpy's strings are: shown as something else than what they hold."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"Text.{super().__str__()}"


class Number(int):
    """As an enum's members are."""

    def __str__(self) -> str:
        return f"Number.{int(self)}"


class Time(datetime):
    """As the times of pandas are."""


async def refused(call: Coroutine[Any, Any, object], field: str) -> None:
    """Check that a call is refused, and that the error names the field."""
    with pytest.raises(InvalidInputError) as caught:
        await call
    assert caught.value.field.startswith(field), caught.value.field


class LimitCases(ManagerCases):
    """The default limits, and smaller ones where the default would be slow to reach."""

    async def test_arguments_of_subclasses_are_what_they_hold(
        self, manager: SessionManager, clock: ManualClock
    ) -> None:
        m, talk, ann, bob = manager, Text("talk"), Text("ann"), Text("bob")
        first = {"id": "m1", "role": "user", "content": "one"}
        await m.create_session(ann, {"tags": ["a"]}, session_id=talk, messages=[first])
        until = Time.fromtimestamp(clock().timestamp() + 60, UTC)
        grant = await m.share_session(talk, ann, bob, role=Text("editor"), expires_at=until)
        assert type(grant.expires_at) is datetime
        token = Text("token")
        await m.take_turn(talk, bob, token=token)
        second = await m.add_message(talk, bob, Text("tool"), "two", turn=token)
        await m.add_messages(talk, ann, [first, {**first, "id": "m3"}])
        page = await m.get_session_messages(talk, bob, Number(3), before_seq=Number(9))
        assert [message.author_id for message in page] == ["ann", "bob", "ann"]
        found = await m.list_user_sessions(ann, tags=[Text("a")], limit=Number(2))
        assert [session.owner_id for session in found] == ["ann"]
        assert len(await m.get_messages(talk, bob, ids=[Text("m1")])) == 1
        await m.delete_message(talk, bob, Number(second.seq), expected_last_seq=Number(3))
        await m.fork_session(talk, bob, new_session_id=Text("fork"), up_to_seq=Number(1))
        assert await texts(m, "fork", "bob") == ["one"]
        await m.delete_messages(talk, ann, seqs=[1])
        await m.rewind_session(talk, ann, Number(0))
        await m.transfer_ownership(talk, ann, bob, keep_role=Text("viewer"))
        session = await m.get_session(talk, bob)
        kinds = {type(name) for name in (session.owner_id, session.id, *session.metadata.grants)}
        assert kinds == {str}

    async def test_what_names_nothing_is_refused(self, manager: SessionManager, talk: str) -> None:
        nothing: Any = None
        no_numbers: Any = b"\x01"
        await manager.add_message(talk, "ann", "user", "kept")
        await refused(manager.open_session(nothing, "ann"), "session_id")
        await refused(manager.delete_messages(talk, "ann", seqs=no_numbers), "seqs")
        assert await texts(manager, talk) == ["kept"]
        assert [each.id for each in await manager.list_user_sessions("ann")] == [talk]

    async def test_what_lists_and_conditions_name_may_be_of_subclasses(
        self, manager: SessionManager
    ) -> None:
        m = manager
        for name in ("one", "two", "three"):
            text = {"role": "user", "content": name, "id": "m1"}
            tags = {"tags": [Text("a")]}
            await m.create_session("ann", tags, session_id=name, messages=[text])
        titled = {"title": Text("of one")}
        context: dict[str, Any] = {Text("key"): 1, Text("other"): 2}
        await m.update_session("one", "ann", context, titled)
        await m.update_session("one", "ann", context_removals=[Text("key")])
        assert (await m.get_session("one", "ann")).context == {"other": 2}
        await m.fork_session("one", "ann", new_session_id="fork", title=Text("of fork"))
        titles = [(await m.get_session(name, "ann")).metadata.title for name in ("one", "fork")]
        assert titles == ["of one", "of fork"]
        assert {type(title) for title in titles} == {str}
        include: list[Any] = [Text("last_message")]
        page = await m.list_user_sessions(
            "ann", Text("active"), Number(2), Number(1), tags=[Text("a")], include=include
        )
        assert len(page) == 2
        assert page.next_cursor is not None
        rest = await m.list_user_sessions("ann", cursor=Text(page.next_cursor))
        assert len(rest) == 1
        assert [each.id for each in await m.get_messages("two", "ann", ids=[Text("m1")])] == ["m1"]
        version = Text((await m.get_session("two", "ann")).metadata.version)
        await m.rewind_session("two", "ann", 0, expected_version=version)
        assert await m.delete_messages("one", "ann", ids=[Text("m1")]) == 1
        assert await m.delete_messages("three", "ann", seqs=[Number(1)]) == 1
        team = m.for_namespace(Text("team-a"))
        await team.create_session("ann", session_id="theirs")
        found = await m.for_namespace("team-a").list_user_sessions("ann")
        assert [session.id for session in found] == ["theirs"]
        assert type(team.namespace) is str

    @pytest.mark.parametrize("number", [1e308, 5e-324])
    async def test_metadata_holds_few_numbers_that_are_slow_to_decode(
        self, manager: SessionManager, talk: str, number: float
    ) -> None:
        m, text = manager, {"words": ["1e308"] * 300}
        for key in ("a", "b"):
            await m.update_session(talk, "ann", metadata_updates={key: [number] * 100, **text})
        more = {"c": [number]}
        await refused(m.update_session(talk, "ann", metadata_updates=more), "metadata")
        said = {"role": "user", "content": "x"}
        append = m.add_messages(talk, "ann", [said], metadata_updates=more)
        await refused(append, "metadata")
        await refused(m.fork_session(talk, "ann", metadata=more), "metadata")
        added = await m.add_message(talk, "ann", "user", "x", metadata={"a": [number] * 200})
        await refused(
            m.update_message(talk, "ann", added.seq, metadata_updates=more), "metadata_updates"
        )
        held = await m.get_session(talk, "ann")
        assert held.metadata.attributes == {"a": [number] * 100, "b": [number] * 100, **text}
        await m.update_session(talk, "ann", metadata_updates={**more, "b": None})

    async def test_names_are_at_most_255_bytes(self, manager: SessionManager, talk: str) -> None:
        m, longer = manager, LONGEST + "x"
        assert len(LONGEST.encode()) == 255
        await m.create_session(LONGEST, {"tags": [LONGEST]}, session_id=LONGEST)
        await m.update_session(LONGEST, LONGEST, {LONGEST: 1}, context_removals=["y" + LONGEST[1:]])
        await m.add_message(LONGEST, LONGEST, LONGEST, "hi", message_id=LONGEST)
        await m.share_session(talk, "ann", LONGEST)
        await refused(m.create_session(longer), "user_id")
        await refused(m.create_session("ann", session_id=longer), "session_id")
        await refused(m.create_session("ann", {"tags": ["a", longer]}), "metadata/tags")
        await refused(m.create_session("ann", context={longer: 1}), "context")
        await refused(m.update_session(talk, "ann", {longer: 1}), "context_updates")
        await refused(m.update_session(talk, "ann", context_removals=[longer]), "context_removals")
        await refused(m.add_message(talk, "ann", longer, "hi"), "role")
        await refused(m.add_message(talk, "ann", "user", "hi", message_id=longer), "message_id")
        await refused(m.share_session(talk, "ann", longer), "target_user_id")
        await refused(m.transfer_ownership(talk, "ann", longer), "new_owner_id")
        await refused(m.fork_session(talk, "ann", new_session_id=longer), "new_session_id")
        await refused(m.get_session(talk, longer), "user_id")

    @pytest.mark.parametrize(
        "bad", ["", "a\x00", "a\nb", "a\x7f", "a\x85b", "\ud800", 1, None, b"a"]
    )
    async def test_names_hold_no_control_characters(
        self,
        manager: SessionManager,
        talk: str,
        bad: Any,  # noqa: ANN401
    ) -> None:
        m = manager
        await refused(m.create_session(bad), "user_id")
        if bad is not None:
            await refused(m.create_session("ann", session_id=bad), "session_id")
            await refused(m.add_message(talk, "ann", "user", "x", message_id=bad), "message_id")
        await refused(m.create_session("ann", {"tags": [bad]}), "metadata/tags")
        await refused(m.update_session(talk, "ann", {bad: 1}), "context_updates")
        await refused(m.add_message(talk, "ann", bad, "x"), "role")
        await refused(m.share_session(talk, "ann", bad), "target_user_id")

    @pytest.mark.parametrize("bad", ["a/b", "a\\b", ".", ".."])
    async def test_session_and_message_ids_can_stand_in_a_path(
        self, manager: SessionManager, talk: str, bad: str
    ) -> None:
        await refused(manager.create_session("ann", session_id=bad), "session_id")
        await refused(manager.add_message(talk, "ann", "user", "x", message_id=bad), "message_id")
        other = await manager.create_session(bad, {"tags": [bad]}, context={bad: 1})
        await manager.share_session(other, bad, f"{bad} too")

    async def test_sixty_four_tags(self, manager: SessionManager, talk: str) -> None:
        tags = [f"t{number}" for number in range(65)]
        await manager.update_session(talk, "ann", None, {"tags": [*tags[:64], "t0"]})
        await refused(
            manager.update_session(talk, "ann", None, {"tags": tags}), "metadata_updates/tags"
        )
        assert len((await manager.get_session(talk, "ann")).metadata.tags) == 64

    async def test_as_many_grants_as_the_setting_allows(
        self, opened: Store, clock: ManualClock
    ) -> None:
        manager = await opened.open_manager(clock, settings=suite_settings(max_grants=3))
        talk = await manager.create_session("ann")
        for number in range(3):
            await manager.share_session(talk, "ann", f"u{number}")
        await refused(manager.share_session(talk, "ann", "u3"), "grants")
        await manager.share_session(talk, "ann", "u0", role="editor")
        await manager.revoke_access(talk, "ann", "u1")
        await manager.share_session(talk, "ann", "u3")

    async def test_content_of_one_mib(self, manager: SessionManager, talk: str) -> None:
        longest = "x" * (MIB - 2)  # and two quotes
        await manager.add_message(talk, "ann", "user", longest)
        await refused(manager.add_message(talk, "ann", "user", longest + "x"), "content")
        wide = "字" * (MIB // 3)
        await refused(manager.add_message(talk, "ann", "user", wide), "content")
        await refused(
            manager.add_messages(talk, "ann", [*said(1), {"role": "user", "content": wide}]),
            "messages/1/content",
        )
        assert await texts(manager, talk) == [longest]

    async def test_metadata_of_64_kib(self, manager: SessionManager, talk: str) -> None:
        longest = {"a": "x" * (64 * 1024 - len(encode_json({"a": ""})))}
        longer = {"a": longest["a"] + "x"}
        await manager.create_session("ann", longest)
        await manager.add_message(talk, "ann", "user", "x", metadata=longest)
        await manager.update_session(talk, "ann", None, longest)
        await refused(manager.create_session("ann", longer), "metadata")
        await refused(manager.add_message(talk, "ann", "user", "x", metadata=longer), "metadata")
        await refused(manager.update_session(talk, "ann", None, longer), "metadata")
        await refused(manager.update_session(talk, "ann", None, {"b": 1}), "metadata")
        assert (await manager.get_session(talk, "ann")).metadata.attributes == longest

    async def test_context_of_one_mib(self, manager: SessionManager, talk: str) -> None:
        most = "x" * (MIB // 2 - 3)  # the key and two quotes count
        await manager.update_session(talk, "ann", {"a": most})
        await manager.update_session(talk, "ann", {"b": most})
        await refused(manager.update_session(talk, "ann", {"c": 1}), "context")
        await refused(manager.update_session(talk, "ann", {"b": most + "x"}), "context")
        with_message = manager.add_message(talk, "ann", "user", "no", context_updates={"c": 1})
        await refused(with_message, "context")
        await manager.update_session(talk, "ann", {"c": 1, "b": "x"})
        await refused(manager.create_session("ann", context={"a": "x" * MIB}), "context")
        session = await manager.get_session(talk, "ann")
        assert session.context == {"a": most, "b": "x", "c": 1}
        assert session.messages == []

    async def test_a_thousand_context_keys_a_change(
        self, manager: SessionManager, talk: str
    ) -> None:
        keys = [f"k{number}" for number in range(1_001)]
        await manager.update_session(talk, "ann", dict.fromkeys(keys[:1_000], 1))
        await refused(
            manager.update_session(talk, "ann", dict.fromkeys(keys, 2)), "context_updates"
        )
        await refused(
            manager.update_session(talk, "ann", context_removals=keys), "context_removals"
        )
        both = manager.update_session(
            talk, "ann", dict.fromkeys(keys[:500], 3), context_removals=keys[500:]
        )
        await refused(both, "context_removals")
        assert (await manager.get_session(talk, "ann")).context == dict.fromkeys(keys[:1_000], 1)

    async def test_a_thousand_messages_an_append(self, manager: SessionManager, talk: str) -> None:
        await refused(manager.add_messages(talk, "ann", said(*range(1_001))), "messages")
        assert await texts(manager, talk) == []
        await manager.add_messages(talk, "ann", said(*range(1_000)))
        assert len(await texts(manager, talk)) == 1_000

    async def test_eight_mib_an_append(self, manager: SessionManager, talk: str) -> None:
        batch = [{"role": "user", "content": "x" * 1_000_000} for _ in range(9)]
        await refused(manager.add_messages(talk, "ann", batch), "messages")
        assert await texts(manager, talk) == []
        assert len(await manager.add_messages(talk, "ann", batch[:8])) == 8

    async def test_a_page_of_a_thousand(self, manager: SessionManager, talk: str) -> None:
        for limit in (0, -1, 1_001, True, "5", 2.0):
            await refused(
                manager.get_session_messages(talk, "ann", limit),  # type: ignore[arg-type]
                "limit",
            )
            if limit != 0:
                await refused(
                    manager.get_session(talk, "ann", message_limit=limit),  # type: ignore[arg-type]
                    "message_limit",
                )
        assert await manager.get_session_messages(talk, "ann", 1_000) == []

    async def test_a_hundred_levels_of_nesting(self, manager: SessionManager, talk: str) -> None:
        deepest: list[Any] = []
        for _ in range(99):
            deepest = [deepest]
        await manager.add_message(talk, "ann", "user", deepest)
        await manager.update_session(talk, "ann", {"k": deepest})
        await refused(manager.add_message(talk, "ann", "user", [deepest]), "content")
        await refused(manager.update_session(talk, "ann", {"k": [deepest]}), "context_updates/k")
        assert await texts(manager, talk) == [deepest]

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"),
            float("inf"),
            {1: 2},
            {None: 1},
            {("a", "b"): 1},
            b"bytes",
            (1, 2),
            {1, 2},
            object(),
            "\ud800",
            {"\ud800": 1},
        ],
    )
    async def test_what_is_not_plain_json_is_refused(
        self,
        manager: SessionManager,
        talk: str,
        value: Any,  # noqa: ANN401
    ) -> None:
        m = manager
        await refused(m.add_message(talk, "ann", "user", [value]), "content")
        await refused(m.add_message(talk, "ann", "user", "x", metadata={"k": value}), "metadata")
        await refused(m.update_session(talk, "ann", {"k": [value]}), "context_updates/k")
        await refused(m.update_session(talk, "ann", None, {"k": value}), "metadata_updates")
        await refused(m.create_session("ann", {"k": value}), "metadata")
        await refused(m.create_session("ann", context={"k": value}), "context/k")
        session = await manager.get_session(talk, "ann")
        assert (session.messages, session.context, session.metadata.revision) == ([], {}, 1)
