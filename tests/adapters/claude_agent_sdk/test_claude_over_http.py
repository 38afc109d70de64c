"""Transcripts on a client of the service."""

from __future__ import annotations

from agent_cores.session import SessionManager
from tests.adapters.claude_agent_sdk import test_claude_session_store, test_long_entries


async def test_the_conformance_kit_passes_over_http(client: SessionManager) -> None:
    await test_claude_session_store.test_the_conformance_kit_passes(client)
    await test_claude_session_store.test_concurrent_appends_lose_neither_entries_nor_titles(client)


async def test_long_entries_are_stored_over_http(client: SessionManager) -> None:
    await test_long_entries.test_a_repeated_long_entry_is_stored_once(client)
