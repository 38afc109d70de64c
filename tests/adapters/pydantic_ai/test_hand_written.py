"""What a user wrote or changed by hand in the sessions of Pydantic AI: it stops nothing."""
# ruff: noqa: ANN401 - any JSON

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai.conversation_store import ConversationEntry, ConversationRecord
from pydantic_ai.messages import ModelRequest, UserPromptPart

from agent_cores.session import SessionManager
from agent_cores.session.adapters.pydantic_ai import SessionConversationStore

DIRECTORY = "pydantic-ai:ann"
ODD: list[Any] = ["x y", [5], None, [], {}, {"conversation_id": "talk"}, "a/b", "\u0000"]


@pytest.fixture
def store(manager: SessionManager) -> SessionConversationStore:
    return SessionConversationStore(manager, user_id="ann")


def entry(after: str | None = None) -> ConversationEntry:
    message = ModelRequest(parts=[UserPromptPart(content="hello")])
    return ConversationEntry(parent_id=after, message=message)


async def written(
    store: SessionConversationStore, name: str, after: str | None = None
) -> ConversationRecord:
    new = entry(after)
    record = ConversationRecord(conversation_id=name, head_id=new.id)
    await store.write_record(record, new_entries=[new], expected_revision=None)
    return record


async def family_of(manager: SessionManager) -> str:
    [family] = await manager.list_user_sessions("ann", tags=["pydantic-ai"])
    return family.id


@pytest.mark.parametrize("odd", ODD)
async def test_a_record_of_another_shape_is_passed_over_and_keeps_its_entries(
    store: SessionConversationStore, manager: SessionManager, odd: Any
) -> None:
    first = await written(store, "one")
    second = await written(store, "two", after=first.head_id)
    third = await written(store, "three", after=first.head_id)
    family = await family_of(manager)
    await manager.update_session(family, "ann", {"record:two": odd, "record:mine": odd})
    assert await store.read_record("two") is None
    assert await store.read_record("one") == first
    found = await store.read_records()
    assert sorted([each.conversation_id for each in found]) == ["one", "three"]
    await store.delete_record("three", expected_revision=third.revision)
    await store.delete_record("one", expected_revision=first.revision)
    assert second.head_id is not None
    assert len(await store.read_history(second.head_id)) == 2
    again = ConversationRecord(conversation_id="two", head_id=second.head_id)
    await store.write_record(again, expected_revision=None)
    assert await store.read_record("two") == again


async def test_a_copy_of_a_record_under_another_key_is_no_record(
    store: SessionConversationStore, manager: SessionManager
) -> None:
    first = await written(store, "one")
    family = await family_of(manager)
    context = (await manager.get_session(family, "ann")).context or {}
    await manager.update_session(family, "ann", {"record:copy": context["record:one"]})
    assert await store.read_records() == [first]


@pytest.mark.parametrize("odd", [[], {}, 5])
async def test_an_entry_with_an_odd_parent_stops_no_deletion(
    store: SessionConversationStore, manager: SessionManager, odd: Any
) -> None:
    first = await written(store, "one")
    second = await written(store, "two", after=first.head_id)
    family = await family_of(manager)
    content = {"id": "mine", "parent_id": odd, "kind": None, "message": {}}
    await manager.add_message(family, "ann", "request", content, message_id="mine")
    await store.delete_record("two", expected_revision=second.revision)
    assert await store.read_records() == [first]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("role", ["conversation", "note"])
async def test_an_odd_note_in_the_directory_keeps_no_name(
    store: SessionConversationStore, manager: SessionManager, odd: Any, role: str
) -> None:
    await written(store, "one")
    await manager.add_message(DIRECTORY, "ann", role, odd, message_id="conversation:two")
    assert await store.read_record("two") is None
    second = await written(store, "two")
    fresh = SessionConversationStore(manager, user_id="ann")
    assert await fresh.read_record("two") == second
    await fresh.delete_record("two", expected_revision=second.revision)
    assert await fresh.read_record("two") is None
