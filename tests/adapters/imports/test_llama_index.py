"""Chats that LlamaIndex kept, imported as natural sessions."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.storage.chat_store import SimpleChatStore
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

from agent_cores.session import SessionManager
from agent_cores.session.errors import StoreFormatError
from tests.adapters.importing import files, imported

CALL = {"id": "call", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USED = {"type": "tool_use", "id": "call", "name": "f", "input": {"a": 1}}
MESSAGES = [
    ChatMessage("How much is ☂?", role="user"),
    ChatMessage(
        role="assistant",
        blocks=[
            TextBlock(text="Let me see."),
            ToolCallBlock(tool_call_id="call", tool_name="f", tool_kwargs={"a": 1}),
        ],
    ),
    ChatMessage("7", role="tool", additional_kwargs={"tool_call_id": "call"}),
    ChatMessage("", role="assistant", additional_kwargs={"tool_calls": [CALL]}),
    ChatMessage(role="user", blocks=[ImageBlock(url="http://localhost/a.png", detail="low")]),
]


def check(stored: list[tuple[str, object]]) -> None:
    """Check what the messages became."""
    assert stored[:3] == [
        ("user", "How much is ☂?"),
        ("assistant", [{"type": "text", "text": "Let me see."}, USED]),
        ("tool", [{"type": "tool_result", "tool_use_id": "call", "content": "7"}]),
    ]
    assert USED in list(stored[3][1])  # type: ignore[call-overload]
    [image] = list(stored[4][1])  # type: ignore[call-overload]
    assert (image["type"], image["url"]) == ("image", "http://localhost/a.png")


async def test_the_chats_of_a_database(target: SessionManager, tmp_path: Path) -> None:
    source = tmp_path / "source" / "chats.db"
    source.parent.mkdir()
    store = SQLAlchemyChatStore("memory", f"sqlite+aiosqlite:///{source}")
    for key in ("chat", "odd/key"):
        await store.add_messages(key, MESSAGES)
    await store.archive_oldest_messages("chat", 1)
    assert store._async_engine is not None  # noqa: SLF001 - it cannot be closed otherwise
    await store._async_engine.dispose()  # noqa: SLF001
    before = files(source.parent)
    tally = await imported(target, "llama-index", source, user="ann")
    assert (tally.sessions, tally.messages, tally.left_out.names) == (2, 10, [])
    assert files(source.parent) == before
    stored = await target.get_session_messages("chat", "ann")
    check([(each.role, each.content) for each in stored])
    assert [each.metadata.get("status") for each in stored][:2] == ["archived", None]
    assert stored[2].metadata["original"]["additional_kwargs"] == {"tool_call_id": "call"}
    assert sorted(stored, key=lambda each: each.created_at) == stored
    assert stored[0].created_at.year >= 2026
    assert (await imported(target, "llama-index", source, user="ann")).present == 2


async def test_the_chats_of_a_file(target: SessionManager, tmp_path: Path) -> None:
    store, source = SimpleChatStore(), tmp_path / "chats.json"
    for message in MESSAGES:
        store.add_message("chat", message)
    store.persist(str(source))
    assert (await imported(target, "llama-index", source, user="ann")).messages == 5
    stored = await target.get_session_messages("chat", "ann")
    check([(each.role, each.content) for each in stored])
    assert (await imported(target, "llama-index", source, user="ann")).present == 1
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(StoreFormatError):
        await imported(target, "llama-index", tmp_path / "other.json", user="ann")
