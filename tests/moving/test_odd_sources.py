"""Sources with odd or hostile data: named, left out or refused; never lost, doubled or a crash."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.frameworks import databases
from agent_cores.session.frameworks.claude import ClaudeReader
from agent_cores.session.frameworks.found import LeftOut
from agent_cores.session.frameworks.importing import Framework, import_from
from agent_cores.session.frameworks.writing import SessionWriter
from agent_cores.session.storage.sqlite.provider import SQLiteProvider
from tests.moving.sessions import everything

ITEMS = "CREATE TABLE {} (id INTEGER, session_id, message_data TEXT, created_at TEXT)"
ADK = """
    CREATE TABLE events (app_name, user_id, session_id, id, invocation_id, timestamp, event_data);
    CREATE TABLE sessions (app_name, user_id, id, state, create_time, update_time);
    CREATE TABLE app_states (app_name, state, update_time);
    CREATE TABLE user_states (app_name, user_id, state, update_time);
"""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLiteProvider]:
    store = SQLiteProvider.from_url(f"sqlite:///{tmp_path / 'target.db'}")
    await store.initialize()
    yield store
    await store.shutdown()


def made(path: Path, script: str) -> str:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(script)
    return str(path)


@pytest.mark.parametrize("table", ["a?b", 'a"b', "50%s", '"; DROP TABLE x; --'])
async def test_a_table_may_have_any_name(store: SQLiteProvider, tmp_path: Path, table: str) -> None:
    name = '"' + table.replace('"', '""') + '"'
    row = "INSERT INTO {} VALUES (1, 'x', '{{}}', '')"
    script = f"{ITEMS.format(name)}; {row.format(name)}"
    source = made(tmp_path / "source.db", script)
    told: list[tuple[int, int | None]] = []
    tally = await import_from(
        "openai-agents", source, store, user="ann", progress=lambda *done: told.append(done)
    )
    assert (tally.sessions, told[-1]) == (1, (1, 1))


async def test_pages_of_large_rows_are_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = "INSERT INTO items VALUES ({}, 'x', '{}', '');"
    rows = [row.format(number, "x" * (400 if number < 20 else 1)) for number in range(90)]
    source = made(tmp_path / "source.db", ITEMS.format("items") + ";" + "".join(rows))
    monkeypatch.setattr(databases, "_PAGE_BYTES", 1_000)
    sizes = []
    async with databases.open_database(source) as database:
        read = database.rows

        async def counted(sql: str, *values: object) -> Sequence[databases.Row]:
            sizes.append(len(found := await read(sql, *values)))
            return found

        monkeypatch.setattr(database, "rows", counted)
        walked = databases.walk(database, "items", ["id"], ["message_data"], size=16)
        assert [number async for number, _ in walked] == list(range(90))
    assert sizes == [10, 5, 2, 4, 2, 4, 8, 16, 16, 16, 7]


async def test_a_message_id_that_comes_twice_stops_no_other_session(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    row = "INSERT INTO events VALUES ('app', 'ann', '{}', 'id', '', {}, '{{}}');"
    session = "INSERT INTO sessions VALUES ('app', 'ann', '{}', '{{}}', 1, 2);"
    rows = [session.format("twice"), row.format("twice", 1), row.format("twice", 2)]
    rows += [session.format("good"), row.format("good", 1)]
    source = made(tmp_path / "source.db", ADK + "".join(rows))
    tally = await import_from("google-adk", source, store)
    assert (tally.sessions, tally.left_out.count) == (1, 1)
    assert tally.left_out.names[0].startswith("session adk:app:ann:twice: ")


async def test_damaged_names_can_be_written_as_json(store: SQLiteProvider, tmp_path: Path) -> None:
    row = "INSERT INTO sessions VALUES ('app', 'ann', CAST(x'ff' AS TEXT), '{', 1, 2)"
    source = made(tmp_path / "source.db", ADK + row)
    [name] = (await import_from("google-adk", source, store)).left_out.names
    assert name == "session \\udcff of ann in app: its state is not valid JSON"


async def test_a_checkpoint_whose_values_are_no_object_is_left_out(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    script = """
        CREATE TABLE checkpoints
            (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata);
        CREATE TABLE checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob);
        INSERT INTO checkpoints VALUES
            ('t', '', '1', NULL, '{"channel_values": [1], "channel_versions": {}}', '{}');
    """
    tally = await import_from("langgraph", made(tmp_path / "db", script), store, user="ann")
    assert tally.left_out.names[0].startswith("session langgraph:ann:t: checkpoint 1: ")


async def test_no_error_repeats_a_password(store: SQLiteProvider) -> None:
    sources: tuple[tuple[Framework, str], ...] = (
        ("google-adk", "mysql"),
        ("google-adk", "postgresql"),
        ("langchain-redis", "redis"),
    )
    for framework, scheme in sources:
        with pytest.raises(ConfigurationError) as caught:
            await import_from(framework, f"{scheme}://ann:secret/@localhost/app", store, user="ann")
        assert "secret" not in str(caught.value)


async def test_a_number_of_two_files_is_read_once(store: SQLiteProvider, tmp_path: Path) -> None:
    agent = tmp_path / "session_s" / "agents" / "agent_a"
    (agent / "messages").mkdir(parents=True)
    (agent / "agent.json").write_text("{}")
    for name in ("message_7.json", "message_007.json", "message_٧.json"):
        text = json.dumps({"message": {"role": "user", "content": [{"text": name}]}})
        (agent / "messages" / name).write_text(text)
    tally = await import_from("strands", str(tmp_path), store, user="ann")
    assert (tally.messages, tally.left_out.count) == (1, 0)
    [session] = (await everything(store)).values()
    [message] = list(session.messages or [])
    assert b"message_7.json" in message.body


async def test_a_call_that_a_message_holds_in_two_forms_is_one(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    block = {"block_type": "tool_call", "tool_call_id": "c", "tool_name": "f", "tool_kwargs": "{}"}
    calls = [
        {"id": name, "function": {"name": "f", "arguments": "{}"}, "type": "function"}
        for name in ("c", "d")
    ]
    said = {"role": "assistant", "blocks": [block], "additional_kwargs": {"tool_calls": calls}}
    (tmp_path / "chats.json").write_text(json.dumps({"store": {"chat": [said]}}))
    await import_from("llama-index", str(tmp_path / "chats.json"), store, user="ann")
    [session] = (await everything(store)).values()
    [message] = list(session.messages or [])
    content = json.loads(message.body[1:])["content"]
    assert [part["id"] for part in content] == ["c", "d"]


async def test_a_transcript_that_cannot_be_read_is_left_out(
    store: SQLiteProvider, tmp_path: Path
) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "good.jsonl").write_text("{}\n")
    writer = SessionWriter(store, "default", replace=False)
    reader = ClaudeReader([tmp_path], "ann", lambda *_: {})
    async for found in reader.sessions():
        assert not isinstance(found, LeftOut)
        await writer.write(found)
    await writer.flush()
    assert (writer.tally.sessions, writer.tally.left_out.count) == (1, 2)
    assert all("line 1: cannot be read" in name for name in writer.tally.left_out.names)
