"""``SessionSaver``: LangGraph's checkpoints, on a ``SessionManager``.

A thread is two sessions of its user: see ``thread``. A large value of a channel is stored once for
each of its versions, whatever number of checkpoints refer to it; each holds small values.
"""

from __future__ import annotations

import random
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

from agent_cores.session.adapters.langgraph.blocking import BlockingMethods
from agent_cores.session.adapters.langgraph.copying import copy_thread
from agent_cores.session.adapters.langgraph.data import MissingPieceError, Wanted
from agent_cores.session.adapters.langgraph.delta import delta_history
from agent_cores.session.adapters.langgraph.known import Known
from agent_cores.session.adapters.langgraph.putting import Put
from agent_cores.session.adapters.langgraph.removal import Entry, Removal, earlier, entry_of
from agent_cores.session.adapters.langgraph.thread import Thread, thread_id_of
from agent_cores.session.adapters.layouts.langgraph import EMPTY, TAG, Record, Value, Version, Write
from agent_cores.session.adapters.owner import Owner, Store, UserId
from agent_cores.session.adapters.reading import sessions_tagged

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import (
        ChannelVersions,
        Checkpoint,
        CheckpointMetadata,
        DeltaChannelHistory,
    )
    from langgraph.checkpoint.serde.base import SerializerProtocol

_DELETING = ("delete", "delete_all")


