"""Conversations of Pydantic AI: its own store beside ours, forks, deletions, many writers."""
# ruff: noqa: ANN401 - stores of two kinds

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_ai import Agent, BinaryContent, Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, UserPromptPart
from pydantic_ai.models.test import TestModel

from agent_cores.session import SessionManager
from agent_cores.session.adapters.pydantic_ai import SessionConversationStore
from agent_cores.session.errors import SessionExistsError
from tests.adapters.conftest import url_of


@pytest.fixture
def store(manager: SessionManager) -> SessionConversationStore:
    return SessionConversationStore(manager, user_id="ann")


def question(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(content=text)])


def answer(text: str) -> ModelResponse:
    return ModelResponse(parts=[TextPart(content=text)])


def record(name: str, head: str | None = None, **fields: Any) -> ConversationRecord:
    return ConversationRecord(conversation_id=name, head_id=head, **fields)


def chain(*texts: str, after: str | None = None) -> list[ConversationEntry]:
    entries: list[ConversationEntry] = []
    for text in texts:
        entries.append(ConversationEntry(parent_id=after, message=question(text)))
        after = entries[-1].id
    return entries


async def texts(store: SessionConversationStore, name: str) -> list[str]:
    entries = await store.load_entries(name)
    assert entries is not None
    return [str(entry.message.parts[0].content) for entry in entries]


async def test_an_agent_continues_a_conversation(store: SessionConversationStore) -> None:
    agent = Agent(TestModel(custom_output_text="Oslo."))
    for _ in range(3):
        conversation = await store.load("talk") or Conversation(conversation_id="talk")
        result = await agent.run("The capital of Norway?", conversation=conversation)
        await store.save(result)
    loaded = await store.load("talk")
    assert loaded is not None
    assert len(loaded.messages) == 6
    assert loaded.usage.requests == 3
    assert [r.conversation_id for r in await store.list_conversations()] == ["talk"]


async def test_what_comes_back_is_equal(store: SessionConversationStore) -> None:
    image = BinaryContent(data=bytes(range(256)), media_type="application/pdf")
    messages = [
        ModelRequest(parts=[UserPromptPart(content=["会话", image])]),
        answer("😀"),
    ]
    entries: list[ConversationEntry] = []
    for message in messages:
        entries.append(
            ConversationEntry(parent_id=entries[-1].id if entries else None, message=message)
        )
    saved = record("talk", entries[-1].id, scope="group:a/b", branches=["x"])
    await store.write_record(saved, new_entries=entries, expected_revision=None)
    assert await store.read_record("talk") == saved
    assert await store.read_history(entries[-1].id) == entries
    assert await store.read_entry(entries[0].id) == entries[0]


@pytest.mark.parametrize("odd", ["a/b", "..", "", "x" * 400, "会话", "a:b", "record:a", "%~"])
async def test_odd_names_lead_back(store: SessionConversationStore, odd: str) -> None:
    entry = ConversationEntry(id=f"{odd}1", parent_id=None, message=question("a"))
    first = record(odd, entry.id, scope=odd)
    await store.write_record(first, new_entries=[entry], expected_revision=None)
    assert await store.read_record(odd) == first
    assert await store.list_conversations(scope=odd) == [first]
    assert await texts(store, odd) == ["a"]
    await store.fork(odd, new_conversation_id=f"{odd} forked")
    await store.delete(odd)
    assert await store.load(odd) is None
    assert await texts(store, f"{odd} forked") == ["a"]


async def test_a_fork_shares_entries_and_outlives_its_origin(
    store: SessionConversationStore,
) -> None:
    first = chain("a", "b", "c", "d")
    await store.write_record(record("one", first[-1].id), new_entries=first, expected_revision=None)
    fork = await store.fork("one", at=2, new_conversation_id="two")
    fork.messages.append(question("e"))
    await store.save(fork)
    await store.delete("one")
    assert await store.load("one") is None
    assert await texts(store, "two") == ["a", "b", "e"]
    for gone in first[2:]:
        with pytest.raises(LookupError):
            await store.read_entry(gone.id)


