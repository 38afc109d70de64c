"""Transcripts that Claude Code wrote, imported: the SDK lists and continues them from the store."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, fold_session_summary, query

from agent_cores.session import SessionManager
from agent_cores.session.adapters.claude_agent_sdk import ClaudeSessionStore
from agent_cores.session.errors import ConfigurationError, StoreFormatError
from tests.adapters.importing import files, imported

_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
_EVENTS: tuple[dict[str, Any], ...] = (
    {"type": "message_start", "message": _MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
)


class _Model(BaseHTTPRequestHandler):
    """Answers each prompt with one word, and keeps what it was asked."""

    asked: list[bytes]

    def do_POST(self) -> None:  # the name that http.server calls
        """Answer."""
        self.asked.append(self.rfile.read(int(self.headers["content-length"])))
        lines = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in _EVENTS]
        body = "".join(lines).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Run a model that Claude Code calls; yield what it was asked."""
    _Model.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Model) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
        monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        yield _Model.asked
        server.shutdown()


async def say(prompt: str, folder: Path, **options: Any) -> str:  # noqa: ANN401
    """Ask Claude Code, and return the id of its session."""
    asked = ClaudeAgentOptions(cwd=folder, max_turns=1, **options)
    found = [each async for each in query(prompt=prompt, options=asked)]
    [result] = [each for each in found if isinstance(each, ResultMessage)]
    return str(result.session_id)


async def test_a_transcript_is_continued_from_the_store(
    target: SessionManager, tmp_path: Path, asked: list[bytes]
) -> None:
    work, source = tmp_path / "work", tmp_path / "claude"
    work.mkdir()
    session_id = await say("What is ☂?", work)
    [main] = (source / "projects").glob("*/*.jsonl")
    helper = main.with_suffix("") / "subagents" / "agent-a.jsonl"
    helper.parent.mkdir(parents=True, exist_ok=True)
    helper.write_text(
        '{"type":"user","uuid":"u"}\n{"type":"user","uuid":"u"}\n\n{"type":"x\\ud83d"}\n{"cu'
    )
    helper.with_suffix(".meta.json").write_text('{"agentType":"Explore"}')
    lines = [json.loads(line) for line in main.read_text().splitlines()]
    before = files(source / "projects")
    tally = await imported(target, "claude", source, user="ann")
    assert (tally.sessions, tally.messages) == (2, len(lines) + 3)
    assert [name.partition(": ")[2] for name in tally.left_out.names] == [
        "line 5: is not valid JSON"
    ]
    assert files(source / "projects") == before
    store = ClaudeSessionStore(target, user_id="ann")
    key: Any = {"project_key": main.parent.name, "session_id": session_id}
    assert await store.load(key) == lines
    assert await store.list_subkeys(key) == ["subagents/agent-a"]
    assert await store.load({**key, "subpath": "subagents/agent-a"}) == [
        {"type": "user", "uuid": "u"},
        {"type": "x\ud83d"},
        {"type": "agent_metadata", "agentType": "Explore"},
    ]
    [listed] = await store.list_sessions(main.parent.name)
    times = [line["timestamp"] for line in lines if "timestamp" in line]
    stored = await target.get_session(f"claude:ann:{main.parent.name}:{session_id}", "ann")
    created = stored.metadata.created_at.isoformat(timespec="milliseconds")
    assert created.replace("+00:00", "Z") == min(times)
    [summary] = await store.list_session_summaries(main.parent.name)
    assert summary == {**fold_session_summary(None, key, lines), "mtime": listed["mtime"]}
    assert (await imported(target, "claude", main.parent, user="ann")).present == 2
    main.unlink()
    asked.clear()
    assert await say("More", work, session_store=store, resume=session_id) == session_id
    assert "What is ☂?" in str(json.loads(asked[0])["messages"])
    assert len(await store.load(key) or ()) > len(lines)


async def test_long_entries_are_imported_as_the_adapter_stores_them(
    target: SessionManager, tmp_path: Path
) -> None:
    key: Any = {"project_key": "project", "session_id": "one"}
    lines = [
        {"type": "user", "uuid": "a", "timestamp": "2026-01-02T03:04:05.000Z"},
        {"type": "user", "uuid": "b", "text": "☂" * 2**20},
        {"type": "user", "text": "x" * 10 * 2**20},
        {"type": "user", "text": "\ud83d" * 2**20},
        {"type": "user", "uuid": "c"},
    ]
    path = tmp_path / "projects" / "project" / "one.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with path.open("a") as file:
        file.write(json.dumps({"type": "user", "text": "x" * 2**26}) + "\n")
    tally = await imported(target, "claude", tmp_path, user="ann")
    [left_out] = tally.left_out.names
    assert "line 6" in left_out
    assert "at most 67108864 allowed" in left_out
    store = ClaudeSessionStore(target, user_id="ann")
    assert await store.load(key) == lines
    count = (await target.get_session("claude:ann:project:one", "ann")).metadata.message_count
    await store.append(key, [lines[1], {"type": "user", "uuid": "d"}])
    assert await store.load(key) == [*lines, {"type": "user", "uuid": "d"}]
    after = (await target.get_session("claude:ann:project:one", "ann")).metadata.message_count
    assert after == count + 1
    assert (await imported(target, "claude", tmp_path, user="ann")).present == 1


async def test_what_holds_no_transcript_is_refused(target: SessionManager, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreFormatError):
        await imported(target, "claude", tmp_path / "empty", user="ann")
    with pytest.raises(ConfigurationError):
        await imported(target, "claude", tmp_path / "none", user="ann")
