"""Transcripts of the Claude Agent SDK in a store of ours, read by the SDK's own functions.

The SDK's agent is a program that needs a network; here its part is played by two batches of the
entries that it writes. Needs the extra ``claude-agent-sdk``.

    python -m agent_cores.session.examples.claude_agent_sdk_agent [STORAGE-URL]
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from typing import Any

from claude_agent_sdk import (
    get_session_messages_from_store,
    list_sessions_from_store,
    project_key_for_directory,
)

from agent_cores.session import SessionManager
from agent_cores.session.adapters.claude_agent_sdk import ClaudeSessionStore


async def main(storage: str = "memory://") -> None:
    """Write a transcript as the SDK does, then list and read it."""
    async with SessionManager(storage) as manager:
        store = ClaudeSessionStore(manager, user_id="ann")
        session_id, project = str(uuid.uuid4()), project_key_for_directory(".")
        key: Any = {"project_key": project, "session_id": session_id}
        question = _entry(session_id, "user", "What is the capital of Norway?", None)
        await store.append(key, [question])
        await store.append(key, [_entry(session_id, "assistant", "Oslo.", question["uuid"])])
        for listed in await list_sessions_from_store(store, "."):
            print(listed.summary)
        for message in await get_session_messages_from_store(store, session_id, "."):
            print(f"{message.type}: {message.message['content']}")


def _entry(session_id: str, role: str, text: str, parent: str | None) -> dict[str, Any]:
    return {
        "type": role,
        "uuid": str(uuid.uuid4()),
        "parentUuid": parent,
        "sessionId": session_id,
        "timestamp": "2026-11-29T12:00:00.000Z",
        "cwd": ".",
        "message": {"role": role, "content": text},
    }


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:2]))
