"""A row of a framework's database that is damaged is named and left out; the rest is imported."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest

from agent_cores.session.frameworks.importing import Framework, import_from
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.moving.sessions import everything

if TYPE_CHECKING:
    from pathlib import Path

    from agent_cores.session.frameworks.writing import ImportTally

CHECKPOINT = msgspec.msgpack.encode({"channel_values": {"a": 1}, "channel_versions": {"a": 1}})
Values = dict[str, object]
CHECKPOINT_ID: Values = {"thread_id": "good", "checkpoint_ns": "", "checkpoint_id": "1"}


class Tables(NamedTuple):
    """The tables of a framework, each with one good row, and the ids of the sessions they make."""

    framework: Framework
    rows: dict[str, Values]
    sessions: set[str]


SOURCES = {
    "openai-agents": Tables(
        "openai-agents",
        {"items": {"id": 1, "session_id": "good", "message_data": "{}", "created_at": ""}},
        {"good"},
    ),
    "llama-index": Tables(
        "llama-index",
        {
            "chats": {
                "id": 1,
                "key": "good",
                "timestamp": 1,
                "role": "user",
                "status": "active",
                "data": '{"role": "user", "blocks": []}',
            }
        },
        {"good"},
    ),
    "google-adk": Tables(
        "google-adk",
        {
            "events": {
                "app_name": "app",
                "user_id": "ann",
                "session_id": "good",
                "id": "e1",
                "invocation_id": "i",
                "timestamp": 1.5,
                "event_data": '{"author": "user"}',
            },
            "sessions": {
                "app_name": "app",
                "user_id": "ann",
                "id": "good",
                "state": "{}",
                "create_time": 1,
                "update_time": 2,
            },
            "app_states": {"app_name": "app", "state": '{"k": 1}', "update_time": 1},
            "user_states": {
                "app_name": "app",
                "user_id": "ann",
                "state": '{"k": 1}',
                "update_time": 1,
            },
        },
        {"adk:app:ann:good", "adk-app:app", "adk-user:app:ann"},
    ),
    "langgraph": Tables(
        "langgraph",
        {
            "checkpoints": {
                **CHECKPOINT_ID,
                "parent_checkpoint_id": None,
                "type": "msgpack",
                "checkpoint": CHECKPOINT,
                "metadata": b"{}",
            },
            "writes": {
                **CHECKPOINT_ID,
                "task_id": "t",
                "idx": 0,
                "channel": "a",
                "type": "msgpack",
                "value": b"\x01",
            },
        },
        {"langgraph:ann:good", "langgraph-data:ann:good"},
    ),
    "langgraph as in PostgreSQL": Tables(
        "langgraph",
        {
            "checkpoints": {
                **CHECKPOINT_ID,
                "parent_checkpoint_id": None,
                "checkpoint": '{"channel_values": {}, "channel_versions": {"a": "1"}}',
                "metadata": "{}",
            },
            "checkpoint_blobs": {
                "thread_id": "good",
                "checkpoint_ns": "",
                "channel": "a",
                "version": "1",
                "type": "msgpack",
                "blob": b"\x01",
            },
            "checkpoint_writes": {
                **CHECKPOINT_ID,
                "task_id": "t",
                "task_path": "",
                "idx": 0,
                "channel": "a",
                "type": "msgpack",
                "blob": b"\x01",
            },
        },
        {"langgraph:ann:good", "langgraph-data:ann:good"},
    ),
}
KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "openai-agents": {"items": ("session_id", "id")},
    "llama-index": {"chats": ("key", "timestamp", "id")},
    "google-adk": {
        "events": ("app_name", "user_id", "session_id", "id", "timestamp"),
        "sessions": ("app_name", "user_id", "id"),
        "app_states": ("app_name",),
        "user_states": ("app_name", "user_id"),
    },
    "langgraph": {
        "checkpoints": ("thread_id", "checkpoint_ns", "checkpoint_id"),
        "writes": ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx"),
    },
}
DAMAGED_TEXT = object()
HOSTILE = {
    "nothing": None,
    "whole number": 5,
    "number": 5.5,
    "huge number": 2**63 - 1,
    "infinity": float("inf"),
    "text": "x",
    "no text": "",
    "bytes": b"\xff",
    "bytes of JSON": b'{"type": []}',
    "damaged text": DAMAGED_TEXT,
    "unfinished JSON": "{",
    "list": "[]",
    "null": "null",
    "lists for texts": '{"type": [], "role": [], "author": {}, "timestamp": [], "blocks": [[]]}',
    "half a pair": '{"role": "\\ud800"}',
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 900 + "1" + "}" * 900,
    "text with a NUL": "a\0b",
    "long text": "x" * 70_000,
    "time": "0001-01-01T00:00:00+14:00",
}


def made(path: Path, tables: Tables, *more: tuple[str, Values]) -> str:
    """Write a database with the good rows and others; columns have no type, and hold anything."""
    with closing(sqlite3.connect(path)) as database, database:
        for table, row in tables.rows.items():
            database.execute(f"CREATE TABLE {table} ({', '.join(row)})")
        for table, row in [*tables.rows.items(), *more]:
            marks = [
                "CAST(x'61ff' AS TEXT)" if value is DAMAGED_TEXT else "?" for value in row.values()
            ]
            values = [value for value in row.values() if value is not DAMAGED_TEXT]
            database.execute(f"INSERT INTO {table} VALUES ({', '.join(marks)})", values)  # noqa: S608
    return str(path)


async def brought(tables: Tables, source: str) -> tuple[ImportTally, set[str]]:
    """Import a database; return what became of it, and the ids of the stored sessions."""
    store = MemoryProvider()
    tally = await import_from(tables.framework, source, store, user="ann")
    return tally, {session_id for _, session_id in await everything(store)}


def other(table: str, row: Values) -> Values:
    """Return a row that differs from the good one, but is of the same session where it can be."""
    apart: dict[str, Values] = {
        "items": {"id": 2},
        "chats": {"id": 2},
        "events": {"id": "e2"},
        "sessions": {"id": "other"},
        "app_states": {"app_name": "other"},
        "user_states": {"user_id": "other"},
        "checkpoints": {"checkpoint_id": "2"},
        "checkpoint_blobs": {"version": "2"},
    }
    return row | apart.get(table, {"task_id": "u"})


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("name", SOURCES)
async def test_whatever_a_column_holds_the_good_rows_are_imported(
    tmp_path: Path, name: str, value: str
) -> None:
    tables = SOURCES[name]
    for table, row in tables.rows.items():
        for column in row:
            damaged = other(table, row) | {column: HOSTILE[value]}
            path = tmp_path / f"{table}.{column}"
            _, stored = await brought(tables, made(path, tables, (table, damaged)))
            assert stored >= tables.sessions, (table, column)


@pytest.mark.parametrize("value", [None, b"\xff"])
@pytest.mark.parametrize("name", KEYS)
async def test_a_row_without_a_key_is_named_with_its_table(
    tmp_path: Path, name: str, value: object
) -> None:
    tables = SOURCES[name]
    for table, columns in KEYS[name].items():
        for column in columns:
            row = other(table, tables.rows[table]) | {column: value}
            path = tmp_path / f"{table}.{column}"
            tally, stored = await brought(tables, made(path, tables, (table, row)))
            assert stored == tables.sessions
            [named] = tally.left_out.names
            assert named.startswith(f"a row of {table}")
            assert named.endswith(f": {column} is {'missing' if value is None else 'binary'}")
            assert not tally.is_complete


async def test_a_key_that_is_a_number_is_named_and_no_session(tmp_path: Path) -> None:
    tables = SOURCES["openai-agents"]
    row: Values = {"id": 2, "session_id": 7, "message_data": "{}", "created_at": ""}
    tally, stored = await brought(tables, made(tmp_path / "db", tables, ("items", row)))
    assert stored == {"good"}
    assert tally.left_out.names == ["a row of items with id 2: session_id is a number"]


async def test_many_rows_without_a_key_are_counted(tmp_path: Path) -> None:
    tables = SOURCES["openai-agents"]
    row: Values = {"id": None, "session_id": None, "message_data": "{}", "created_at": ""}
    rows = [("items", row)] * 150
    tally, stored = await brought(tables, made(tmp_path / "db", tables, *rows))
    assert stored == {"good"}
    assert tally.left_out.names[0] == "a row of items: session_id is missing, id is missing"
    assert tally.left_out.count == 101
