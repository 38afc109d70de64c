"""Entries that are longer than a message holds, such as images: stored in pieces, shown whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.adapters.claude_agent_sdk import ClaudeSessionStore
from agent_cores.session.errors import InvalidInputError

KEY: Any = {"project_key": "project", "session_id": "one"}
SESSION = "claude:ann:project:one"
MIB = 1024 * 1024


def image(uuid: str, size: int) -> Any:  # noqa: ANN401 - the SDK's own
    """Return an entry with an image of that many characters."""
    source = {"type": "base64", "data": (f"{uuid}/" * size)[:size]}
    content = [{"type": "image", "source": source}]
    return {"type": "user", "uuid": uuid, "message": {"role": "user", "content": content}}


def small(uuid: str) -> Any:  # noqa: ANN401 - the SDK's own
    return {"type": "user", "uuid": uuid}


async def roles(manager: SessionManager) -> list[str]:
    found: list[str] = []
    page = await manager.get_session_messages(SESSION, "ann", 1_000, after_seq=0)
    while page:
        found += [each.role for each in page]
        page = await manager.get_session_messages(SESSION, "ann", 1_000, after_seq=page[-1].seq)
    return found


@pytest.mark.parametrize("size", [MIB, 2 * MIB, 10 * MIB])
async def test_a_long_entry_comes_back_in_its_place(manager: SessionManager, size: int) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    batch = [small("a"), image("b", size), small("c"), image("d", size)]
    await store.append(KEY, batch)
    await store.append(KEY, [small("e")])
    assert await store.load(KEY) == [*batch, small("e")]


async def test_the_longest_entry_that_a_message_holds_is_one_message(
    manager: SessionManager,
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    room = MIB - len('{"type":"x","uuid":"a","text":""}')
    batch: list[Any] = [
        {"type": "x", "uuid": uuid, "text": "x" * (room + more)}
        for uuid, more in (("a", 0), ("b", 1))
    ]
    await store.append(KEY, batch)
    assert await roles(manager) == ["entry", "piece", "piece", "long_entry"]
    assert await store.load(KEY) == batch


async def test_a_repeated_long_entry_is_stored_once(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    batch = [image("a", 2 * MIB), image("b", 8 * MIB), image("a", 2 * MIB)]
    await store.append(KEY, batch)
    stored = await roles(manager)
    await store.append(KEY, [*batch, small("c")])
    assert await roles(manager) == [*stored, "entry"]
    assert await store.load(KEY) == [*batch[:2], small("c")]


async def test_a_uuid_of_another_entry_adds_no_piece(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [small("a"), image("b", 2 * MIB)])
    stored = await roles(manager)
    await store.append(KEY, [image("a", 9 * MIB), image("b", 9 * MIB), small("c")])
    await store.append(KEY, [small("b"), small("d")])
    assert await roles(manager) == [*stored, "entry", "entry"]
    assert await store.load(KEY) == [small("a"), image("b", 2 * MIB), small("c"), small("d")]


async def test_a_long_entry_without_a_uuid_is_appended_each_time(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    entry: Any = {"type": "x", "text": "☂\ud83d" * MIB}
    await store.append(KEY, [entry, entry])
    await store.append(KEY, [entry])
    assert await store.load(KEY) == [entry] * 3


async def test_an_entry_of_which_a_part_was_not_written_is_not_there_until_it_is_repeated(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    batch = [image("a", 10 * MIB), small("b")]
    add, left = manager.add_messages, 2

    async def failing(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError
        return await add(*args, **options)

    monkeypatch.setattr(manager, "add_messages", failing)
    with pytest.raises(ConnectionError):
        await store.append(KEY, batch)
    monkeypatch.undo()
    written = await roles(manager)
    assert set(written) == {"piece"}
    assert await store.load(KEY) is None
    assert await store.list_session_summaries("project") == []
    await store.append(KEY, batch)
    assert await store.load(KEY) == batch
    assert (await roles(manager)).count("piece") == -(-14 * MIB // 900_000) - 1 > len(written)


@pytest.mark.parametrize("written", [1, 2, 3])
@pytest.mark.parametrize("is_begun_anew", [False, True])
async def test_a_long_entry_is_whole_in_a_transcript_that_is_deleted_while_it_is_written(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch, written: int, *, is_begun_anew: bool
) -> None:
    store, other = (ClaudeSessionStore(manager, user_id="ann") for _ in range(2))
    batch = [image("a", 10 * MIB), small("b")]
    add, left = manager.add_messages, written

    async def deleting(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        nonlocal left
        stored = await add(*args, **options)
        left -= 1
        if left == 0:
            await other.delete(KEY)
            if is_begun_anew:
                await other.append(KEY, [small("c")])
        return stored

    monkeypatch.setattr(manager, "add_messages", deleting)
    await store.append(KEY, batch)
    monkeypatch.undo()
    assert left < 0
    assert await store.load(KEY) == [*([small("c")] if is_begun_anew else []), *batch]


async def test_concurrent_appends_of_one_long_entry_store_it_once(manager: SessionManager) -> None:
    stores = [ClaudeSessionStore(manager, user_id="ann") for _ in range(3)]
    entry = image("a", 6 * MIB)
    await asyncio.gather(*(each.append(KEY, [entry, small("b")]) for each in stores))
    assert await stores[0].load(KEY) == [entry, small("b")]


async def test_a_long_entry_of_a_new_transcript_is_written_part_by_part_once(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, sizes = manager.add_messages, []

    async def counting(session_id: str, user_id: str, messages: Any, **options: Any) -> Any:  # noqa: ANN401
        sizes.append(len(messages))
        return await add(session_id, user_id, messages, **options)

    monkeypatch.setattr(manager, "add_messages", counting)
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [image("a", 10 * MIB), small("b")])
    assert sizes == [4, 4, 4, 6]


async def test_the_summary_covers_long_entries(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    entry = {**image("a", 6 * MIB), "customTitle": "title", "gitBranch": "main"}
    await store.append(KEY, [entry])
    (summary,) = await store.list_session_summaries("project")
    assert (summary["data"]["custom_title"], summary["data"]["git_branch"]) == ("title", "main")
    (listed,) = await store.list_sessions("project")
    assert listed["mtime"] == summary["mtime"]


async def test_long_entries_go_with_their_transcript(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    subpath = {**KEY, "subpath": "agents/1"}
    for key in (KEY, subpath):
        await store.append(key, [image("a", 2 * MIB)])
    assert await store.load(subpath) == [image("a", 2 * MIB)]
    await store.delete(KEY)
    assert await store.load(KEY) is None
    assert (await manager.get_statistics())["sessions"] == 0


async def test_an_entry_that_is_too_large_is_refused_before_anything_is_written(
    manager: SessionManager,
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    batch = [*(small(f"a-{number}") for number in range(600)), image("b", 64 * MIB)]
    with pytest.raises(InvalidInputError, match=r"entries/600: .* at most 67108864 allowed"):
        await store.append(KEY, batch)
    assert await store.load(KEY) is None


@pytest.mark.parametrize(
    ("role", "content"),
    [
        ("long_entry", {"type": "json", "data": "", "more": ["none"]}),
        ("long_entry", {"type": "json", "data": "e30", "more": []}),
        ("long_entry", {"type": "json", "data": "WzFd", "more": []}),
        ("long_entry", {"type": "json", "data": 1, "more": 2}),
        ("long_entry", {"more": [[]]}),
        ("long_entry", "text"),
        ("long_entry", None),
        ("piece", None),
    ],
)
async def test_what_was_not_put_together_here_is_no_entry(
    manager: SessionManager,
    role: str,
    content: Any,  # noqa: ANN401
) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [small("a")])
    await manager.add_message(SESSION, "ann", role, content)
    assert await store.load(KEY) == [small("a")]


async def test_a_long_entry_of_a_guest_is_no_entry(manager: SessionManager) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [small("a")])
    await manager.share_session(SESSION, "ann", "bob", role="editor")
    forged = {"type": "json", "data": "e30=", "more": []}
    await manager.add_message(SESSION, "bob", "long_entry", forged)
    assert await store.load(KEY) == [small("a")]
    await manager.add_message(SESSION, "ann", "long_entry", forged)
    assert await store.load(KEY) == [small("a"), {}]


async def test_an_entry_that_an_earlier_version_stored_whole_is_read_and_stays(
    store_url: str,
) -> None:
    """A setting lets a message hold more, so entries of any size may be stored in one."""
    settings = SessionSettings(max_content_bytes=4 * MIB)
    async with SessionManager(store_url, settings=settings) as manager:
        store = ClaudeSessionStore(manager, user_id="ann")
        await store.append(KEY, [small("a")])
        whole = {**image("b", 2 * MIB), "data": "", "more": ["a"]}
        await manager.add_message(SESSION, "ann", "entry", whole, message_id="b")
        await store.append(KEY, [whole, small("c")])
        assert await store.load(KEY) == [small("a"), whole, small("c")]
        assert await roles(manager) == ["entry"] * 3
