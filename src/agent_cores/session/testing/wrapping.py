"""Providers that wrap another: to count calls, lose responses, or fail to read a session."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import CorruptRecordError, StorageUnavailableError
from agent_cores.session.models.query import Found
from agent_cores.session.storage.base import BackedUp, Counts, StorageProvider

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from agent_cores.session.models import (
        Applied,
        Change,
        Ended,
        Query,
        Session,
        SessionStatus,
        Snapshot,
        Window,
    )
    from agent_cores.session.storage.base import Capabilities


class WrappingProvider(StorageProvider):
    """Delegates to the inner provider, which its creator must open and close."""

    def __init__(self, inner: StorageProvider) -> None:
        self.inner = inner
        self.capabilities: Capabilities = inner.capabilities  # type: ignore[misc]  # of the wrapped

    async def save_session(self, session: Session) -> None:
        """Delegate."""
        await self.inner.save_session(session)

    async def load_session(self, session_id: str) -> Session | None:
        """Delegate."""
        return await self.inner.load_session(session_id)

    async def delete_session(self, session_id: str) -> bool:
        """Delegate."""
        return await self.inner.delete_session(session_id)

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        """Delegate."""
        return await self.inner.list_sessions(owner_id, status, tags, limit, offset)

    async def update_metadata(self, session_id: str, metadata_updates: Mapping[str, Any]) -> bool:
        """Delegate."""
        return await self.inner.update_metadata(session_id, metadata_updates)

    async def clean_expired_sessions(self) -> int:
        """Delegate."""
        return await self.inner.clean_expired_sessions()

    async def get_statistics(self) -> dict[str, Any]:
        """Delegate."""
        return await self.inner.get_statistics()

    def describe(self) -> str:
        """Delegate."""
        return self.inner.describe()

    async def back_up(self, path: Path) -> BackedUp:
        """Delegate."""
        return await self.inner.back_up(path)

    async def store_time(self) -> datetime | None:
        """Delegate."""
        return await self.inner.store_time()

    async def check(self) -> None:
        """Delegate."""
        await self.inner.check()

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Delegate."""
        return await self.inner.read(namespace, session_id, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Delegate."""
        return await self.inner.apply(change)

    async def find(self, query: Query) -> Found:
        """Delegate."""
        return await self.inner.find(query)

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Delegate."""
        return await self.inner.due(at, limit, lease_seconds)

    async def repair_lists(self, namespace: str, user_id: str) -> None:
        """Delegate."""
        await self.inner.repair_lists(namespace, user_id)

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Delegate."""
        return await self.inner.count(namespace, at)

    async def count_archived(self) -> int | None:
        """Delegate."""
        return await self.inner.count_archived()

    async def namespaces(self) -> list[str]:
        """Delegate."""
        return await self.inner.namespaces()


class CountingProvider(WrappingProvider):
    """Counts the calls of ``read``, ``apply`` and ``find`` in ``calls``.

    Reads that ask for ``context`` or for ``messages`` are also counted under those names.
    """

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Count and delegate."""
        self.calls["read"] += 1
        if context:
            self.calls["context"] += 1
        if window is not None:
            self.calls["messages"] += 1
        return await super().read(namespace, session_id, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Count and delegate."""
        self.calls["apply"] += 1
        return await super().apply(change)

    async def find(self, query: Query) -> Found:
        """Count and delegate."""
        self.calls["find"] += 1
        return await super().find(query)


class SpoiltProvider(WrappingProvider):
    """Cannot read the sessions that were spoilt: every operation on their records fails."""

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self._spoilt: set[tuple[str, str]] = set()

    async def spoil(self, namespace: str, session_id: str) -> None:
        """Spoil the record of a session."""
        self._spoilt.add((namespace, session_id))

    def _check(self, namespace: str, session_id: str) -> None:
        if (namespace, session_id) in self._spoilt:
            raise CorruptRecordError(namespace, session_id, "spoilt by a test")

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Raise for a spoilt session."""
        self._check(namespace, session_id)
        return await super().read(namespace, session_id, context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Raise for a spoilt session."""
        self._check(change.namespace, change.session_id)
        return await super().apply(change)

    async def find(self, query: Query) -> Found:
        """List spoilt sessions as unreadable."""
        found = await super().find(query)
        ids = {
            header.session_id
            for header in found.headers
            if (header.namespace, header.session_id) in self._spoilt
        }
        headers = [header for header in found.headers if header.session_id not in ids]
        return Found(headers, found.next, tuple(ids))

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Leave out spoilt sessions, which are leased nevertheless."""
        ended = await super().due(at, limit, lease_seconds)
        return [each for each in ended if (each.namespace, each.session_id) not in self._spoilt]


class LosingProvider(WrappingProvider):
    """Loses the responses to writes: they are applied, and then raise.

    ``applied`` holds every change that was applied, including those with lost responses.
    """

    def __init__(self, inner: StorageProvider) -> None:
        super().__init__(inner)
        self.applied: list[Change] = []
        self._losses = 0
        self._drops = False
        self._before_error: Callable[[], Awaitable[None]] | None = None
        self._refusing = False

    def lose(
        self, answers: int = 1, *, before_error: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Lose the responses to the next writes; run ``before_error`` before the caller's error."""
        self._losses = answers
        self._before_error = before_error

    def drop(self, *, before_error: Callable[[], Awaitable[None]] | None = None) -> None:
        """Lose the next write before it is applied; its sender cannot know that."""
        self._drops = True
        self._before_error = before_error

    def refuse(self, *, refusing: bool = True) -> None:
        """Fail every write without applying it; the error says so."""
        self._refusing = refusing

    async def apply(self, change: Change) -> Applied:
        """Apply the change; raise if its response is to be lost."""
        if self._refusing:
            detail = "the store is away"
            raise StorageUnavailableError(detail)
        if self._drops:
            self._drops = False
            if self._before_error is not None:
                await self._before_error()
            detail = "the answer was lost"
            raise StorageUnavailableError(detail, outcome_unknown=True)
        applied = await super().apply(change)
        self.applied.append(change)
        if self._losses:
            self._losses -= 1
            if self._before_error is not None:
                await self._before_error()
            detail = "the answer was lost"
            raise StorageUnavailableError(detail, outcome_unknown=True)
        return applied
