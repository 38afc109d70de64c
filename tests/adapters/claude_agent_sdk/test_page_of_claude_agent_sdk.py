"""The program on docs/adapters/claude_agent_sdk.md runs, with the agent that the SDK brings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent_cores.session import SyncSessionManager
from tests.adapters.pages import REPLY, Model, as_anthropic, blocks, printed_by, scripted

FIRST = 'session_id = await ask("What is the capital of Norway?")'
SAID = ("What is the capital of Norway?", REPLY, "And of Sweden?")


def printed_with(code: str, folder: Path, model: Model, home: str) -> list[str]:
    (folder / home).mkdir()
    return printed_by(
        code,
        folder,
        ANTHROPIC_BASE_URL=model.address,
        ANTHROPIC_API_KEY="none",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
        HOME=str(folder / home),
    ).splitlines()


def transcript_in(folder: Path) -> Any:  # noqa: ANN401 - the SDK's entries
    with SyncSessionManager(f"sqlite:///{folder / 'sessions.db'}") as manager:
        [session] = manager.list_user_sessions("ann")
        page = manager.get_session_messages(session.metadata.session_id, "ann")
        return [message.content for message in page]


def test_a_transcript_is_resumed_from_the_store(tmp_path: Path) -> None:
    [code] = blocks("adapters/claude_agent_sdk.md", "python")
    assert FIRST in code
    with scripted(as_anthropic) as model:
        assert printed_with(code, tmp_path, model, "here") == [REPLY, REPLY, SAID[0]]
        stored = transcript_in(tmp_path)
        assert all(text in json.dumps(stored) for text in SAID)
        session_id = next(entry["sessionId"] for entry in stored if "sessionId" in entry)
        elsewhere = code.replace(FIRST, f'session_id = "{session_id}"')
        assert printed_with(elsewhere, tmp_path, model, "elsewhere") == [REPLY, SAID[0]]
    resumed = json.dumps(model.asked[-1]["messages"])
    assert all(text in resumed for text in SAID)
