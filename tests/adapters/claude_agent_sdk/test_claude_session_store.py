"""Transcripts of the Claude Agent SDK: its own conformance kit, and what it does not ask."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from claude_agent_sdk.testing import run_session_store_conformance

from agent_cores.session import SessionManager
from agent_cores.session.adapters.claude_agent_sdk import ClaudeSessionStore

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
