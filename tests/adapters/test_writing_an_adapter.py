"""The example of the page about writing an adapter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.errors import SessionExistsError

PAGE = Path(__file__).parents[2] / "docs" / "adapters" / "writing-an-adapter.md"


def history_class() -> Any:  # noqa: ANN401 - made from the page
    found = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found[1], names)  # noqa: S102 - our own page
    return names["History"]


async def test_the_example_keeps_a_history(manager: SessionManager) -> None:
    history = history_class()("a/topic", manager, user_id="ann")
    assert await history.load() == []
    await history.save([{"n": 1}, "two"])
    await history.save([None])
    assert await history.load() == [{"n": 1}, "two", None]
    await history.drop()
    await history.drop()
    assert await history.load() == []


async def test_the_example_refuses_a_squatters_session(manager: SessionManager) -> None:
    await manager.create_session("mallory", session_id="topic")
    await manager.share_session("topic", "mallory", "ann", role="editor")
    history = history_class()("topic", manager, user_id="ann")
    with pytest.raises(SessionExistsError):
        await history.load()
    with pytest.raises(SessionExistsError):
        await history.save(["secret"])
