"""What a message may say: text, a list, an object or nothing, or JSON that is already encoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from agent_cores.session.errors import ConflictError, InvalidInputError
from agent_cores.session.testing.manager.cases import ManagerCases, texts
from agent_cores.session.testing.samples import AWKWARD_VALUE

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager

CONTENTS: tuple[Any, ...] = (
    "",
    "null",
    None,
    [],
    [None, "", [{}]],
    {},
    {"type": "text", "text": "你好"},
    AWKWARD_VALUE,
    [AWKWARD_VALUE],
    {"long": "x" * 40_000, "list": [None] * 5_000},
)
NO_CONTENT = (1, 1.5, True, b"text", ("text",), {1: "text"}, {"k": b"text"}, object())
NO_JSON = (
    b"",
    b" ",
    b"{",
    b"[1,]",
    b"[1] 2",
    b"NaN",
    b"[NaN]",
    b"[1e999]",
    b'"\xff"',
    b'{"\xff": 1}',
    b'"\xed\xa0\x80"',
    b'"\\ud800"',
    b'{"a": 1, "a": 1}',
    b'[{"a": 1, "\\u0061": "\\u003a"}]',
    b"[" * 101 + b"]" * 101,
    b"[" * 100_000 + b"]" * 100_000,
    b"1",
    b"-1.5",
    b"true",
    b"\xef\xbb\xbf[]",
)


class ContentCases(ManagerCases):
    """The content of messages."""

    async def test_content_of_every_kind_comes_back_as_it_was(
        self, manager: SessionManager, talk: str
    ) -> None:
        one = [await manager.add_message(talk, "ann", "user", content) for content in CONTENTS]
        assert [message.content for message in one] == list(CONTENTS)
        given = [{"role": "user", "content": content} for content in CONTENTS]
        many = await manager.add_messages(talk, "ann", given)
        assert [message.content for message in many] == list(CONTENTS)
        assert repr(await texts(manager, talk)) == repr([*CONTENTS, *CONTENTS])
        session = await manager.get_session(talk, "ann")
        assert session.messages == [*one, *many]
        copy = await manager.fork_session(talk, "ann")
        assert repr(await texts(manager, copy)) == repr([*CONTENTS, *CONTENTS])

    async def test_content_that_is_no_text_list_or_object_is_refused(
        self, manager: SessionManager, talk: str
    ) -> None:
        for content in NO_CONTENT:
            with pytest.raises(InvalidInputError, match="content"):
                await manager.add_message(talk, "ann", "user", content)  # type: ignore[arg-type]
        assert await texts(manager, talk) == []

    async def test_encoded_json_is_the_content_that_it_encodes(
        self, manager: SessionManager, talk: str
    ) -> None:
        for index, content in enumerate(CONTENTS):
            raw = msgspec.Raw(msgspec.json.encode(content))
            first = await manager.add_message(talk, "ann", "user", raw, message_id=str(index))
            assert first.content == content
            again = await manager.add_message(talk, "ann", "user", content, message_id=str(index))
            assert again == first
        spaced = msgspec.Raw(b'\n{ "b" : [ 1.0, 1e5 ],\n\t"a" : "\\u00e9\\u003a" }\n')
        given: list[dict[str, Any]] = [{"id": "s", "role": "user", "content": spaced}]
        [stored] = await manager.add_messages(talk, "ann", given)
        assert stored.content == {"b": [1.0, 100_000.0], "a": "é:"}
        assert repr(await texts(manager, talk)) == repr([*CONTENTS, stored.content])

    async def test_encoded_json_repeats_the_message_with_the_same_value(
        self, manager: SessionManager, talk: str
    ) -> None:
        value = {"a": [1.0, None], "b": "é"}
        first = await manager.add_message(talk, "ann", "user", value, message_id="m")
        for text in (b'{"b":"\\u00e9","a":[1.0,null]}', b' {"a": [1e0, null], "b": "\xc3\xa9"}'):
            again = await manager.add_message(
                talk, "ann", "user", msgspec.Raw(text), message_id="m"
            )
            assert again == first
        with pytest.raises(ConflictError):
            await manager.add_message(
                talk, "ann", "user", msgspec.Raw(b'{"a":[1,null],"b":"\xc3\xa9"}'), message_id="m"
            )

    async def test_what_is_no_json_is_refused_and_nothing_is_written(
        self, manager: SessionManager, talk: str
    ) -> None:
        for text in NO_JSON:
            with pytest.raises(InvalidInputError, match="content"):
                await manager.add_message(talk, "ann", "user", msgspec.Raw(text))
        too_long = msgspec.Raw(b'"' + b"x" * 1024 * 1024 + b'"')
        with pytest.raises(InvalidInputError, match="content"):
            await manager.add_message(talk, "ann", "user", too_long)
        with pytest.raises(InvalidInputError, match="content"):
            await manager.add_messages(talk, "ann", [{"role": "user", "content": [too_long]}])
        assert await texts(manager, talk) == []
