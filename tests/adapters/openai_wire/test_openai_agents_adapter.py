"""One conversation through the adapter of the Agents SDK and through OpenAI's Conversations."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from agents import OpenAIConversationsSession
from openai import AsyncOpenAI

from agent_cores.session.adapters.openai_agents import OpenAIAgentsSession
from agent_cores.session.client import SessionClient
from tests.adapters.openai_wire.conftest import Served

ITEMS: list[Any] = [
    {"role": "user", "content": "Weather in Oslo?"},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "function_call", "call_id": "c", "name": "weather", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c", "output": "rain"},
    {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "It rains.", "annotations": []}],
    },
]


async def test_what_the_adapter_writes_is_a_conversation(
    async_client: AsyncOpenAI, native: SessionClient
) -> None:
    ours = OpenAIAgentsSession("chat", native, user_id="ann")
    forged = {"type": "user", "text": "no message"}
    await ours.add_items([*ITEMS, cast("Any", forged)])
    wire = OpenAIConversationsSession(conversation_id="chat", openai_client=async_client)
    found = cast("list[Any]", await wire.get_items())
    assert [item["type"] for item in found[:5]] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "message",
    ]
    assert [item.get("role") for item in found[:5]] == ["user", None, None, None, "assistant"]
    assert found[0]["content"] == [{"type": "input_text", "text": "Weather in Oslo?"}]
    assert found[3]["output"] == "rain"
    assert found[5].get("role") not in {"user", "assistant"}
    await wire.add_items([cast("Any", {"role": "user", "content": "And now?"})])
    assert await ours.get_items(limit=6) == [
        *ITEMS[1:],
        forged,
        (await ours.get_items(limit=1))[0],
    ]


async def test_a_conversation_goes_on_in_the_adapter(
    async_client: AsyncOpenAI, native: SessionClient
) -> None:
    wire = OpenAIConversationsSession(openai_client=async_client)
    await wire.add_items(ITEMS[:1] + ITEMS[2:])
    ours = OpenAIAgentsSession(wire.session_id, native, user_id="ann")
    found: list[Any] = list(await ours.get_items())
    shown: list[Any] = list(await wire.get_items())
    without_ids = [{k: v for k, v in item.items() if k != "id"} for item in found]
    assert without_ids == [{k: v for k, v in item.items() if k != "id"} for item in shown]
    assert without_ids[1:] == ITEMS[2:]
    await ours.add_items([{"role": "user", "content": "And now?"}])
    assert cast("Any", (await wire.get_items())[-1])["content"][0]["text"] == "And now?"
    assert await ours.pop_item() == {"role": "user", "content": "And now?"}
    await ours.clear_session()
    assert await ours.get_items() == []


async def test_a_session_on_a_client_for_any_loop_is_used_from_two_loops(served: Served) -> None:
    async with SessionClient(served.address, served.key, any_loop=True) as client:
        ours = OpenAIAgentsSession("chat", client, user_id="ann")
        await ours.add_items(ITEMS[:2])
        await asyncio.to_thread(asyncio.run, ours.add_items(ITEMS[2:]))
        assert await ours.get_items() == ITEMS
        assert await asyncio.to_thread(asyncio.run, ours.pop_item()) == ITEMS[-1]
        assert await ours.get_items() == ITEMS[:-1]