async def test_nothing_is_left_of_a_deleted_family(
    store: SessionConversationStore, manager: SessionManager
) -> None:
    entries = chain("a", "b")
    await store.write_record(
        record("one", entries[-1].id), new_entries=entries, expected_revision=None
    )
    await store.fork("one", new_conversation_id="two")
    await store.delete("one")
    await store.delete("two")
    assert (await manager.get_statistics())["sessions"] == 1
    assert await manager.get_session_messages("pydantic-ai:ann", "ann") == []


async def test_a_conversation_is_made_again_under_its_id(store: SessionConversationStore) -> None:
    for text in ("a", "b"):
        [entry] = chain(text)
        await store.write_record(
            record("one", entry.id), new_entries=[entry], expected_revision=None
        )
        assert await texts(store, "one") == [text]
        await store.delete("one")
    assert await store.load("one") is None


@pytest.mark.parametrize("expected", ["wrong", None])
async def test_a_stale_revision_is_a_conflict(
    store: SessionConversationStore, expected: str | None
) -> None:
    first = record("one")
    await store.write_record(first, expected_revision=None)
    with pytest.raises(ConversationConflict):
        await store.write_record(record("one"), expected_revision=expected)
    with pytest.raises(ConversationConflict):
        await store.delete_record("one", expected_revision=expected or "")
    assert await store.read_record("one") == first


async def test_an_unknown_head_is_a_conflict(store: SessionConversationStore) -> None:
    with pytest.raises(ConversationConflict):
        await store.write_record(record("one", "nowhere"), expected_revision=None)
    assert await store.read_record("one") is None
    with pytest.raises(LookupError):
        await store.read_entry("nowhere")
    with pytest.raises(LookupError):
        await store.read_history("nowhere")


async def test_of_writers_at_once_one_wins(store: SessionConversationStore) -> None:
    async def write(n: int) -> bool:
        entries = chain(str(n))
        try:
            await store.write_record(
                record("one", entries[0].id), new_entries=entries, expected_revision=None
            )
        except ConversationConflict:
            return False
        return True

    won = await asyncio.gather(*map(write, range(8)))
    assert won.count(True) == 1
    assert await texts(store, "one") == [str(won.index(True))]


async def test_forks_and_deletions_at_once_lose_no_entry(store: SessionConversationStore) -> None:
    entries = chain("a", "b", "c")
    await store.write_record(
        record("one", entries[-1].id), new_entries=entries, expected_revision=None
    )

    async def fork(n: int) -> Any:
        try:
            return (
                await store.fork("one", at=n % 4, new_conversation_id=f"fork-{n}")
            ).conversation_id
        except (ConversationConflict, UserError):
            return None

    *made, _ = await asyncio.gather(*map(fork, range(8)), store.delete("one"))
    for n, name in enumerate(made):
        if name is not None:
            assert await texts(store, name) == ["a", "b", "c"][: n % 4]


