"""Checkpoints and items on a client of the service."""

from __future__ import annotations

from agent_cores.session import SessionManager
from agent_cores.session.adapters.langgraph import SessionSaver
from agent_cores.session.adapters.langgraph_store import SessionStore
from tests.adapters.langgraph import test_checkpointer, test_store


async def test_the_conformance_kit_passes_over_http(client: SessionManager) -> None:
    await test_checkpointer.test_the_conformance_kit_passes(client)


async def test_a_graph_runs_over_http(client: SessionManager) -> None:
    saver = SessionSaver(client, user_id="ann")
    await test_checkpointer.test_the_blocking_methods_work_in_a_loop_and_outside(saver)


async def test_items_are_kept_over_http(client: SessionManager) -> None:
    store = SessionStore(client, user_id="ann")
    await test_store.test_an_item_is_stored_updated_and_deleted(store)
    await test_store.test_the_blocking_methods_do_the_same(store)
