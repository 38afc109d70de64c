"""``SessionSaver``: LangGraph's checkpoints, on a ``SessionManager``.

A thread is two sessions of its user: see ``langgraph_thread``. Nothing is written twice: a value of
a channel is stored once for each of its versions, whatever number of checkpoints refer to it.
"""

from __future__ import annotations

import random
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from agent_cores.session.adapters.langgraph_thread import TAG, Known, Record, Thread, Write
from agent_cores.session.adapters.owner import Owner, Store, UserId
from agent_cores.session.any_loop import portal_of
from agent_cores.session.session_manager import get_session_manager

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Iterator,
        Sequence,
    )

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol

_EMPTY = "empty"
_LISTED = 100
_DELETING = ("delete", "delete_all")


class SessionSaver(BaseCheckpointSaver[str]):
    """Keep checkpoints of LangGraph for one user, or for the user of each run.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. ``user_id`` owns the threads: text, or a function of the run's config. With
    ``operator`` instead they belong to the user of that name, and each call is audited. Equal
    thread ids of two users are two threads. ``ttl_hours=None`` keeps threads until they are
    deleted.

    The blocking methods need a manager made with ``any_loop=True``, or a URL.
    """

    def __init__(
        self,
        store: Store = None,
        *,
        user_id: UserId | None = None,
        operator: str | None = None,
        ttl_hours: float | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        self._owner = Owner(store, user_id, operator=operator)
        self._ttl_hours = ttl_hours
        self._known = Known()

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and the new values of channels; return the config that names it."""
        thread_id, namespace = _thread_of(config), _namespace(config)
        parent = get_checkpoint_id(config)
        values = checkpoint["channel_values"]
        bare = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        record = Record(
            namespace,
            checkpoint["id"],
            parent,
            self.serde.dumps_typed(bare),
            self.serde.dumps_typed(get_checkpoint_metadata(config, metadata)),
            0,
        )
        stored = [
            (
                channel,
                str(version),
                self.serde.dumps_typed(values[channel]) if channel in values else (_EMPTY, b""),
            )
            for channel, version in new_versions.items()
        ]
        await self._thread(config).put(record, stored)
        return _config(thread_id, namespace, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store pending writes of a task.

        Those of special channels alone, such as an interrupt, replace what is stored.
        """
        pending = [
            Write(
                task_id,
                task_path,
                WRITES_IDX_MAP.get(channel, place),
                channel,
                self.serde.dumps_typed(value),
            )
            for place, (channel, value) in enumerate(writes)
        ]
        special = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        checkpoint_id = config["configurable"]["checkpoint_id"]
        thread = self._thread(config)
        await thread.put_writes(_namespace(config), checkpoint_id, pending, replace=special)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that the config names, or the latest of its thread."""
        thread, namespace = self._thread(config), _namespace(config)
        checkpoint_id = get_checkpoint_id(config)
        if checkpoint_id:
            record = await thread.record(namespace, checkpoint_id)
        else:
            record = await thread.latest(namespace)
        if record is None:
            return None
        return await self._tuple(thread, _thread_of(config), record)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 - LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield checkpoints, those of a thread from the greatest id down.

        Without a config, those of all threads of the user or operator.
        """
        left = limit
        async for thread_id in self._thread_ids(config):
            thread = self._thread(config or _config(thread_id))
            async with aclosing(self._matching(thread, config, filter, before)) as records:
                async for record in records:
                    if left is not None and left <= 0:
                        return
                    left = None if left is None else left - 1
                    yield await self._tuple(thread, thread_id, record)

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread with everything that belongs to it."""
        await self._thread(_config(thread_id)).delete()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in all threads: each thread is read."""
        runs = set(run_ids)
        async for thread_id in self._thread_ids(None):
            thread = self._thread(_config(thread_id))
            records = [record async for record in thread.records()]
            gone = [
                record
                for record in records
                if (await self._metadata(thread, record)).get("run_id") in runs
            ]
            await self._remove(thread, records, gone)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, with all namespaces, pending writes and parents."""
        target = self._thread(_config(target_thread_id))
        await self._thread(_config(source_thread_id)).copy_to(target)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the latest checkpoint of each namespace of these threads, or ``delete`` them.

        Agent Server calls the latter ``delete_all``.
        """
        if strategy not in {"keep_latest", *_DELETING}:
            problem = f"strategy is keep_latest or delete, not {strategy}"
            raise ValueError(problem)
        for thread_id in thread_ids:
            if strategy in _DELETING:
                await self.adelete_thread(thread_id)
                continue
            thread = self._thread(_config(thread_id))
            records = [record async for record in thread.records()]
            latest: dict[str, Record] = {}
            for record in records:
                known = latest.setdefault(record.namespace, record)
                if record.checkpoint_id > known.checkpoint_id:
                    latest[record.namespace] = record
            kept = {record.seq for record in latest.values()}
            await self._remove(thread, records, [r for r in records if r.seq not in kept])

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

    def get_next_version(self, current: str | int | None, channel: None) -> str:  # noqa: ARG002
        """Return a version after that one; two runs that continue one checkpoint get two."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - not a secret

    def _call(self, verb: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:  # noqa: ANN401
        return portal_of(self._owner.verbs).call(verb, *args)

    def _thread(self, config: RunnableConfig) -> Thread:
        return Thread(
            self._owner.acting(config),
            _thread_of(config),
            ttl_hours=self._ttl_hours,
            known=self._known,
        )

    async def _thread_ids(self, config: RunnableConfig | None) -> AsyncIterator[str]:
        """Yield the thread of a config; without one, those of the user, latest activity first."""
        if config is not None:
            yield _thread_of(config)
            return
        verbs, user_id = self._owner.acting(None)
        cursor: str | None = None
        while True:
            page = await verbs.list_user_sessions(user_id, tags=[TAG], limit=_LISTED, cursor=cursor)
            for session in page:
                yield session.metadata.attributes["langgraph_thread"]
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _matching(
        self,
        thread: Thread,
        config: RunnableConfig | None,
        wanted: dict[str, Any] | None,
        before: RunnableConfig | None,
    ) -> AsyncGenerator[Record]:
        configurable = config["configurable"] if config else {}
        namespace = configurable.get("checkpoint_ns")
        named = get_checkpoint_id(config) if config else None
        end = get_checkpoint_id(before) if before else None
        if named and namespace is not None:
            record = await thread.record(namespace, named)
            found = [] if record is None else [record]
        else:
            found = None
        async with aclosing(_each(found, thread, namespace)) as records:
            async for record in records:
                if (named and record.checkpoint_id != named) or (
                    end and record.checkpoint_id >= end
                ):
                    continue
                if wanted:
                    metadata = await self._metadata(thread, record)
                    if any(metadata.get(key) != value for key, value in wanted.items()):
                        continue
                yield record

    async def _metadata(self, thread: Thread, record: Record) -> dict[str, Any]:
        _, typed = await thread.typed(record)
        metadata: dict[str, Any] = self.serde.loads_typed(typed)
        return metadata

    async def _checkpoint(self, thread: Thread, record: Record) -> dict[str, Any]:
        typed, _ = await thread.typed(record)
        checkpoint: dict[str, Any] = self.serde.loads_typed(typed)
        return checkpoint

    async def _tuple(self, thread: Thread, thread_id: str, record: Record) -> CheckpointTuple:
        typed, metadata = await thread.typed(record)
        checkpoint: dict[str, Any] = self.serde.loads_typed(typed)
        values, writes = await thread.values(record, _versions(checkpoint))
        checkpoint["channel_values"] = {
            channel: self.serde.loads_typed(value)
            for channel, value in values.items()
            if value[0] != _EMPTY
        }
        writes.sort(key=lambda write: (write.task_path, write.task_id, write.place))
        return CheckpointTuple(
            config=_config(thread_id, record.namespace, record.checkpoint_id),
            checkpoint=checkpoint,
            metadata=self.serde.loads_typed(metadata),
            parent_config=_config(thread_id, record.namespace, record.parent_id)
            if record.parent_id
            else None,
            pending_writes=[
                (write.task_id, write.channel, self.serde.loads_typed(write.value))
                for write in writes
            ],
        )

    async def _remove(
        self, thread: Thread, records: Sequence[Record], gone: Sequence[Record]
    ) -> None:
        if not gone:
            return
        seqs, keep = {record.seq for record in gone}, set[str]()
        for record in records:
            if record.seq not in seqs:
                checkpoint = await self._checkpoint(thread, record)
                keep |= thread.value_ids(record.namespace, _versions(checkpoint))
        await thread.remove(gone, keep)


@asynccontextmanager
async def agent_server_checkpointer() -> AsyncGenerator[SessionSaver]:
    """Yield a saver on the configured storage, for ``langgraph.json`` of Agent Server.

    Agent Server decides who may reach a thread, and names the user in some calls only. So all its
    threads belong to one owner, ``langgraph``.
    """
    async with get_session_manager(any_loop=True) as manager:
        yield SessionSaver(manager, user_id=TAG)


async def _each(
    found: Sequence[Record] | None, thread: Thread, namespace: str | None
) -> AsyncGenerator[Record]:
    if found is not None:
        for record in found:
            yield record
        return
    async with aclosing(thread.records(namespace)) as records:
        async for record in records:
            yield record


def _versions(checkpoint: dict[str, Any]) -> list[tuple[str, str]]:
    return [(channel, str(version)) for channel, version in checkpoint["channel_versions"].items()]


def _thread_of(config: RunnableConfig) -> str:
    return str(config["configurable"]["thread_id"])


def _namespace(config: RunnableConfig) -> str:
    return str(config["configurable"].get("checkpoint_ns", ""))


def _config(
    thread_id: str, namespace: str | None = None, checkpoint_id: str | None = None
) -> RunnableConfig:
    configurable = {"thread_id": thread_id}
    if namespace is not None:
        configurable["checkpoint_ns"] = namespace
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}
