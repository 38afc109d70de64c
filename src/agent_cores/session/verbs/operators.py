"""The verbs that only operators have: lists and counts of all owners' sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import choice, moment, whole_number
from agent_cores.session.models.query import Cursor, Query, SessionCount
from agent_cores.session.models.session import Page, Session, SessionStatus
from agent_cores.session.verbs.conversations import LISTED
from agent_cores.session.verbs.session_verbs import SessionVerbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from agent_cores.session.verbs.listing import Included

Order = Literal["active", "created"]
COUNTED = 10_000
"""How many sessions one call of ``count_sessions`` counts at most."""
_COUNTED_TOGETHER = 250
_MOST_READS = 100
"""How many reads of the store one count takes at most; each passes over about 1,000 sessions."""


class OperatorVerbs(SessionVerbs):
    """Every verb, with the rights of the owner in every session, and lists of all owners.

    ``user_id`` says in whose name an operator acts: the author of messages, the one who granted,
    the owner of what is created.
    """

    @property
    def operator(self) -> str:
        """The name of the operator, as in the audit log."""
        return self._scope.operator or ""

    async def list_sessions(
        self,
        *,
        owner_id: str | None = None,
        tags: Sequence[str] | None = None,
        status: SessionStatus | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_after: datetime | None = None,
        active_after: datetime | None = None,
        order: Order | None = None,
        include: Iterable[Included] = (),
        limit: int = 10,
        cursor: str | None = None,
    ) -> Page[Session]:
        """Return headers of one owner's sessions, or of the whole namespace's.

        One owner's are in the order of activity, the namespace's in that of creation, the latest
        first: for the other orders there is no index, and ``order`` refuses them. The filters are
        those of ``list_user_sessions``. With ``created_after`` or ``active_after``, sessions whose
        time is later. ``include`` is that of ``list_user_sessions``. A page may be short, even
        empty, with ``next_cursor`` set: it examines about 1,000 sessions at most for each 64 that
        it returns.
        """
        await self._runtime.ready()
        deadline = self._engine.begin()
        query = self._query(
            owner_id=owner_id,
            tags=tags,
            status=status,
            metadata=metadata,
            created_after=created_after,
            active_after=active_after,
            order=order,
            limit=limit,
            cursor=cursor,
        )
        return await self._list(query, self._scope.caller(self.operator), include, deadline)

    async def count_sessions(
        self,
        *,
        owner_id: str | None = None,
        tags: Sequence[str] | None = None,
        status: SessionStatus | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        created_after: datetime | None = None,
        active_after: datetime | None = None,
        cursor: str | None = None,
    ) -> SessionCount:
        """Count the sessions that ``list_sessions`` returns: 10,000 a call at most.

        It reads every header that it counts, for half of ``SESSION_TIMEOUT`` at most.
        ``get_statistics`` counts a whole namespace at no cost.
        """
        await self._runtime.ready()
        deadline = self._engine.begin()
        last_start = deadline - self._runtime.settings.timeout / 2
        query = self._query(
            owner_id=owner_id,
            tags=tags,
            status=status,
            metadata=metadata,
            created_after=created_after,
            active_after=active_after,
            limit=_COUNTED_TOGETHER,
            cursor=cursor,
        )
        count = reads = 0
        while True:
            found = await self._engine.find(query, deadline)
            count, reads = count + len(found.headers), reads + 1
            if found.next is None:
                return SessionCount(count, complete=True)
            if count >= COUNTED or reads >= _MOST_READS or time.monotonic() >= last_start:
                return SessionCount(count, complete=False, next_cursor=found.next.encode())
            query = msgspec.structs.replace(query, after=found.next)

    def _query(
        self,
        *,
        owner_id: str | None,
        tags: Sequence[str] | None,
        status: SessionStatus | str | None,
        metadata: Mapping[str, Any] | None,
        created_after: datetime | None,
        active_after: datetime | None,
        limit: int,
        cursor: str | None,
        order: str | None = None,
    ) -> Query:
        self._engine.access.check_operator(self._scope.caller(self.operator))
        after = None if cursor is None else Cursor.decode(cursor)
        by_creation = owner_id is None
        wanted = "created" if by_creation else "active"
        if order is not None and order != wanted:
            problem = f"must be {wanted} {'without' if by_creation else 'with'} owner_id"
            raise InvalidInputError("order", problem)
        if after is not None and (after.shared or after.created is not by_creation):
            raise InvalidInputError("cursor", "belongs to another listing")
        return Query(
            namespace=self._scope.namespace,
            at=self._engine.clock(),
            owner_id=None if owner_id is None else self._inputs.user_id(owner_id, "owner_id"),
            by_creation=by_creation,
            status=choice(LISTED[0] if status is None else status, SessionStatus, "status", LISTED),
            tags=self._inputs.tags(tags),
            attributes=self._inputs.wanted_metadata(metadata),
            created_after=moment(created_after, "created_after"),
            active_after=moment(active_after, "active_after"),
            limit=whole_number(limit, "limit", 1, self._engine.limits.page_items),
            after=after,
        )
