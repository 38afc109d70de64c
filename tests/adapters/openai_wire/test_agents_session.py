"""``OpenAIConversationsSession`` of OpenAI's Agents SDK, with its runner and a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import pytest
from agents import Agent, OpenAIConversationsSession, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from openai import AsyncOpenAI

from agent_cores.session.client import SessionClient


@pytest.fixture(autouse=True)
def _no_tracing() -> Iterator[None]:
    set_tracing_disabled(disabled=True)
    yield
    set_tracing_disabled(disabled=False)


@function_tool
def weather(city: str) -> str:
    """Return the weather."""
    return f"rain in {city}"


def user(text: str) -> Any:  # noqa: ANN401 - an item of the SDK
    return {"role": "user", "content": text}


async def test_a_run_goes_on_where_the_last_one_ended(
    async_client: AsyncOpenAI, native: SessionClient
) -> None:
    model = ScriptedModel(
        [
            [function_call("weather", {"city": "Oslo"}, call_id="c1")],
            [assistant_message("It rains.")],
            [assistant_message("You asked about Oslo.")],
        ]
    )
    agent = Agent("helper", model=model, tools=[weather])
    first = OpenAIConversationsSession(openai_client=async_client)
    done = await Runner.run(agent, "What is the weather in Oslo?", session=first)
    assert done.final_output == "It rains."

    second = OpenAIConversationsSession(
        conversation_id=first.session_id, openai_client=async_client
    )
    streamed = Runner.run_streamed(agent, "What did I ask?", session=second)
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == "You asked about Oslo."
    items = cast("list[Any]", await second.get_items())
    kinds = [item["type"] for item in items]
    assert kinds == ["message", "function_call", "function_call_output", *["message"] * 3]
    assert items[2]["output"] == "rain in Oslo"
    last_input = model.last_call
    assert last_input is not None
    assert len(last_input.input) == 5
    [session] = await native.list_user_sessions("ann")
    assert session.id == first.session_id
    assert session.metadata.message_count == 6


async def test_what_is_read_is_what_was_added(async_client: AsyncOpenAI) -> None:
    session = OpenAIConversationsSession(openai_client=async_client)
    full = {
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "é ☂ \u2028", "annotations": []}],
    }
    call = {"type": "function_call", "call_id": "c", "name": "n", "arguments": '{"a": null}'}
    await session.add_items(cast("Any", [full, call]))
    found = cast("list[Any]", await session.get_items())
    assert [{k: v for k, v in item.items() if k != "id"} for item in found] == [full, call]


async def test_more_items_than_a_request_takes_keep_their_order(async_client: AsyncOpenAI) -> None:
    session = OpenAIConversationsSession(openai_client=async_client)
    await session.add_items([user(f"{i}") for i in range(65)])

    def texts(items: Any) -> list[str]:  # noqa: ANN401 - items of the SDK
        return [item["content"][0]["text"] for item in items]

    assert texts(await session.get_items()) == [f"{i}" for i in range(65)]
    assert texts(await session.get_items(limit=3)) == ["62", "63", "64"]
    assert texts(await session.get_items(limit=30)) == [f"{i}" for i in range(35, 65)]
    assert await session.get_items(limit=0) == []


async def test_pop_and_clear(async_client: AsyncOpenAI, native: SessionClient) -> None:
    session = OpenAIConversationsSession(openai_client=async_client)
    assert await session.pop_item() is None
    await session.add_items([user("a"), user("b")])
    popped = cast("Any", await session.pop_item())
    assert popped["content"][0]["text"] == "b"
    assert len(await session.get_items()) == 1
    before = session.session_id
    await session.clear_session()
    assert await session.get_items() == []
    assert session.session_id != before
    assert [one.id for one in await native.list_user_sessions("ann")] == [session.session_id]


async def test_concurrent_writers_lose_and_double_nothing(async_client: AsyncOpenAI) -> None:
    first = OpenAIConversationsSession(openai_client=async_client)
    await first.add_items([user("begin")])
    others = [
        OpenAIConversationsSession(conversation_id=first.session_id, openai_client=async_client)
        for _ in range(4)
    ]
    await asyncio.gather(
        *(
            other.add_items([user(f"{number} {i} {j}") for j in range(3)])
            for number, other in enumerate(others)
            for i in range(5)
        )
    )
    texts = [cast("Any", item)["content"][0]["text"] for item in await first.get_items()]
    assert len(texts) == len(set(texts)) == 61
    for number in range(4):  # each write is one piece, and those of a session are in their order
        own = [text for text in texts if text.startswith(f"{number} ")]
        assert own == [f"{number} {i} {j}" for i in range(5) for j in range(3)]
        for i in range(5):
            at = texts.index(f"{number} {i} 0")
            assert texts[at : at + 3] == [f"{number} {i} {j}" for j in range(3)]


async def test_two_sessions_never_pop_the_same_item(async_client: AsyncOpenAI) -> None:
    from openai import NotFoundError

    first = OpenAIConversationsSession(openai_client=async_client)
    await first.add_items([user(f"{i}") for i in range(10)])
    other = OpenAIConversationsSession(conversation_id=first.session_id, openai_client=async_client)
    popped: list[str] = []
    for _ in range(20):
        found = await asyncio.gather(first.pop_item(), other.pop_item(), return_exceptions=True)
        for item in found:
            assert item is None or isinstance(item, dict | NotFoundError)
            if isinstance(item, dict):
                popped.append(cast("Any", item)["content"][0]["text"])
    assert sorted(popped, key=int) == [f"{i}" for i in range(10)]
