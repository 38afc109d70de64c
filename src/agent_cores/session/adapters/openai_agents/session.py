"""``OpenAIAgentsSession``: the sessions of OpenAI's Agents SDK, on a ``SessionManager``.

An item is the content of a message, as it is. The message's role is the role of an item that is a
message, and the type of any other: so the session reads as a conversation elsewhere too.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agents.memory.session_settings import coerce_session_settings, resolve_session_limit
from anyio import CancelScope
from msgspec.structs import replace

from agent_cores.session.adapters.ids import id_of
from agent_cores.session.adapters.layouts.openai_agents import (
    item_of,
    items_named,
    message_of,
    parts_of,
)
from agent_cores.session.adapters.openai_agents.compaction import CompactionHooks, History
from agent_cores.session.adapters.owner import Acting, Owner, Store, UserId
from agent_cores.session.adapters.reading import latest_messages
from agent_cores.session.errors import (
    AccessDeniedError,
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionExistsError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import new_id
from agent_cores.session.models.version import NO_SESSION

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from agents import RunContextWrapper, TResponseInputItem
    from agents.memory import SessionSettings

    from agent_cores.session.models.message import Message, NewMessage

T = TypeVar("T")
_PAGE = 1_000
_ALL = 2**63


class _Seen(NamedTuple):
    """Whether a user's session was there when it was last looked at."""

    user_id: str
    exists: bool


