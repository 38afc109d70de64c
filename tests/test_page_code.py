"""The fragments of code on the pages run where they stand, on a manager with a session."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import griffe
import pytest

from agent_cores.session import SessionManager, get_session_manager
from agent_cores.session.examples.custom_provider import CustomStorageProvider
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.test_documents import ROOT, blocks

PAGES = (
    "architecture",
    "errors",
    "glossary",
    "guide",
    "http",
    "moving-data",
    "mysql",
    "observability",
    "postgres",
    "redis",
    "testing-a-provider",
)
FRAGMENTS = [
    pytest.param(code.replace("ask_…", "ask_0"), id=f"{page}-{number}")
    for page in PAGES
    for number, code in enumerate(blocks(ROOT / "docs" / f"{page}.md", "python"))
]
ADAPTERS = [
    ROOT / "docs" / "adapters" / f"{name}.md"
    for name in ("claude_agent_sdk", "google_adk", "langgraph", "openai_agents", "pydantic_ai")
]
"""Here these are read; ``tests/adapters/*/test_page_of_*.py`` runs them beside their frameworks."""
AUDIT = logging.getLogger("agent_cores.session.audit")
CONVERSATIONS = """
    CREATE TABLE agent_messages (id INTEGER, session_id TEXT, message_data TEXT, created_at TEXT);
    INSERT INTO agent_messages VALUES (1, 'chat', '{"role": "user", "content": "Hello"}', '');
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Be in a folder of the test's own; leave the log of the audit as it was."""
    monkeypatch.chdir(tmp_path)
    theirs = ModuleType("your_module")
    theirs.CustomStorageProvider = CustomStorageProvider  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "your_module", theirs)
    handlers = [*AUDIT.handlers]
    yield tmp_path
    AUDIT.handlers[:] = handlers


async def run(code: str, names: dict[str, Any]) -> None:
    """Run a fragment, which may await, or have event loops of its own."""
    if "asyncio.run(" in code:
        await asyncio.to_thread(exec, code, names)
        return
    compiled = compile(code, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(compiled, names)  # noqa: S307 - our own page
    if inspect.isawaitable(made):
        await made


@pytest.mark.parametrize("code", FRAGMENTS)
async def test_a_fragment_of_a_page_runs(code: str, here: Path) -> None:
    with closing(sqlite3.connect("conversations.db")) as database:
        database.executescript(CONVERSATIONS)
    source, target = MemoryProvider(), MemoryProvider()
    await source.initialize()
    await target.initialize()
    owner = "user123" if '"user123"' in code else "ann"
    async with SessionManager("memory://") as manager:
        session_id = await manager.create_session(owner)
        for number in range(8):
            await manager.add_message(session_id, owner, "user", "Hi", message_id=f"m{number}")
        names = {
            "Path": Path,
            "get_session_manager": get_session_manager,
            "manager": manager,
            "pool": asyncpg.create_pool("postgresql://db.example/chat"),
            "pytest": pytest,
            "session_id": session_id,
            "source": source,
            "target": target,
        }
        await run(code, names)


@pytest.mark.parametrize("page", ADAPTERS, ids=lambda page: page.stem)
def test_the_page_of_an_adapter_calls_it_as_it_can_be_called(page: Path) -> None:
    trees = [ast.parse(code) for code in blocks(page, "python")]
    imported = [node for tree in trees for node in tree.body if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imported if (node.module or "").startswith("agent_cores.")]
    assert ours
    for node in ours:
        module = griffe.load(str(node.module))
        assert isinstance(module, griffe.Module)
        for name in (alias.name for alias in node.names):
            calls = [call for tree in trees for call in calls_of(name, tree)]
            parameters = {parameter.name for parameter in module[name].final_target.parameters}
            assert {keyword.arg for call in calls for keyword in call.keywords} <= parameters
            assert calls, name


def calls_of(name: str, tree: ast.AST) -> list[ast.Call]:
    """Return the calls of a name in a program."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]
