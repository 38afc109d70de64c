"""The checkpointer that ``langgraph.json`` names, used as Agent Server uses it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from agent_cores.session import get_session_manager

DOCS = Path(__file__).parents[3] / "docs" / "adapters" / "langgraph.md"
STATE: Any = {"configurable": {"thread_id": "talk", "checkpoint_ns": ""}}


def _named_in_the_docs() -> Any:  # noqa: ANN401 - a factory
    """Return what Agent Server finds under the path: it splits at the last dot."""
    [block] = re.findall(r"```json\n(.*?)```", DOCS.read_text(), re.DOTALL)
    module, name = json.loads(block)["checkpointer"]["path"].rsplit(".", 1)
    return import_module(module).__dict__[name]


@pytest.fixture
async def saver(monkeypatch: pytest.MonkeyPatch, store_url: str) -> AsyncIterator[Any]:
    if store_url == "memory://":
        store_url = f"memory://{uuid4().hex}"
    monkeypatch.setenv("SESSION_STORAGE_URL", store_url)
    async with _named_in_the_docs()() as made:
        yield made


async def _put(saver: Any, user: str | None = None, **configurable: Any) -> Any:  # noqa: ANN401
    config: Any = {"configurable": {**STATE["configurable"], **configurable}}
    if user is not None:
        config["configurable"]["langgraph_auth_user_id"] = user
    return await saver.aput(config, empty_checkpoint(), {"run_id": "run"}, {})


async def test_methods_without_a_user_reach_the_threads_of_all_runs(saver: Any) -> None:  # noqa: ANN401
    assert isinstance(saver, BaseCheckpointSaver)
    await _put(saver, "ann")
    assert await saver.aget_tuple(STATE) is not None  # the state is read without a user
    await saver.acopy_thread("talk", "copy")
    assert len([each async for each in saver.alist(None)]) == 2
    await saver.adelete_for_runs(["run"])
    assert [each async for each in saver.alist(None)] == []
    await _put(saver, "bob")
    await saver.aprune(["talk"], strategy="delete_all")
    assert await saver.aget_tuple(STATE) is None
    await _put(saver, "bob")
    await saver.adelete_thread("talk")
    assert await saver.aget_tuple(STATE) is None


async def test_a_client_cannot_choose_the_owner(saver: Any) -> None:  # noqa: ANN401
    await _put(saver, user_id="ann")
    manager = get_session_manager(any_loop=True)
    assert len(await manager.list_user_sessions("ann")) == 0
    assert len(await manager.list_user_sessions("langgraph")) == 2


async def test_each_loop_of_the_server_enters_and_leaves_on_its_own(
    saver: Any,  # noqa: ANN401
) -> None:
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(_named_in_the_docs()())
        await _put(other)
    assert await saver.aget_tuple(STATE) is not None
