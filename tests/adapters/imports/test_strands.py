"""Sessions that Strands Agents kept on disk, imported as natural sessions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from strands import Agent, tool
from strands.models import Model
from strands.session import FileSessionManager, SnapshotSessionManager
from strands.storage import LocalFileStorage
from strands.types.session import SessionMessage

from agent_cores.session import SessionManager
from tests.adapters.importing import files, imported


class Scripted(Model):
    """A model that calls the tool once and then answers."""

    def update_config(self, **_: object) -> None: ...

    def get_config(self) -> dict[str, Any]:
        return {}

    def structured_output(self, *_: object, **__: object) -> Any:  # noqa: ANN401
        raise NotImplementedError

    async def stream(self, messages: list[Any], *_: object, **__: object) -> AsyncIterator[Any]:
        yield {"messageStart": {"role": "assistant"}}
        if any("toolResult" in block for block in messages[-1]["content"]):
            yield {"contentBlockDelta": {"delta": {"text": "It is ☂."}}}
            reason = "end_turn"
        else:
            start = {"toolUse": {"name": "weather", "toolUseId": "call"}}
            yield {"contentBlockStart": {"start": start}}
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"town": "Ulm"}'}}}}
            reason = "tool_use"
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": reason}}


@tool
def weather(town: str) -> str:
    """Tell the weather."""
    return f"rain in {town}"


SAID = [
    ("user", "And tomorrow?"),
    (
        "assistant",
        [{"type": "tool_use", "id": "call", "name": "weather", "input": {"town": "Ulm"}}],
    ),
    (
        "user",
        [{"type": "tool_result", "tool_use_id": "call", "content": [{"text": "rain in Ulm"}]}],
    ),
    ("assistant", "It is ☂."),
]


async def ask(manager: Any) -> None:  # noqa: ANN401 - one of their session managers
    agent = Agent(
        model=Scripted(),
        tools=[weather],
        session_manager=manager,
        agent_id="helper",
        state={"town": "Ulm", "": None},
        callback_handler=None,
    )
    await agent.invoke_async("And tomorrow?")


async def test_agents_of_both_session_managers(target: SessionManager, tmp_path: Path) -> None:
    source = tmp_path / "source"
    file = FileSessionManager("trip", str(source))
    await ask(file)
    await ask(SnapshotSessionManager("other", storage=LocalFileStorage(str(source / "snapshots"))))
    before = files(source)
    tally = await imported(target, "strands", source, user="ann")
    assert (tally.sessions, tally.messages, tally.left_out.names) == (2, 8, [])
    assert files(source) == before
    for name in ("trip", "other"):
        session = await target.get_session(f"{name}:helper", "ann")
        assert [(each.role, each.content) for each in session.messages or ()] == SAID
        assert session.context is not None
        assert session.context["town"] == "Ulm"
        assert session.metadata["strands_session"] == name
    first = await target.get_session("trip:helper", "ann")
    stored = source / "session_trip/agents/agent_helper/messages/message_0.json"
    created = json.loads(stored.read_text())["created_at"]
    assert (first.messages or [])[0].created_at.isoformat()[:23] == created[:23]
    assert (await imported(target, "strands", source, user="ann")).present == 2


async def test_a_redacted_message_stays_redacted_and_damage_is_reported(
    target: SessionManager, tmp_path: Path
) -> None:
    manager = FileSessionManager("trip", str(tmp_path))
    await ask(manager)
    redacted = SessionMessage(
        {"role": "user", "content": [{"text": "secret"}]},
        0,
        redact_message={"role": "user", "content": [{"text": "[gone]"}]},
    )
    manager.update_message("trip", "helper", redacted)
    messages = tmp_path / "session_trip/agents/agent_helper/messages"
    (messages / "message_1.json").write_text('{"message')
    tally = await imported(target, "strands", tmp_path, user="ann")
    assert tally.left_out.names == ["session trip:helper: message 1: is not valid JSON"]
    stored = await target.get_session_messages("trip:helper", "ann")
    assert [each.content for each in stored][::2] == ["[gone]", "It is ☂."]
    assert "secret" not in str(stored)
