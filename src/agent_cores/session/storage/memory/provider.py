"""``MemoryProvider``: sessions in this process, for tests, demos and single-process programs.

It is also the smallest native provider. ``records.py`` is a stored session, ``indexes.py`` the
sorted lists; this module runs ``apply_change`` on a record and writes what that returns. Nothing
awaits in between, so a change is atomic. No object that is stored is ever handed out.
"""

from __future__ import annotations

from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

import msgspec

from agent_cores.session.errors import QuotaExceededError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.query import Ended, Found, Query, order_key
from agent_cores.session.storage.base import Capabilities, Counts
from agent_cores.session.storage.listing import ListingPage
from agent_cores.session.storage.memory.indexes import Indexes
from agent_cores.session.storage.memory.records import Record, copy_header
from agent_cores.session.storage.native import NativeProvider
from agent_cores.session.storage.options import AtLeastOne, StoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.models.snapshot import Snapshot, Window
    from agent_cores.session.storage.listing import Place

_NO_SESSION = State()


class MemoryOptions(StoreOptions, frozen=True, kw_only=True):
    """The options of a ``memory://`` URL and of ``MemoryProvider``."""

    store = "Memory"

    max_sessions: AtLeastOne | None = None


class MemoryProvider(NativeProvider):
    """Sessions in memory.

    A create past ``max_sessions`` raises ``QuotaExceededError``; ``None`` sets no bound.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(flat=True)

    def __init__(self, *, max_sessions: int | None = None) -> None:
        self._max_sessions = MemoryOptions.check(max_sessions=max_sessions).max_sessions
        self._records: dict[tuple[str, str], Record] = {}  # by namespace and session id
        self._counts: dict[str, int] = {}  # of sessions, by namespace
        self._indexes = Indexes()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:  # noqa: ANN401 - checked by __init__
        """Make a provider from ``memory://`` or ``memory://?max_sessions=1000``."""
        return cls(**options | MemoryOptions.from_query(urlsplit(url).query))

    async def read(
        self,
        namespace: str,
        session_id: str,
        *,
        context: bool = False,
        window: Window | None = None,
    ) -> Snapshot | None:
        """Read one session."""
        record = self._records.get((namespace, session_id))
        return None if record is None else record.snapshot(context=context, window=window)

    async def apply(self, change: Change) -> Applied:
        """Carry out one change. Nothing else runs between reading and writing."""
        at = change.applied_at()
        if at is not change.at:
            change = change.as_of(at)
        key = change.namespace, change.session_id
        record = self._records.get(key)
        applied = apply_change(_NO_SESSION if record is None else record.state(change), change)
        if applied.replayed:
            stored = copy_header(applied.header)
            return msgspec.structs.replace(applied, before=stored, header=stored)
        if applied.deleted:
            self._delete(key)
        elif record is None or applied.before is None:
            self._create(key, applied)
        else:
            record.write(applied)
            self._set_header(record, applied.header)
        return applied

    async def find(self, query: Query) -> Found:
        """Return one page of a listing."""
        page = ListingPage(query)
        for place, record in self._walk(query):
            if not page.offer(place, record.header):
                break
        found = page.found()
        headers = [copy_header(header) for header in found.headers]
        return msgspec.structs.replace(found, headers=headers)

    def _walk(self, query: Query) -> Iterator[tuple[Place, Record]]:
        """Yield the sessions that may belong to the listing, highest place first.

        Only listings of a user have an index; others, which no request makes, sort everything.
        """
        indexed = query.owner_id or query.subjects or query.by_creation
        if query.namespace is not None and indexed:
            for place in self._indexes.walk(query):
                yield place, self._records[query.namespace, place[1]]
            return
        after = query.after
        bound = None if after is None else (after.millis, after.session_id)
        everything = [
            (order_key(record.header, query), record) for record in self._records.values()
        ]
        everything.sort(key=itemgetter(0), reverse=True)
        yield from (entry for entry in everything if bound is None or entry[0] < bound)

    async def due(self, at: datetime, limit: int, lease_seconds: float) -> list[Ended]:
        """Lease up to ``limit`` expired sessions; postpone those that live on."""
        taken: list[Ended] = []
        while len(taken) < limit and (key := self._indexes.first_due(at)) is not None:
            record = self._records[key]
            header = record.header
            due_at = header.expires_at
            if header.is_expired(at):
                due_at = at + timedelta(seconds=lease_seconds)
                taken.append(Ended.of(copy_header(header)))
            self._set_header(record, msgspec.structs.replace(header, due_at=due_at))
        return taken

    async def count(self, namespace: str | None, at: datetime) -> Counts:
        """Count the sessions of a namespace, or of all."""
        sessions = len(self._records) if namespace is None else self._counts.get(namespace, 0)
        return Counts(sessions, self._indexes.count_due(namespace, at))

    async def count_archived(self) -> int:
        """Count the archived sessions."""
        return self._indexes.count_archived(self._counts)

    async def namespaces(self) -> list[str]:
        """Return the namespaces that held a session."""
        return sorted(self._counts)

    def _create(self, key: tuple[str, str], applied: Applied) -> None:
        if key in self._records:
            self._delete(key)
        elif self._max_sessions is not None and len(self._records) >= self._max_sessions:
            detail = f"the store already holds max_sessions ({self._max_sessions}) sessions"
            raise QuotaExceededError(detail)
        self._records[key] = record = Record(copy_header(applied.header))
        record.write(applied)
        self._counts[key[0]] = self._counts.get(key[0], 0) + 1
        self._indexes.add(record.header)

    def _delete(self, key: tuple[str, str]) -> None:
        record = self._records.pop(key)
        self._counts[key[0]] -= 1
        self._indexes.remove(record.header)

    def _set_header(self, record: Record, header: SessionMetadata) -> None:
        before = record.header
        record.header = copy_header(header)  # the caller may change both that it holds
        self._indexes.replace(before, header)