class OpenAIAgentsSession(CompactionHooks):
    """One conversation of an agent; give it to ``Runner.run(…, session=…)``.

    ``store`` is a manager, a client of the service, the URL of a storage, or ``None`` for the
    configured one. ``user_id`` owns the session: text, or a function of the context of the run
    (``None`` outside a run). With ``operator`` instead, it belongs to the user of that name unless
    it exists, and each call is audited. The first ``add_items`` creates the session;
    ``ttl_hours=None`` keeps it until it is deleted.

    A session that somebody else made is refused with ``SessionExistsError``, also if it was shared
    with the user: ids can be guessed. ``shared=True`` uses it with the rights that its owner gave.
    """

    def __init__(
        self,
        session_id: str,
        store: Store = None,
        user_id: UserId | None = None,
        *,
        operator: str | None = None,
        shared: bool = False,
        session_settings: SessionSettings | dict[str, Any] | None = None,
        ttl_hours: float | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings: SessionSettings | None = coerce_session_settings(
            {} if session_settings is None else session_settings
        )
        super().__init__(id_of(session_id))
        self._owner = Owner(store, user_id, operator=operator)
        self._any_owner = shared or operator is not None
        self._ttl_hours = ttl_hours
        self._seen: _Seen | None = None

    async def get_items(
        self, limit: int | None = None, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> list[TResponseInputItem]:
        """Return the latest ``limit`` items in their order; without any limit, all.

        ``session_settings.limit`` is the default. A missing or expired session has no items.
        """
        resolved = resolve_session_limit(limit, self.session_settings)
        if resolved is not None and resolved <= 0:
            return []
        history = await self._history(self._acting(wrapper), _ALL if resolved is None else resolved)
        if limit is None:
            self._covered.read(history)
        return [item_of(message) for message in history.messages]

    async def add_items(
        self,
        items: list[TResponseInputItem],
        *,
        wrapper: RunContextWrapper[Any] | None = None,
    ) -> None:
        """Append items in their order, in one write, all or nothing; create a missing session.

        More than 1,000 items or 7 MiB are written in several parts, between which others may write
        and read. If one of these fails, those before it are removed again.
        """
        messages = [message_of(item, index) for index, item in enumerate(items)]
        acting = self._acting(wrapper)
        parts = list(parts_of(messages))
        stored = await self._append_all(acting, parts)
        for part in stored:
            self._covered.added(part)

    async def pop_item(
        self, *, wrapper: RunContextWrapper[Any] | None = None
    ) -> TResponseInputItem | None:
        """Remove the latest item and return it; ``None`` if there is none.

        Concurrent calls never return the same item. An editor of somebody else's session may only
        take back an item of their own.
        """
        acting = self._acting(wrapper)
        self._covered.forget()
        try:
            if not await self._exists(acting):
                return None
            popped = await self._pop(acting)
        except SessionNotFoundError:
            return None
        return item_of(popped[0]) if popped else None

    async def clear_session(self, *, wrapper: RunContextWrapper[Any] | None = None) -> None:
        """Delete the session; the next item begins a new one. Only its owner may do this."""
        acting = self._acting(wrapper)
        self._covered.forget()
        self._seen = None
        try:
            await acting.verbs.delete_session(self._stored_id, acting.user_id)
        except SessionNotFoundError:
            return

    def _is_changed(self) -> bool:
        """Whether a subclass may read and write items in another way."""
        return type(self) is not OpenAIAgentsSession

    def _acting(self, wrapper: RunContextWrapper[Any] | None = None) -> Acting:
        return self._owner.acting(None if wrapper is None else wrapper.context)

    async def _history(self, acting: Acting, limit: int) -> History:
        """Return the latest messages; those of a missing session are none."""
        verbs, user_id = acting
        first = min(limit, _PAGE)
        try:
            session = await verbs.get_session(self._stored_id, user_id, message_limit=first)
            header, messages = session.metadata, list(session.messages or ())
            self._check_owner(header.owner_id, user_id)
            if messages and len(messages) < min(limit, header.message_count):
                left, before = limit - len(messages), messages[0].seq
                messages[:0] = await latest_messages(
                    acting, self._stored_id, left, before_seq=before
                )
        except SessionNotFoundError:
            self._seen = _Seen(user_id, exists=False)
            return History([], 0, None, complete=True)
        is_complete = len(messages) >= header.message_count
        return History(messages, header.last_seq, header.version, complete=is_complete)

    async def _append_all(
        self, acting: Acting, parts: Sequence[list[NewMessage]]
    ) -> list[list[Message]]:
        """Append each part. If one fails, remove what was written, and what may have been."""
        if len(parts) == 1:
            with items_named():
                return [await self._append(acting, parts[0])]
        parts = [[replace(message, id=new_id()) for message in part] for part in parts]
        begun: list[list[NewMessage]] = []
        stored: list[list[Message]] = []
        try:
            for part in parts:
                begun.append(part)
                with items_named(sum(map(len, stored))):
                    stored.append(await _to_its_end(self._append(acting, part)))
        except BaseException:
            with CancelScope(shield=True):
                await _to_its_end(self._remove(acting, begun))
            raise
        return stored

    async def _remove(self, acting: Acting, parts: Sequence[list[NewMessage]]) -> None:
        verbs, user_id = acting
        for part in reversed(parts):
            ids = [message.id for message in part if message.id]
            with suppress(SessionNotFoundError):
                await verbs.delete_messages(self._stored_id, user_id, ids=ids)

    async def _append(self, acting: Acting, messages: Sequence[NewMessage]) -> list[Message]:
        verbs, user_id = acting
        session_id = self._stored_id
        if self._seen != (user_id, False) and await self._exists(acting):
            try:
                return await verbs.add_messages(session_id, user_id, messages)
            except SessionNotFoundError:
                pass  # it was deleted, or has expired
        expected = None if self._any_owner else NO_SESSION
        create: Any = {"ttl_hours": self._ttl_hours}
        try:
            added = await verbs.add_messages(
                session_id, user_id, messages, create=create, expected_version=expected
            )
        except RevisionMismatchError:  # somebody made it just now
            self._seen = None
            await self._exists(acting)
            return await verbs.add_messages(session_id, user_id, messages)
        except SessionNotFoundError as error:  # there is one that the user may not read
            raise SessionExistsError from error
        self._seen = _Seen(user_id, exists=True)
        return added

    async def _pop(self, acting: Acting) -> list[Message]:
        verbs, user_id = acting
        try:
            return await verbs.pop_messages(self._stored_id, user_id)
        except AccessDeniedError:
            if not self._any_owner:
                raise
        while True:
            history = await self._history(acting, 1)
            seqs, last = [message.seq for message in history.messages], history.last_seq
            try:
                if not seqs or await verbs.delete_messages(
                    self._stored_id, user_id, seqs=seqs, expected_last_seq=last
                ):
                    return history.messages
            except LastSeqMismatchError:
                continue  # another item came in between

    async def _exists(self, acting: Acting) -> bool:
        """Whether there is a session that may be used; reads its header if that is not known."""
        verbs, user_id = acting
        if self._any_owner or self._seen == (user_id, True):
            return True
        try:
            session = await verbs.get_session(self._stored_id, user_id, message_limit=0)
        except SessionNotFoundError:
            return False
        self._check_owner(session.metadata.owner_id, user_id)
        return True

    def _check_owner(self, owner_id: str, user_id: str) -> None:
        if not self._any_owner and owner_id != user_id:
            raise SessionExistsError
        self._seen = _Seen(user_id, exists=True)


async def _to_its_end(write: Coroutine[Any, Any, T]) -> T:
    """Await a write; if the caller is cancelled, however often, wait until it is over."""
    task = asyncio.ensure_future(write)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        with CancelScope(shield=True):
            while not task.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # the caller has been cancelled, so nobody else looks at it
        raise
    return task.result()
