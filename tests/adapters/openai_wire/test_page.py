"""The code of docs/openai-conversations.md runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent_cores.session.client import SyncSessionClient
from tests.adapters.openai_wire.conftest import Served
from tests.adapters.openai_wire.test_node import CLIENTS, folder  # noqa: F401 - a fixture
from tests.adapters.pages import REPLY, as_openai, blocks, printed_by, scripted


def block(language: str, served: Served) -> str:
    """Return the block of the page in a language, for this service."""
    [code] = blocks("openai-conversations.md", language)
    there = code.replace("https://sessions.example.com/v1", served.base_url)
    return there.replace("ask_…", served.key)


@pytest.mark.parametrize("store_url", ["memory://"])
def test_the_python_code_runs(served: Served, tmp_path: Path) -> None:
    with scripted(as_openai) as model:
        printed = printed_by(
            block("python", served),
            tmp_path,
            OPENAI_BASE_URL=f"{model.address}/v1",
            OPENAI_API_KEY="none",
            OPENAI_AGENTS_DISABLE_TRACING="1",
        )
    assert printed == f"{REPLY}\n"
    with SyncSessionClient(served.address, served.key) as client:
        [session] = client.list_user_sessions("ann")
        page = client.get_session_messages(session.metadata.session_id, "ann")
    assert [message.role for message in page] == ["user", "assistant"]


@pytest.mark.parametrize("store_url", ["memory://"])
def test_the_javascript_code_runs(served: Served, folder: Path) -> None:  # noqa: F811 - as above
    code = block("js", served).replace('"openai"', f'"{CLIENTS[0]}"')
    (folder / "page.mjs").write_text(code, encoding="utf-8")
    ended = subprocess.run(
        ["node", "page.mjs"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    with served.client() as client:
        assert client.conversations.create().id
