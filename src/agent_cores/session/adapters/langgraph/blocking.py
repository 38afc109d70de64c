"""The blocking methods of LangGraph's checkpointer: each does what its asynchronous twin does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from agent_cores.session.any_loop import portal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        CheckpointTuple,
        DeltaChannelHistory,
    )

    from agent_cores.session.adapters.owner import Owner


class BlockingMethods(BaseCheckpointSaver[str]):
    """They need a manager made with ``any_loop=True``, or a URL."""

    _owner: Owner

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do what ``aput`` does, blocking."""
        stored: RunnableConfig = self._call(self.aput, config, checkpoint, metadata, new_versions)
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Do what ``aput_writes`` does, blocking."""
        self._call(self.aput_writes, config, writes, task_id, task_path)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Do what ``aget_tuple`` does, blocking."""
        found: CheckpointTuple | None = self._call(self.aget_tuple, config)
        return found

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Do what ``aget_delta_channel_history`` does, blocking."""

        async def read() -> object:
            return await self.aget_delta_channel_history(config=config, channels=channels)

        found: Mapping[str, DeltaChannelHistory] = self._call(read)
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Do what ``alist`` does, blocking: all checkpoints are read before the first."""

        async def listed() -> list[CheckpointTuple]:
            found = self.alist(config, filter=filter, before=before, limit=limit)
            return [each async for each in found]

        yield from self._call(listed)

    def delete_thread(self, thread_id: str) -> None:
        """Do what ``adelete_thread`` does, blocking."""
        self._call(self.adelete_thread, thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Do what ``adelete_for_runs`` does, blocking."""
        self._call(self.adelete_for_runs, run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Do what ``acopy_thread`` does, blocking."""
        self._call(self.acopy_thread, source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Do what ``aprune`` does, blocking."""

        async def pruned() -> None:
            await self.aprune(thread_ids, strategy=strategy)

        self._call(pruned)

    def _call(self, verb: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:  # noqa: ANN401
        return portal_of(self._owner.verbs).call(verb, *args)
