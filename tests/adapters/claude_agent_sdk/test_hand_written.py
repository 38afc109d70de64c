"""What a user changed by hand in the sessions of the Claude Agent SDK: it stops nothing."""
# ruff: noqa: ANN401 - any JSON

from __future__ import annotations

from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.adapters.claude_agent_sdk import ClaudeSessionStore

KEY: Any = {"project_key": "project", "session_id": "one"}
SESSION = "claude:ann:project:one"
ODD: list[Any] = [
    5,
    "x",
    [],
    {},
    {"a": 1},
    {"session_id": "one", "mtime": 0, "data": 5},
    {"session_id": "one", "mtime": 0, "data": ["x"]},
    {"session_id": 5, "mtime": 0, "data": {}},
    {"session_id": "two", "mtime": 0, "data": {}},
    {"session_id": "one", "mtime": "now", "data": {}},
]


def said(uuid: str) -> Any:
    return {"type": "user", "uuid": uuid, "message": {"role": "user", "content": uuid}}


@pytest.mark.parametrize("odd", ODD)
async def test_a_summary_of_another_shape_is_made_anew(manager: SessionManager, odd: Any) -> None:
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [said("a")])
    await manager.update_session(SESSION, "ann", {"summary": odd})
    assert await store.list_session_summaries("project") == []
    store = ClaudeSessionStore(manager, user_id="ann")
    await store.append(KEY, [said("b")])
    assert await store.load(KEY) == [said("a"), said("b")]
    [summary] = await store.list_session_summaries("project")
    assert summary["session_id"] == "one"
    assert summary["data"]["first_prompt"] == "b"
