"""Runs of the Agents SDK on our sessions: its runner, its compaction, the example."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, Runner, SQLiteSession, function_tool, set_tracing_disabled
from agents.memory import OpenAIResponsesCompactionSession
from agents.testing import ScriptedModel, assistant_message, function_call

from agent_cores.session import SessionManager
from agent_cores.session.adapters.openai_agents import OpenAIAgentsSession
from agent_cores.session.errors import ConflictError
from agent_cores.session.examples import openai_agents_agent

SUMMARY = {"type": "compaction", "id": "cmp_1", "encrypted_content": "summary"}


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


def texts(items: Any) -> list[str]:  # noqa: ANN401
    return [item.get("content", item.get("type", "")) for item in items]


def session_of(manager: SessionManager) -> OpenAIAgentsSession:
    return OpenAIAgentsSession("chat", manager, user_id="ann")


class Compacting:
    """The part of OpenAI's client that compacts; calls a function meanwhile."""

    def __init__(self, concurrent: Any = None) -> None:  # noqa: ANN401
        self.responses = self
        self.concurrent = concurrent
        self.calls = 0

    async def compact(self, **_: object) -> object:
        self.calls += 1
        if self.concurrent:
            await self.concurrent()
        return SimpleNamespace(output=[dict(SUMMARY)], usage=None)


def compacted(session: OpenAIAgentsSession, client: Compacting) -> OpenAIResponsesCompactionSession:
    return OpenAIResponsesCompactionSession(
        "chat",
        session,
        client=client,  # type: ignore[arg-type,unused-ignore]
        compaction_mode="input",
        should_trigger_compaction=lambda _: True,
    )