class SessionSaver(BlockingMethods):
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
        thread = self._thread(config)
        put = self._put_of(thread, config, checkpoint, metadata, new_versions)
        await thread.put(put)
        return _config(thread.thread_id, put.record.namespace, put.record.checkpoint_id)

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
        thread, is_named = self._thread(config), bool(get_checkpoint_id(config))
        while (record := await self._record(thread, config)) is not None:
            found = await self._tuple(thread, record)
            if found is not None:
                return found
            if is_named:  # it was removed while it was read
                break
        return None

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return writes and the value at their beginning, many checkpoints a read."""
        thread = self._thread(config)
        record = await self._record(thread, config) if channels else None
        if record is None:
            return {channel: {"writes": []} for channel in channels}
        histories: dict[str, DeltaChannelHistory] = {}
        found = await delta_history(thread, record, channels, partial(self._named_by, thread))
        for channel, history in found.items():
            histories[channel] = {
                "writes": [
                    (each.task_id, each.channel, self.serde.loads_typed(each.value))
                    for each in history.writes
                ]
            }
            if history.seed is not None:
                histories[channel]["seed"] = self.serde.loads_typed(history.seed)
        return histories

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
                    found = await self._tuple(thread, record)
                    if found is not None:
                        left = None if left is None else left - 1
                        yield found

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread with everything that belongs to it."""
        await self._thread(_config(thread_id)).delete()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of runs, in all threads: each thread is read.

        Those stay from which later checkpoints take values of delta channels.
        """
        _check_several(run_ids, "run_ids")
        runs = set(run_ids)
        async for thread_id in self._thread_ids(None):
            await self._remove(
                self._thread(_config(thread_id)),
                lambda entries: [each for each in entries if each.run_id in runs],
            )

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread, with all namespaces, pending writes and parents."""
        source = self._thread(_config(source_thread_id))
        await copy_thread(source, self._thread(_config(target_thread_id)))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep the latest checkpoint of each namespace of these threads, or ``delete`` them.

        Agent Server calls the latter ``delete_all``. Those stay, too, from which the latest take
        values of delta channels. Calls of subgraphs that are over keep none.
        """
        if strategy not in {"keep_latest", *_DELETING}:
            problem = f"strategy is keep_latest or delete, not {strategy}"
            raise ValueError(problem)
        _check_several(thread_ids, "thread_ids")
        for thread_id in thread_ids:
            if strategy in _DELETING:
                await self.adelete_thread(thread_id)
            else:
                await self._remove(self._thread(_config(thread_id)), earlier)

    def get_next_version(self, current: str | int | None, channel: None) -> str:  # noqa: ARG002
        """Return a version after that one; two runs that continue one checkpoint get two."""
        number = 0 if current is None else int(str(current).partition(".")[0])
        return f"{number + 1:032}.{random.random():016}"  # noqa: S311 - not a secret

    def _put_of(
        self,
        thread: Thread,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Put:
        bare = {key: value for key, value in checkpoint.items() if key != "channel_values"}
        record = Record(
            _namespace(config),
            checkpoint["id"],
            get_checkpoint_id(config),
            self.serde.dumps_typed(bare),
            self.serde.dumps_typed(get_checkpoint_metadata(config, metadata)),
            0,
        )
        values = checkpoint["channel_values"]

        def whole() -> list[Value]:
            given = {
                channel: version
                for channel, version in checkpoint["channel_versions"].items()
                if channel in values or channel in new_versions
            }
            return self._values(values, {**given, **new_versions})

        deltas = metadata.get("counters_since_delta_snapshot") or {}
        needs_parent = any(channel not in values for channel in deltas)
        new = self._values(values, new_versions)
        named_by = partial(self._named_by, thread)
        return Put(record, _versions(checkpoint), new, whole, named_by, needs_parent)

    def _values(self, values: Mapping[str, Any], versions: ChannelVersions) -> list[Value]:
        """Return the values of channels in these versions; a channel may have none."""
        return [
            (
                channel,
                str(version),
                self.serde.dumps_typed(values[channel]) if channel in values else (EMPTY, b""),
            )
            for channel, version in versions.items()
        ]

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
        async for session in sessions_tagged(self._owner.acting(None), TAG):
            thread_id = thread_id_of(session.metadata)
            if thread_id is not None:
                yield thread_id

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
            found = _one(await thread.log.record(namespace, named))
        else:
            found = thread.log.records(namespace)
        async with aclosing(found) as records:
            async for record in records:
                if (named and record.checkpoint_id != named) or (
                    end and record.checkpoint_id >= end
                ):
                    continue
                if wanted:
                    typed = await thread.typed(record)
                    metadata = {} if typed is None else self.serde.loads_typed(typed[1])
                    if any(metadata.get(key) != value for key, value in wanted.items()):
                        continue
                yield record

    async def _named_by(self, thread: Thread, record: Record) -> list[Version] | None:
        """Return the versions of channels that a checkpoint names; ``None`` if it was removed."""
        typed = await thread.typed(record)
        return None if typed is None else _versions(self.serde.loads_typed(typed[0]))

    async def _record(self, thread: Thread, config: RunnableConfig) -> Record | None:
        checkpoint_id = get_checkpoint_id(config)
        if checkpoint_id:
            return await thread.log.record(_namespace(config), checkpoint_id)
        return await thread.log.latest(_namespace(config))

    async def _tuple(self, thread: Thread, record: Record) -> CheckpointTuple | None:
        """Return a checkpoint with what it refers to; ``None`` if it was removed since."""
        typed = await thread.typed(record)
        if typed is None:
            return None
        checkpoint: dict[str, Any] = self.serde.loads_typed(typed[0])
        try:
            [found] = await thread.data.read([Wanted(record, _versions(checkpoint))])
        except MissingPieceError:
            await thread.check_removed(record)
            return None
        if not found.is_whole and not await thread.log.has(record):
            return None
        checkpoint["channel_values"] = {
            channel: self.serde.loads_typed(value) for channel, value in found.values.items()
        }
        thread_id, namespace, parent = thread.thread_id, record.namespace, record.parent_id
        return CheckpointTuple(
            config=_config(thread_id, namespace, record.checkpoint_id),
            checkpoint=checkpoint,
            metadata=self.serde.loads_typed(typed[1]),
            parent_config=_config(thread_id, namespace, parent) if parent else None,
            pending_writes=[
                (write.task_id, write.channel, self.serde.loads_typed(write.value))
                for write in found.writes
            ],
        )

    async def _remove(
        self, thread: Thread, choose: Callable[[Sequence[Entry]], Iterable[Entry]]
    ) -> None:
        async def describe(record: Record) -> Entry | None:
            typed = await thread.typed(record)
            if typed is None:
                return None
            checkpoint, metadata = map(self.serde.loads_typed, typed)
            return entry_of(record, checkpoint["channel_versions"], metadata)

        await Removal(thread, describe, choose).run()


def _check_several(ids: Sequence[str], name: str) -> None:
    """Refuse one id in the place of several: its letters would be taken for ids."""
    if isinstance(ids, str):
        problem = f"{name} must be a sequence of ids, not a str"
        raise TypeError(problem)


async def _one(record: Record | None) -> AsyncGenerator[Record]:
    if record is not None:
        yield record


def _versions(checkpoint: Mapping[str, Any]) -> list[Version]:
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
