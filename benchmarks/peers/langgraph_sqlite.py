"""`AsyncSqliteSaver` of LangGraph on a file: one saver, a thread for each session.

As its documentation shows it: `AsyncSqliteSaver.from_conn_string(path)`, then `aput` and
`aget_tuple`. It sets WAL itself and leaves `synchronous` at SQLite's default, FULL. An append is a
checkpoint whose only channel has a new value: what LangGraph itself stores after a step.
"""

from __future__ import annotations

import abc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from langgraph.checkpoint.base import (  # type: ignore[import-not-found, unused-ignore]
    BaseCheckpointSaver,
    empty_checkpoint,
)
from langgraph.checkpoint.sqlite.aio import (  # type: ignore[import-not-found, unused-ignore]
    AsyncSqliteSaver,
)

from benchmarks.store import Store


class Thread:
    """A thread of LangGraph, and its latest checkpoint."""

    def __init__(self) -> None:
        self.configurable = {"thread_id": uuid4().hex, "checkpoint_ns": ""}
        self.config: Any = {"configurable": self.configurable}
        self.version = 0


class Checkpoints(Store[Thread], abc.ABC):
    """What savers share: their interface."""

    packages: ClassVar[tuple[str, ...]] = ("langgraph-checkpoint",)
    saver: BaseCheckpointSaver[str]

    async def create(self, user_id: str, count: int) -> list[Thread]:
        """Begin threads by a first checkpoint each, which is not timed."""
        threads = [Thread() for _ in range(count)]
        for thread in threads:
            await self.append(thread, "first")
        return threads

    async def append(self, session: Thread, text: str) -> None:
        session.version += 1
        version = f"{session.version:032}.0"
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"text": text}
        checkpoint["channel_versions"] = {"text": version}
        metadata: Any = {"source": "loop", "step": session.version, "parents": {}}
        config = session.config
        session.config = await self.saver.aput(config, checkpoint, metadata, {"text": version})

    async def step(self, session: Thread, text: str) -> None:
        """Put a checkpoint and the pending writes of a task, as a step of a graph does."""
        await self.append(session, text)
        await self.saver.aput_writes(session.config, [("text", text)], "task")

    async def read_last(self, session: Thread, limit: int) -> int:
        """Read the latest checkpoint: it holds the whole state, so one is all that is read."""
        found = await self.saver.aget_tuple({"configurable": session.configurable})
        return limit if found is not None else 0

    async def read_by_id(self, config: Any) -> None:  # noqa: ANN401 - LangGraph's RunnableConfig
        """Read the checkpoint that a config names."""
        assert await self.saver.aget_tuple(config) is not None


class LangGraphSqlite(Checkpoints):
    """On a SQLite file, on the connection that the saver makes."""

    packages = ("langgraph-checkpoint", "langgraph-checkpoint-sqlite", "aiosqlite")

    async def open(self, directory: Path) -> None:
        self._stack = AsyncExitStack()
        path = str(directory / "checkpoints.db")
        made = AsyncSqliteSaver.from_conn_string(path)
        self.saver = await self._stack.enter_async_context(made)
        await self.saver.setup()

    async def close(self) -> None:
        await self._stack.aclose()
