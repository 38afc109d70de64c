"""`AsyncPostgresSaver` of LangGraph: one saver, a thread for each session.

As its documentation shows it: `AsyncPostgresSaver.from_conn_string(url)`, then `setup()`. The saver
holds a lock during each call, so a pool of connections would make nothing faster.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from langgraph.checkpoint.postgres.aio import (  # type: ignore[import-not-found, unused-ignore]
    AsyncPostgresSaver,
)

from benchmarks.peers.langgraph_sqlite import Checkpoints
from benchmarks.peers.on_postgres import new_database


class LangGraphPostgres(Checkpoints):
    """In a new database, on the connection that the saver makes."""

    packages = ("langgraph-checkpoint", "langgraph-checkpoint-postgres", "psycopg")

    async def open(self, directory: Path) -> None:
        self._stack = AsyncExitStack()
        url = await new_database(directory)
        made = AsyncPostgresSaver.from_conn_string(url.replace("+asyncpg", ""))
        self.saver = await self._stack.enter_async_context(made)
        await self.saver.setup()

    async def close(self) -> None:
        await self._stack.aclose()