async def test_a_family_that_others_delete_while_its_entries_are_collected_is_gone(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = (SessionConversationStore(manager, user_id="ann") for _ in range(2))
    entries = chain("a", "b")
    head = entries[-1].id
    await store.write_record(record("one", head), new_entries=entries, expected_revision=None)
    await store.fork("one", new_conversation_id="two")
    read = manager.get_session_messages

    async def late(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await other.delete("two")
        return await read(*args, **options)

    monkeypatch.setattr(manager, "get_session_messages", late)
    await store.delete("one")
    assert await store.read_records() == []
    [directory] = await manager.list_user_sessions("ann")
    assert directory.metadata.message_count == 0


async def test_deleting_and_making_anew_at_once_loses_no_record(
    store: SessionConversationStore,
) -> None:
    async def make(n: int) -> None:
        await store.write_record(record("one", scope=str(n)), expected_revision=None)

    for n in range(10):
        await make(n)

        async def make_again() -> None:
            for _ in range(200):
                try:
                    await make(100)
                except ConversationConflict:
                    continue
                return

        await asyncio.gather(store.delete("one", scope=str(n)), make_again())
        found = await store.read_record("one")
        assert found is not None
        assert found.scope == "100"
        await store.delete("one")


async def test_lists_are_by_scope_and_time(store: SessionConversationStore) -> None:
    for n in range(6):
        await store.write_record(record(f"c{n}", scope="ab"[n % 2]), expected_revision=None)
    listed = [r.conversation_id for r in await store.list_conversations(scope="a")]
    assert listed == ["c4", "c2", "c0"]
    assert [r.conversation_id for r in await store.list_conversations(limit=2)] == ["c5", "c4"]
    assert await store.list_conversations(limit=0) == []


async def test_a_long_history_is_read_in_pages(store: SessionConversationStore) -> None:
    entries = chain(*map(str, range(2_300)))
    for first in range(0, 2_300, 500):
        part, old = entries[first : first + 500], await store.read_record("one")
        await store.write_record(
            record("one", part[-1].id),
            new_entries=part,
            expected_revision=None if old is None else old.revision,
        )
    head = entries[-1].id
    assert await store.read_history(head) == entries
    assert await store.read_history(head, limit=3) == entries[-3:]
    assert await store.read_history(head, limit=0) == []


async def test_users_do_not_meet(manager: SessionManager) -> None:
    ann, bob = (SessionConversationStore(manager, user_id=user) for user in ("ann", "bob"))
    entries = chain("a")
    await ann.write_record(
        record("one", entries[0].id), new_entries=entries, expected_revision=None
    )
    assert await bob.read_record("one") is None
    assert await bob.list_conversations() == []
    with pytest.raises(LookupError):
        await bob.read_entry(entries[0].id)
    await bob.write_record(record("one"), expected_revision=None)
    assert await texts(ann, "one") == ["a"]


async def test_a_directory_that_somebody_else_made_is_refused(manager: SessionManager) -> None:
    await manager.create_session("eve", session_id="pydantic-ai:ann")
    await manager.share_session("pydantic-ai:ann", "eve", "ann", role="editor")
    store = SessionConversationStore(manager, user_id="ann")
    with pytest.raises(SessionExistsError):
        await store.write_record(record("one"), expected_revision=None)


async def test_a_directory_that_somebody_else_made_gets_nothing_from_an_operator(
    manager: SessionManager,
) -> None:
    await manager.create_session("eve", session_id="pydantic-ai:support")
    store = SessionConversationStore(manager, operator="support")
    with pytest.raises(SessionExistsError):
        await store.write_record(record("one"), expected_revision=None)
    assert await manager.get_session_messages("pydantic-ai:support", "eve") == []


async def test_what_others_write_into_a_family_is_no_entry(manager: SessionManager) -> None:
    store = SessionConversationStore(manager, user_id="ann")
    first, second = chain("a"), chain("b")
    await store.write_record(record("one", first[0].id), new_entries=first, expected_revision=None)
    (family,) = await manager.list_user_sessions("ann", tags=["pydantic-ai"])
    family_id = family.metadata.session_id
    await manager.share_session(family_id, "ann", "bob", role="editor")
    await manager.add_message(family_id, "bob", "user", "hello")
    forged = {"id": second[0].id, "parent_id": None, "kind": None, "message": {}}
    await manager.add_message(family_id, "bob", "user", forged, message_id=second[0].id)
    with pytest.raises(LookupError):
        await store.read_entry(second[0].id)
    assert await texts(store, "one") == ["a"]
    stored = await store.read_record("one")
    assert stored is not None
    await store.delete_record("one", expected_revision=stored.revision)
    assert await store.list_conversations() == []


async def test_what_the_user_writes_otherwise_into_a_family_is_no_entry(
    manager: SessionManager,
) -> None:
    store = SessionConversationStore(manager, user_id="ann")
    entries = chain("a", "b")
    head = entries[-1].id
    await store.write_record(record("one", head), new_entries=entries, expected_revision=None)
    [family] = await manager.list_user_sessions("ann", tags=["pydantic-ai"])
    for content in ("hello", None, {"id": 7}, {"id": "else", "parent_id": None}):
        await manager.add_message(family.id, "ann", "user", content)
    await manager.add_message(family.id, "ann", "user", "x", message_id="named")
    with pytest.raises(LookupError):
        await store.read_entry("named")
    assert await texts(store, "one") == ["a", "b"]
    await store.fork("one", at=1, new_conversation_id="two")
    await store.delete("one")
    assert await texts(store, "two") == ["a"]
    await store.delete("two")
    assert await store.read_records() == []


async def test_copies_of_families_are_not_listed(manager: SessionManager) -> None:
    store = SessionConversationStore(manager, user_id="ann")
    entries = chain("a")
    await store.write_record(
        record("one", entries[0].id), new_entries=entries, expected_revision=None
    )
    [family] = await manager.list_user_sessions("ann", tags=["pydantic-ai"])
    await manager.fork_session(family.id, "ann")
    assert [each.conversation_id for each in await store.read_records()] == ["one"]
    assert [each.conversation_id for each in await store.read_records(limit=1)] == ["one"]
    await store.delete("one")
    assert await store.read_records() == []


async def test_several_loops_use_one_store(store: SessionConversationStore) -> None:
    def save(n: int) -> None:
        entries = chain(str(n))
        write = store.write_record(
            record(f"c{n}", entries[0].id), new_entries=entries, expected_revision=None
        )
        asyncio.run(write)

    await asyncio.gather(*(asyncio.to_thread(save, n) for n in range(8)))
    assert len(await store.list_conversations()) == 8


NAMES = st.sampled_from(["one", "two", "three"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("save"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("rewrite"), NAMES, st.integers(0, 3)),
        st.tuples(st.just("branch"), NAMES, st.integers(0, 4)),
        st.tuples(st.just("fork"), NAMES, NAMES, st.integers(0, 4)),
        st.tuples(st.just("delete"), NAMES),
    ),
    max_size=14,
)


async def _step(store: Any, step: tuple[Any, ...], number: int) -> Any:
    kind, name = step[:2]
    try:
        if kind in {"save", "rewrite"}:
            conversation = await store.load(name) or Conversation(conversation_id=name)
            if kind == "rewrite":
                conversation = dataclasses.replace(
                    conversation, messages=[], new_message_index=None
                )
            conversation.messages.extend(question(f"{number}.{n}") for n in range(step[2]))
            await store.save(conversation)
        elif kind == "branch":
            old = await store.read_record(name)
            await store.branch(name, at=step[2], expected_revision=old.revision if old else None)
        elif kind == "fork":
            await store.fork(name, at=step[3], new_conversation_id=step[2])
        else:
            await store.delete(name)
    except UserError as error:
        return type(error)
    return None


async def _state(store: Any) -> dict[str, Any]:
    state = {}
    for each in await store.list_conversations():
        lines = [await store.read_history(tip) for tip in (each.head_id, *each.branches)]
        state[each.conversation_id] = [
            [str(entry.message.parts[0].content) for entry in line] for line in lines
        ]
    return state


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@given(steps=STEPS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_random_use_is_that_of_its_own_store(
    kind: str, steps: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = tmp_path_factory.mktemp("store")
    async with SessionManager(url_of(kind, folder)) as manager:
        ours, theirs = SessionConversationStore(manager, user_id="ann"), InMemoryConversationStore()
        for number, step in enumerate(steps):
            assert await _step(ours, step, number) == await _step(theirs, step, number)
            assert await _state(ours) == await _state(theirs)
        stored = 0
        for family in await manager.list_user_sessions("ann", tags=["pydantic-ai"], limit=100):
            stored += len(await manager.get_session_messages(family.id, "ann", 1000))
        assert stored == len(theirs._entries)  # noqa: SLF001 - the others are collected


async def test_the_example_runs(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from agent_cores.session.examples.pydantic_ai_agent import main

    await main(store_url)
    assert capsys.readouterr().out.splitlines() == [
        "4 messages in trip",
        "2 messages in another trip",
    ]
