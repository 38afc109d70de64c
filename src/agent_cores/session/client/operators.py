"""The client's verbs for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from agent_cores.session.client import arguments
from agent_cores.session.client.arguments import INPUTS
from agent_cores.session.client.calls import PLAIN, Calls, Request
from agent_cores.session.client.reading import read, read_sessions
from agent_cores.session.errors import AccessDeniedError
from agent_cores.session.models.query import SessionCount

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from agent_cores.session.client.pool import Reply
    from agent_cores.session.models.session import Page, Session, SessionStatus
    from agent_cores.session.verbs.listing import Included
    from agent_cores.session.verbs.operators import Order

OPERATOR = "operator"
_NAMES = {"tag": "tags", "X-Owner-Id": "owner_id"}


class OperatorCalls(Calls):
    """Every request names the operator; lists of all owners' sessions."""

    _operator: str

    @property
    def operator(self) -> str:
        """The name of the operator, as in the audit log of the service."""
        return self._operator

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
        """Return headers of one owner's sessions, or of all, with what is included."""
        await self._known()
        query = {
            **_filters(
                tags=tags,
                status=status,
                metadata=metadata,
                created_after=created_after,
                active_after=active_after,
                cursor=cursor,
            ),
            "order": None if order is None else arguments.text(order, "order"),
            "include": arguments.texts(include, "include") or None,
            "limit": arguments.integer(limit, "limit"),
        }
        reply = await self._of_all("/v1/operator/sessions", query, owner_id)
        me = self._shared.me
        return read_sessions(reply, "" if me is None else me.namespace)

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
        """Count the sessions that ``list_sessions`` returns."""
        await self._known()
        query = _filters(
            tags=tags,
            status=status,
            metadata=metadata,
            created_after=created_after,
            active_after=active_after,
            cursor=cursor,
        )
        reply = await self._of_all("/v1/operator/sessions/count", query, owner_id)
        return read(reply, SessionCount)

    async def _of_all(self, path: str, query: dict[str, Any], owner_id: str | None) -> Reply:
        headers = {}
        if owner_id is not None:
            headers["X-Owner-Id"] = quote(INPUTS.user_id(owner_id, "owner_id"), safe=PLAIN)
        return await self._send("GET", path, Request(query=query, headers=headers), names=_NAMES)

    async def _acting(self, user_id: str, field: str) -> dict[str, str]:
        """Return the headers that name the operator, and in whose name it acts."""
        me = await self._known()
        INPUTS.user_id(user_id, field)
        if OPERATOR not in me.rights:
            raise AccessDeniedError("this key lacks the `operator` right")
        return {"X-User-Id": quote(user_id, safe=PLAIN), **self._named()}

    async def _groups(self, user_id: str) -> dict[str, str]:
        """Return no groups: an operator needs none."""
        del user_id
        return {}

    async def _send(self, method: str, path: str, request: Request, **options: Any) -> Reply:  # noqa: ANN401 - those of ``Calls``
        named = msgspec.structs.replace(request, headers={**request.headers, **self._named()})
        return await super()._send(method, path, named, **options)

    def _named(self) -> dict[str, str]:
        return {"X-Operator": quote(self._operator, safe=PLAIN)}


def _filters(
    *,
    tags: Sequence[str] | None,
    status: SessionStatus | str | None,
    metadata: Mapping[str, Any] | None,
    created_after: datetime | None,
    active_after: datetime | None,
    cursor: str | None,
) -> dict[str, Any]:
    return {
        "status": None if status is None else arguments.text(status, "status"),
        "tag": None if tags is None else arguments.texts(tags, "tags"),
        "metadata": None if metadata is None else arguments.json_text(metadata, "metadata"),
        "created_after": arguments.instant(created_after, "created_after"),
        "active_after": arguments.instant(active_after, "active_after"),
        "cursor": None if cursor is None else arguments.text(cursor, "cursor"),
    }
