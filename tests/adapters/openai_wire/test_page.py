"""The code of docs/openai-conversations.md runs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from agents import set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message

from tests.adapters.openai_wire.conftest import Served
from tests.adapters.openai_wire.test_node import CLIENTS, folder  # noqa: F401 - a fixture

PAGE = Path(__file__).parents[3] / "docs" / "openai-conversations.md"


def block(language: str, served: Served) -> str:
    """Return the block of the page in a language, for this service."""
    text = PAGE.read_text(encoding="utf-8")
    [code] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return (
        str(code)
        .replace("https://sessions.example.com/v1", served.base_url)
        .replace("ask_…", served.key)
    )


@pytest.mark.parametrize("store_url", ["memory://"])
async def test_the_python_code_runs(served: Served) -> None:
    set_tracing_disabled(disabled=True)
    code = block("python", served).replace('Agent("helper")', 'Agent("helper", model=model)')
    names: dict[str, Any] = {"model": ScriptedModel([[assistant_message("Rain.")]])}
    compiled = compile(code, str(PAGE), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    done = eval(compiled, names)  # noqa: S307 - the code of our own page
    assert inspect.isawaitable(done)
    await done
    assert names["result"].final_output == "Rain."
    assert len(await names["session"].get_items()) == 2
    await names["client"].close()


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
