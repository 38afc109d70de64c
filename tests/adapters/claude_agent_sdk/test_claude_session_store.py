"""Transcripts of the Claude Agent SDK: its own conformance kit, and what it does not ask."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from claude_agent_sdk.testing import run_session_store_conformance

from agent_cores.session import SessionManager
from agent_cores.session.adapters.claude_agent_sdk import ClaudeSessionStore
from agent_cores.session.errors import ConflictError, InvalidInputError, SessionExistsError

KEY: Any = {"project_key": "project", "session_id": "one"}


def entries(prefix: str, count: int) -> list[Any]:
    return [{"type": "user", "uuid": f"{prefix}-{n}", "n": n} for n in range(count)]


async def test_the_conformance_kit_passes(manager: SessionManager) -> None:
    users = itertools.count()
    await run_session_store_conformance(
        lambda: ClaudeSessionStore(manager, user_id=f"user-{next(users)}")
    )


async def test_a_repeated_batch_is_stored_once(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    batch = entries("a", 3)
    await store.append(KEY, batch)
    await store.append(KEY, [*batch, *entries("b", 1), *entries("b", 1)])
    assert await store.load(KEY) == [*batch, *entries("b", 1)]


async def test_a_uuid_that_is_stored_with_another_entry_is_left_out(
    manager: SessionManager,
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 2))
    changed = [{**entry, "n": "changed"} for entry in entries("a", 2)]
    await store.append(KEY, changed)
    await store.append(KEY, [changed[0], *entries("b", 1), changed[1], {"type": "title"}])
    assert await store.load(KEY) == [*entries("a", 2), *entries("b", 1), {"type": "title"}]


async def test_a_uuid_under_which_a_guest_wrote_is_refused(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    await manager.share_session("claude:ann:project:one", "ann", "bob", role="editor")
    written = {"role": "entry", "content": {"type": "user"}, "id": "b-0"}
    await manager.add_messages("claude:ann:project:one", "bob", [written])
    with pytest.raises(ConflictError):
        await store.append(KEY, entries("b", 2))
    assert await store.load(KEY) == entries("a", 1)


async def test_half_a_surrogate_pair_comes_back(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    message = {"role": "user", "content": "shortened \ud83d"}
    batch: Any = [
        {"type": "user", "uuid": "1", "message": message},
        {"type": "user", "uuid": "\ud83d", "\ude00": ["☂", "\U0001f600"]},
        {"type": "title", "customTitle": "\ud83d"},
    ]
    for _ in range(2):
        await store.append(KEY, batch)
    assert await store.load(KEY) == [*batch, batch[2]]
    await store.append(KEY, [{"type": "tag", "tag": "t"}])
    (summary,) = await store.list_session_summaries("project")
    assert (summary["data"]["first_prompt"], summary["data"]["custom_title"]) == (
        "shortened \ud83d",
        "\ud83d",
    )
    assert summary["data"]["tag"] == "t"


@pytest.mark.parametrize("value", [float("nan"), {1: 2}, (1, 2), b"bytes"])
async def test_what_is_not_json_is_refused(manager: SessionManager, value: Any) -> None:  # noqa: ANN401
    store = ClaudeSessionStore(manager, user_id="ann")
    with pytest.raises(InvalidInputError, match="entries/1"):
        await store.append(KEY, [*entries("a", 1), {"type": "user", "value": value}])
    assert await store.load(KEY) is None


def _nested(depth: int) -> Any:  # noqa: ANN401 - lists in lists
    return [] if depth == 1 else [_nested(depth - 1)]


async def test_an_entry_that_nests_too_deep_is_refused(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    half = {"type": "user", "text": "\ud83d"}
    await store.append(KEY, [{**half, "deep": _nested(199)}])
    with pytest.raises(InvalidInputError, match="entries/0"):
        await store.append(KEY, [{**half, "deep": _nested(200)}])
    assert await store.load(KEY) == [{**half, "deep": _nested(199)}]


async def test_what_the_user_wrote_otherwise_hides_no_entry(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    session_id = "claude:ann:project:one"
    await manager.add_message(session_id, "ann", "entry", "[" * 5_000)
    await manager.update_session(session_id, "ann", {"summary": ["no summary"]})
    assert await store.load(KEY) == entries("a", 1)
    assert await store.list_session_summaries("project") == []


async def test_entries_without_uuid_are_appended_each_time(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [{"type": "title"}, {"type": "title"}])
    await store.append(KEY, [{"type": "title"}])
    assert await store.load(KEY) == [{"type": "title"}] * 3


async def test_concurrent_appends_lose_neither_entries_nor_titles(manager: SessionManager) -> None:
    stores = [ClaudeSessionStore(manager, user_id="ann") for _ in range(2)]
    fields = ["customTitle", "aiTitle", "lastPrompt", "gitBranch"]
    await asyncio.gather(
        *(
            stores[n % 2].append(KEY, [{"type": "title", "uuid": str(n), field: field}])
            for n, field in enumerate(fields)
        )
    )
    stored = await stores[0].load(KEY)
    assert stored is not None
    assert sorted(entry["uuid"] for entry in stored) == ["0", "1", "2", "3"]
    (summary,) = await stores[0].list_session_summaries("project")
    assert set(fields) <= set(summary["data"].values())


async def test_more_entries_than_one_append_holds(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1_700))
    assert await store.load(KEY) == entries("a", 1_700)


@pytest.mark.parametrize("odd", ["a/b", "..", "", "x" * 400, "会话", "a:b"])
async def test_odd_keys_lead_back(manager: SessionManager, odd: str) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    key: Any = {"project_key": odd, "session_id": odd}
    await store.append(key, entries("a", 1))
    await store.append({**key, "subpath": "subagents/" + odd}, entries("b", 1))
    assert [listed["session_id"] for listed in await store.list_sessions(odd)] == [odd]
    assert await store.list_subkeys(key) == ["subagents/" + odd]
    await store.delete(key)
    assert await store.list_subkeys(key) == []


async def test_equal_keys_of_two_users_never_meet(manager: SessionManager) -> None:
    ann = ClaudeSessionStore(manager, user_id="ann")
    bob = ClaudeSessionStore(manager, user_id="bob")
    await ann.append(KEY, entries("a", 1))
    assert await bob.load(KEY) is None
    await bob.delete(KEY)
    assert await ann.load(KEY) == entries("a", 1)


async def test_a_transcript_that_others_made_is_neither_read_nor_written(
    manager: SessionManager,
) -> None:
    mine = ClaudeSessionStore(manager, user_id="ann")
    session_id = "claude:ann:project:one"
    await manager.create_session("eve", session_id=session_id)
    await manager.add_message(session_id, "eve", "entry", {"type": "user", "forged": True})
    await manager.share_session(session_id, "eve", "ann", role="editor")
    assert await mine.load(KEY) is None
    with pytest.raises(SessionExistsError):
        await mine.append(KEY, entries("a", 1))
    assert await manager.get_session_messages(session_id, "eve", after_seq=1) == []


async def test_a_message_of_another_role_is_no_entry(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    forged: Any = {"type": "assistant", "forged": True}
    await manager.add_message("claude:ann:project:one", "ann", "user", forged)
    assert await store.load(KEY) == entries("a", 1)


@pytest.mark.parametrize("content", ["hello", '"hello"', "[1]", ["hello"], None])
async def test_what_is_no_object_is_no_entry(manager: SessionManager, content: Any) -> None:  # noqa: ANN401
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    await manager.add_message("claude:ann:project:one", "ann", "entry", content)
    assert await store.load(KEY) == entries("a", 1)


async def test_a_transcript_that_was_made_anew_by_others_gets_nothing(
    manager: SessionManager,
) -> None:
    mine = ClaudeSessionStore(manager, user_id="ann")
    for number in range(3):  # the store has read the session, and remembers it
        await mine.append(KEY, entries(str(number), 1))
    session_id = "claude:ann:project:one"
    await manager.delete_session(session_id, "ann")
    await manager.create_session("eve", session_id=session_id)
    await manager.share_session(session_id, "eve", "ann", role="editor")
    with pytest.raises(SessionExistsError):
        await mine.append(KEY, entries("a", 1))
    assert await manager.get_session_messages(session_id, "eve") == []


async def test_a_transcript_that_others_make_between_read_and_write_gets_nothing(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = ClaudeSessionStore(manager, user_id="ann")
    session_id = "claude:ann:project:one"
    add = manager.add_messages

    async def late(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        monkeypatch.setattr(manager, "add_messages", add)
        await manager.create_session("eve", session_id=session_id)
        await manager.share_session(session_id, "eve", "ann", role="editor")
        return await add(*args, **options)

    monkeypatch.setattr(manager, "add_messages", late)
    with pytest.raises(SessionExistsError):
        await mine.append(KEY, entries("a", 1))
    assert await manager.get_session_messages(session_id, "eve") == []


async def test_lists_leave_out_what_is_no_transcript(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    await store.append({**KEY, "subpath": "agents/1"}, entries("b", 1))
    for tag in ("claude:project", "claude:project:one"):
        await manager.create_session("ann", {"tags": [tag]})
    assert [listed["session_id"] for listed in await store.list_sessions("project")] == ["one"]
    assert await store.list_subkeys(KEY) == ["agents/1"]


async def test_copies_of_transcripts_are_neither_listed_nor_deleted(
    manager: SessionManager,
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    await store.append({**KEY, "subpath": "agents/1"}, entries("b", 1))
    session_ids = [each.id for each in await manager.list_user_sessions("ann")]
    copies = {await manager.fork_session(each, "ann", ttl_hours=None) for each in session_ids}
    assert len(copies) == 2
    assert [listed["session_id"] for listed in await store.list_sessions("project")] == ["one"]
    assert len(await store.list_session_summaries("project")) == 1
    assert await store.list_subkeys(KEY) == ["agents/1"]
    await store.delete(KEY)
    assert {each.id for each in await manager.list_user_sessions("ann")} == copies
    assert await store.list_sessions("project") == []
    assert await store.list_subkeys(KEY) == []


async def test_a_title_that_another_store_has_set_is_kept(manager: SessionManager) -> None:
    first, second = (ClaudeSessionStore(manager, user_id="ann") for _ in range(2))
    await first.append(KEY, [{"type": "title", "uuid": "1", "customTitle": "old"}])
    for number in range(2):
        await first.append(KEY, entries(f"a{number}", 1))
    await second.append(KEY, [{"type": "title", "uuid": "2", "aiTitle": "new"}])
    await first.append(KEY, [{"type": "title", "uuid": "3", "customTitle": "old"}])
    await first.append(KEY, [{"type": "title", "uuid": "4", "lastPrompt": "last"}])
    (summary,) = await first.list_session_summaries("project")
    assert summary["data"]["ai_title"] == "new"
    assert summary["data"]["last_prompt"] == "last"


async def test_each_append_moves_the_time_of_a_transcript(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    times = []
    for number in range(4):
        await store.append(KEY, entries(str(number), 1))
        (listed,) = await store.list_sessions("project")
        times.append(listed["mtime"])
        await asyncio.sleep(0.003)
    assert times == sorted(set(times))


async def test_many_subpaths_go_with_their_transcript(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, entries("a", 1))
    await asyncio.gather(
        *(store.append({**KEY, "subpath": f"agents/{n}"}, entries("b", 1)) for n in range(150))
    )
    assert len(await store.list_subkeys(KEY)) == 150
    await store.delete(KEY)
    assert await store.list_subkeys(KEY) == []
    assert await store.load({**KEY, "subpath": "agents/7"}) is None
    assert (await manager.get_statistics())["sessions"] == 0


async def test_an_append_that_leaves_the_summary_reads_nothing(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    for number in range(2):
        await store.append(KEY, entries(str(number), 1))
    monkeypatch.setattr(type(manager), "get_session", None)
    await store.append(KEY, entries("last", 1))
    monkeypatch.undo()
    assert len(await store.load(KEY) or ()) == 3


async def test_stores_of_several_loops_share_a_transcript(manager: SessionManager) -> None:
    def in_a_loop_of_its_own(number: int) -> None:
        store = ClaudeSessionStore(manager, user_id="ann")
        for step in range(5):
            asyncio.run(store.append(KEY, entries(f"{number}-{step}", 2)))

    await asyncio.gather(*(asyncio.to_thread(in_a_loop_of_its_own, n) for n in range(4)))
    stored = await ClaudeSessionStore(manager, user_id="ann").load(KEY)
    assert stored is not None
    assert len({entry["uuid"] for entry in stored}) == len(stored) == 40


async def test_the_example_runs(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    from agent_cores.session.examples.claude_agent_sdk_agent import main

    await main(store_url)
    assert capsys.readouterr().out.splitlines() == [
        "What is the capital of Norway?",
        "user: What is the capital of Norway?",
        "assistant: Oslo.",
    ]
