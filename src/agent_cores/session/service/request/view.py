"""``RequestView``: the manager as one request sees it, with what only the wire knows of."""

# ruff: noqa: ANN401, SLF001 - it hands on what the manager hands it, and is made of one

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.codec import raw_context, raw_messages
from agent_cores.session.decision import Scope
from agent_cores.session.errors import SessionNotFoundError
from agent_cores.session.inputs import checked_namespace
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.session_manager import SessionManager

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from agent_cores.session.decision import Decision, ReadResult
    from agent_cores.session.models import (
        Applied,
        Change,
        Message,
        NewMessage,
        Session,
        SessionMetadata,
    )
    from agent_cores.session.models.limits import Limits


class Append(msgspec.Struct, frozen=True):
    """What an append did. ``fresh``: all messages are new, none was known before."""

    messages: tuple[StoredMessage, ...]
    last_seq: int
    revision: int
    version: str
    fresh: bool
    replayed: bool


def limits_of(manager: SessionManager) -> Limits:
    """Return the bounds of what a manager takes."""
    return manager._engine.limits


_FEW_GROUPS = 16
"""Scopes of callers in more groups are not kept: a thousand of them would be a lot to hold."""


def _scope(namespace: str, groups: tuple[str, ...], until: datetime | None = None) -> Scope:
    return Scope(checked_namespace(namespace), lambda _: groups, len(groups), until=until)


_kept_scope = lru_cache(maxsize=1_000)(_scope)


def _append_of(applied: Applied) -> Append:
    header = applied.header
    return Append(
        applied.messages,
        header.last_seq,
        header.revision,
        header.version,
        fresh=len(applied.added) == len(applied.messages),
        replayed=applied.replayed,
    )


class RequestView(SessionManager):
    """A view of the caller's namespace, with the groups of the credential alone.

    ``digest`` is kept with what the request creates.
    """

    digest: str | None
    created: Session | None

    @classmethod
    def of(
        cls,
        manager: SessionManager,
        namespace: str,
        groups: tuple[str, ...],
        until: datetime | None = None,
    ) -> RequestView:
        """Return a view for one request; ``until`` is when its credential expires."""
        view = object.__new__(cls)
        view._runtime = manager._runtime
        if until is None and len(groups) <= _FEW_GROUPS:
            view._scope = _kept_scope(namespace, groups)
        else:
            view._scope = _scope(namespace, groups, until)
        view.digest = view.created = None
        return view

    async def check(self, session_id: str, user_id: str, action: Action) -> None:
        """Raise what the caller would be told, if they may not do that.

        It comes before another refusal, so it is decided on what stands now, never on the cache.
        """
        await self._read_session(session_id, user_id, action)

    async def look_at(self, session_id: str, user_id: str, action: Action) -> ReadResult:
        """Read the header, the fields for providers included."""
        return await self._read_session(session_id, user_id, action)

    async def header(self, session_id: str, user_id: str) -> Session:
        """Return a session as a create answers with it: without what takes the right to read."""
        caller = await self._scope.with_groups(Caller(user_id))
        read = await self._engine.read(self._scope, session_id, caller, Action.READ)
        await self._renew_by_reading(read)
        session = self._engine.session(read.snapshot.header, caller, read.decision.at)
        if session is None:
            raise SessionNotFoundError
        return session

    async def append(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage],
        *,
        context_updates: Mapping[str, Any],
        context_removals: Sequence[str],
        expected: Mapping[str, Any],
        expected_last_seq: int | None,
        turn: str | None,
        whole: bool,
    ) -> Append:
        """Append, like ``add_messages``, and tell where the session stands after it.

        ``expected`` holds what ``If-Match`` names. ``whole``: only if all of it is new, or all of
        it known.
        """
        decision = await self._decide(session_id, user_id, Action.APPEND)
        applied = await self._append(
            decision,
            lambda: self._inputs.messages(messages, user_id, decision.at),
            context_updates=context_updates or None,
            context_removals=context_removals or (),
            **expected,
            expected_last_seq=expected_last_seq,
            turn=turn,
            whole=whole,
        )
        return _append_of(applied)

    async def replace(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage],
        *,
        after_seq: int,
        context_updates: Mapping[str, Any],
        context_removals: Sequence[str],
        expected: Mapping[str, Any],
        expected_last_seq: int | None,
        turn: str | None,
    ) -> Append:
        """Replace, like ``replace_messages``, and tell where the session stands after it."""
        decision = await self._decide(session_id, user_id, Action.REPLACE)
        applied = await self._replace(
            decision,
            messages,
            after_seq=after_seq,
            context_updates=context_updates or None,
            context_removals=context_removals or (),
            **expected,
            expected_last_seq=expected_last_seq,
            turn=turn,
        )
        return _append_of(applied)

    def _decoded(self, messages: Sequence[StoredMessage], decision: Decision) -> list[Message]:
        return raw_messages(messages, *decision.key)

    def _decoded_context(self, entries: Mapping[str, bytes], decision: Decision) -> dict[str, Any]:
        return dict(raw_context(entries, *decision.key))

    def _new_header(self, *arguments: Any) -> SessionMetadata:
        header = super()._new_header(*arguments)
        return msgspec.structs.replace(header, request_digest=self.digest)

    def _copied_header(self, *arguments: Any) -> SessionMetadata:
        header = super()._copied_header(*arguments)
        return msgspec.structs.replace(header, request_digest=self.digest)

    def _note_fork(self, target: Decision, applied: Applied) -> None:
        self.created = self._engine.session(applied.header, target.caller, target.at)

    async def _create(self, caller: Caller, change: Change) -> Applied:
        applied = await super()._create(caller, change)
        self.created = self._engine.session(applied.header, caller, change.at)
        return applied
