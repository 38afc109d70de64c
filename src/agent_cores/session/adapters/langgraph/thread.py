"""``Thread``: one thread of LangGraph: its checkpoints in a log, what they refer to in data.

How a checkpoint comes to be in both is in ``putting``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from agent_cores.session.adapters.ids import id_of_parts
from agent_cores.session.adapters.langgraph.data import Data, MissingPieceError
from agent_cores.session.adapters.langgraph.log import Log
from agent_cores.session.adapters.langgraph.putting import Putting
from agent_cores.session.adapters.layouts.langgraph import TAG, Record, Write, checkpoint_id
from agent_cores.session.errors import CorruptRecordError, SessionNotFoundError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent_cores.session.adapters.langgraph.known import Known
    from agent_cores.session.adapters.langgraph.putting import Put
    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.adapters.pieces import Typed
    from agent_cores.session.models.session import SessionMetadata

_ATTRIBUTE = "langgraph_thread"
_DELETIONS = 3
"""How often one deletion of a thread may end the sessions into which somebody writes."""


class Thread:
    """One thread of one user."""

    def __init__(
        self, acting: Acting, thread_id: str, *, ttl_hours: float | None, known: Known
    ) -> None:
        self.acting = acting
        self.thread_id = thread_id
        self._ttl_hours = ttl_hours
        self._known = known
        log_id, data_id = _session_ids(acting.user_id, thread_id)
        self.log: Log = Log(acting, log_id)
        self.data: Data = Data(acting, data_id, known)

    async def put(self, put: Put) -> None:
        """Store a checkpoint, after the values that it adds."""
        expires = self._ttl_hours is not None
        putting = Putting(put, self.log, self.data, self._known, expires=expires)
        await self._opened_for(putting.run)

    async def put_writes(
        self, namespace: str, name: str, writes: Sequence[Write], *, replace: bool
    ) -> None:
        """Store writes of a task; those that are stored stay unless ``replace`` is given."""
        if writes:
            of = checkpoint_id(namespace, name)
            await self._opened_for(lambda: self.data.put_writes(of, writes, replace=replace))

    async def typed(self, record: Record) -> tuple[Typed, Typed] | None:
        """Return a checkpoint and its metadata whole; ``None`` if it was removed since."""
        try:
            checkpoint, metadata = await self.data.typed([record.checkpoint, record.metadata])
        except MissingPieceError:
            await self.check_removed(record)
            return None
        return checkpoint, metadata

    async def check_removed(self, record: Record) -> None:
        """Raise ``CorruptRecordError`` if a checkpoint is there of which pieces are missing."""
        if await self.log.has(record):
            namespace = self.acting.verbs.namespace
            problem = f"pieces of checkpoint {record.checkpoint_id} are missing"
            raise CorruptRecordError(namespace, self.data.session_id, problem)

    async def delete(self) -> None:
        """Delete the thread, with what is put at the same time."""
        self._known.forget(self.log.session_id)
        for session in (self.log, self.data, self.log):  # a put may have created the log again
            await session.delete_session()

    async def open(self) -> None:
        """Create the sessions if they are missing; those of somebody else are refused."""
        verbs, user_id = self.acting
        opened = [
            await verbs.open_session(
                session_id,
                user_id,
                metadata={"tags": tags, _ATTRIBUTE: self.thread_id},
                ttl_hours=self._ttl_hours,
            )
            for session_id, tags in ((self.log.session_id, [TAG]), (self.data.session_id, []))
        ]
        self.data.seen(opened[-1].version)
        self._known.opened(self.log.session_id)

    async def _opened_for(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write, after opening the sessions; again if they have ended since."""
        log_id, left = self.log.session_id, _DELETIONS
        while True:
            if not self._known.is_open(log_id):
                await self.open()
            try:
                await write()
            except SessionNotFoundError:
                self._known.forget(log_id)
                if not left:
                    raise
                left -= 1
            else:
                return


def thread_id_of(header: SessionMetadata) -> str | None:
    """Return the thread whose log a session is; ``None`` for other sessions, and copies."""
    thread_id = header.attributes.get(_ATTRIBUTE)
    if not isinstance(thread_id, str):
        return None
    log_id, _ = _session_ids(header.owner_id, thread_id)
    return thread_id if header.session_id == log_id else None


@lru_cache(maxsize=10_000)
def _session_ids(user_id: str, thread_id: str) -> tuple[str, str]:
    """Return the ids of the log and the data of a thread."""
    log, data = (id_of_parts(tag, user_id, thread_id) for tag in (TAG, f"{TAG}-data"))
    return log, data