async def test_the_example_runs(store_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    await openai_agents_agent.main(store_url)
    assert capsys.readouterr().out.splitlines() == [
        "It rains in Oslo.",
        "You asked about Oslo.",
        "user, function_call, function_call_output, assistant, user, assistant",
    ]


async def test_a_streamed_run_goes_on_where_the_last_one_ended(manager: SessionManager) -> None:
    model = ScriptedModel(
        [
            [function_call("weather", {"city": "Oslo"}, call_id="c1")],
            [assistant_message("It rains.")],
            [assistant_message("About Oslo.")],
        ]
    )
    agent = Agent("helper", model=model, tools=[weather])
    await Runner.run(agent, "What is the weather in Oslo?", session=session_of(manager))
    streamed = Runner.run_streamed(agent, "What did I ask?", session=session_of(manager))
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == "About Oslo."
    assert model.last_call is not None
    assert len(model.last_call.input) == 5
    assert len(await session_of(manager).get_items()) == 6


async def test_runs_at_once_on_one_session_lose_nothing(manager: SessionManager) -> None:
    async def run(number: int) -> None:
        model = ScriptedModel([[assistant_message(f"answer {number}")]])
        await Runner.run(Agent("a", model=model), f"{number}", session=session_of(manager))

    await asyncio.gather(*(run(number) for number in range(5)))
    items: list[Any] = list(await session_of(manager).get_items())
    assert sorted(texts(i for i in items if i["role"] == "user")) == [str(n) for n in range(5)]
    answers = [i["content"][0]["text"] for i in items if i["role"] == "assistant"]
    assert sorted(answers) == [f"answer {n}" for n in range(5)]


async def test_the_user_comes_from_the_context_of_the_run(manager: SessionManager) -> None:
    session = OpenAIAgentsSession("chat", manager, user_id=lambda context: context.user)
    model = ScriptedModel([[assistant_message("hi")]])
    await Runner.run(
        Agent("a", model=model), "hello", session=session, context=SimpleNamespace(user="ann")
    )
    assert (await manager.get_session("chat", "ann")).metadata.owner_id == "ann"


async def test_a_summary_replaces_the_conversation(manager: SessionManager) -> None:
    session = session_of(manager)
    await session.add_items([user(str(n)) for n in range(5)])
    whole = compacted(session, Compacting())
    await whole.run_compaction({"force": True})
    assert await session.get_items() == [SUMMARY]
    await whole.add_items([user("next")])
    await whole.run_compaction({"force": True})
    assert await session.get_items() == [SUMMARY]
    assert await session._atomic_replace_items([])  # noqa: SLF001
    assert await session.get_items() == []


async def test_the_runner_compacts(manager: SessionManager) -> None:
    client = Compacting()
    model = ScriptedModel([[assistant_message("one")], [assistant_message("two")]])
    agent = Agent("a", model=model)
    for text in ("first", "second"):
        await Runner.run(agent, text, session=compacted(session_of(manager), client))
    assert client.calls


async def test_a_compaction_never_loses_what_came_meanwhile(manager: SessionManager) -> None:
    session = session_of(manager)
    await session.add_items([user("old")])

    async def concurrent() -> None:
        await session_of(manager).add_items([user("meanwhile")])

    await session.get_items()
    await concurrent()
    with pytest.raises(ConflictError):
        await session._atomic_replace_items([SUMMARY])  # noqa: SLF001
    assert texts(await session.get_items()) == ["old", "meanwhile"]
    if has_hook("_atomic_replace_items"):  # older releases clear the session and add to it
        whole = compacted(session, Compacting(concurrent))
        with pytest.raises(ConflictError):
            await whole.run_compaction({"force": True})
        assert texts(await session.get_items()) == ["old", "meanwhile", "meanwhile"]
    whole = compacted(session, Compacting())
    await whole.run_compaction({"force": True})
    assert await session.get_items() == [SUMMARY]


async def test_a_suffix_is_replaced_only_if_nothing_changed(manager: SessionManager) -> None:
    session, other = session_of(manager), session_of(manager)

    async def snapshot(limit: int) -> Any:  # noqa: ANN401
        return await session._get_compaction_snapshot(limit)  # noqa: SLF001

    assert (await snapshot(3)).items == []
    assert not await (await snapshot(3)).replace_suffix(0, [SUMMARY])
    await session.add_items([user(str(n)) for n in range(5)])
    taken = await snapshot(3)
    assert (texts(taken.items), taken.complete) == (["2", "3", "4"], False)
    assert (await snapshot(5)).complete
    assert not await taken.replace_suffix(3, [SUMMARY])
    assert await taken.replace_suffix(1, [SUMMARY])
    assert texts(await other.get_items()) == ["0", "1", "2", "compaction"]
    assert not await taken.replace_suffix(1, [SUMMARY])
    changes: list[Any] = [
        lambda: other.add_items([user("new")]),
        other.pop_item,
        lambda: manager.delete_messages("chat", "ann", keep_last=1),
    ]
    for change in changes:
        taken = await snapshot(10)
        await change()
        before = await session.get_items()
        assert not await taken.replace_suffix(0, [SUMMARY]), change
        assert await session.get_items() == before
    taken = await snapshot(10)
    assert await taken.replace_suffix(0, [])
    assert await other.get_items() == []
    taken = await snapshot(10)
    await other.clear_session()
    assert not await taken.replace_suffix(0, [SUMMARY])
    await other.add_items([user(str(n)) for n in range(12)])
    assert not await taken.replace_suffix(0, [SUMMARY])


async def test_what_expired_at_the_beginning_goes_with_a_replacement(
    manager: SessionManager,
) -> None:
    session = session_of(manager)
    await session.add_items([user(text) for text in ("old", "old", "live", "old", "end")])

    def is_old(item: Any) -> bool:  # noqa: ANN401
        return bool(item.get("content") == "old")

    for _ in range(2):
        taken = await session._get_compaction_snapshot(1, prune_prefix=is_old)  # noqa: SLF001
        assert taken is not None
        assert await taken.replace_suffix(0, [SUMMARY])
        assert texts(await session.get_items()) == ["live", "old", "compaction"]


async def test_a_subclass_that_changes_items_is_left_alone(manager: SessionManager) -> None:
    class Changed(OpenAIAgentsSession):
        pass

    session = Changed("chat", manager, user_id="ann")
    assert await session._get_compaction_snapshot(3) is None  # noqa: SLF001
    assert not await session._atomic_replace_items([])  # noqa: SLF001


def has_hook(name: str) -> bool:
    """Whether this release of the SDK looks for a hook."""
    from pathlib import Path

    import agents.memory.openai_responses_compaction_session as module

    return name in Path(module.__file__).read_text()


@pytest.mark.parametrize("seed", range(5))
async def test_it_does_what_the_sdks_own_session_does(manager: SessionManager, seed: int) -> None:
    theirs, ours = SQLiteSession("chat"), session_of(manager)
    choose = random.Random(seed)
    for step in range(60):
        what = choose.choice(["add", "add", "pop", "get", "limit", "clear", "new"])
        if what == "add":
            items = [user(f"{step} {n}") for n in range(choose.randrange(4))]
            await theirs.add_items(items)
            await ours.add_items(items)
        elif what == "pop":
            assert await ours.pop_item() == await theirs.pop_item()
        elif what == "limit":
            limit = choose.randrange(6)
            assert await ours.get_items(limit) == await theirs.get_items(limit)
        elif what == "clear" and choose.random() < 0.3:
            await theirs.clear_session()
            await ours.clear_session()
        elif what == "new":
            ours = session_of(manager)
        assert await ours.get_items() == await theirs.get_items()
    theirs.close()
