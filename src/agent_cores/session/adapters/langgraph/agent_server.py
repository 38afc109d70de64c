"""``agent_server_checkpointer``: what ``langgraph.json`` of Agent Server names."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from agent_cores.session.adapters.langgraph.saver import SessionSaver
from agent_cores.session.adapters.layouts.langgraph import TAG
from agent_cores.session.session_manager import get_session_manager

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@asynccontextmanager
async def agent_server_checkpointer() -> AsyncGenerator[SessionSaver]:
    """Yield a saver on the configured storage, for ``langgraph.json`` of Agent Server.

    Agent Server decides who may reach a thread, and names the user in some calls only. So all its
    threads belong to one owner, ``langgraph``.
    """
    async with get_session_manager(any_loop=True) as manager:
        yield SessionSaver(manager, user_id=TAG)
