"""The program on docs/adapters/openai_agents.md runs, twice, as the page says."""

from __future__ import annotations

from pathlib import Path

from tests.adapters.pages import REPLY, as_openai, blocks, printed_by, scripted


def test_the_agent_knows_what_was_said_before(tmp_path: Path) -> None:
    [code] = blocks("adapters/openai_agents.md", "python")
    with scripted(as_openai) as model:
        addresses = {
            "OPENAI_BASE_URL": f"{model.address}/v1",
            "OPENAI_API_KEY": "none",
            "OPENAI_AGENTS_DISABLE_TRACING": "1",
        }
        for _ in range(2):
            assert printed_by(code, tmp_path, **addresses) == f"{REPLY}\n" * 2
    assert [len(request["input"]) for request in model.asked] == [1, 3, 5, 7]
    assert model.asked[-1]["input"][-1]["content"] == "And tomorrow?"
