"""What a user wrote by hand into the session of an agent: it stops nothing."""

from __future__ import annotations

from typing import Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.adapters.openai_agents import OpenAIAgentsSession

ITEM: Any = {"role": "user", "content": "hello"}
ODD: list[Any] = [
    [5],
    [],
    None,
    {"type": []},
    {"type": {"a": 1}, "role": "user", "content": "x"},
    {"type": None, "role": ["user"]},
    {"role": {}, "content": []},
]


@pytest.mark.parametrize("role", ["user", "assistant", "item", "note"])
async def test_messages_of_any_shape_are_read_as_some_item(
    manager: SessionManager, role: str
) -> None:
    session = OpenAIAgentsSession("chat", manager, user_id="ann")
    await session.add_items([ITEM])
    for odd in ODD:
        await manager.add_message("chat", "ann", role, odd)
    await session.add_items([ITEM])
    items: list[Any] = await session.get_items()
    assert len(items) == 2 + len(ODD)
    assert items[0] == items[-1] == ITEM
    assert all(isinstance(each.get("type"), str | None) for each in items)
    for item in reversed(items):
        assert await session.pop_item() == item
