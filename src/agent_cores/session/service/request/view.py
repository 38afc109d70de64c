"""``RequestView``: the manager's verbs for one request, plus what only HTTP needs."""

# ruff: noqa: ANN401 - it forwards the arguments of the verbs

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.decision import Scope
from agent_cores.session.errors import SessionNotFoundError
from agent_cores.session.inputs import checked_namespace
from agent_cores.session.models.message import Message, StoredMessage
from agent_cores.session.models.session import Page, Session
from agent_cores.session.verbs.operators import OperatorVerbs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from agent_cores.session.decision import ReadResult
    from agent_cores.session.manager import SessionManager
    from agent_cores.session.models import Applied, NewMessage
    from agent_cores.session.verbs.appending import AppendOptions
    from agent_cores.session.verbs.base import Created


class Append(msgspec.Struct, frozen=True):
    """The result of an append. ``fresh``: all messages are new, none was already stored."""

    messages: tuple[StoredMessage, ...]
    last_seq: int
    revision: int
    version: str
    fresh: bool
    replayed: bool


class CreatedSession(msgspec.Struct, frozen=True):
    """The result of a create or fork; ``session`` is ``None`` if the id was already taken."""

    session_id: str
    session: Session | None


class OpenedSession(msgspec.Struct, frozen=True):
    """The session that was opened, and whether it was created."""

    session: Session
    is_new: bool


_FEW_GROUPS = 16
"""Scopes of callers in more groups are not cached, since a thousand such scopes would be large."""


def _scope(namespace: str, groups: tuple[str, ...], until: datetime | None = None) -> Scope:
    return Scope(checked_namespace(namespace), lambda _: groups, len(groups), until=until, raw=True)


_kept_scope = lru_cache(maxsize=1_000)(_scope)


class Update(msgspec.Struct, frozen=True):
    """The result of an update: the message, and the version of the session afterwards."""

    message: Message
    version: str


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


class RequestView(OperatorVerbs):
    """The verbs, in the caller's namespace and with only the credential's groups.

    Content, metadata and context are encoded JSON, which goes into the response unchanged.
    ``read_owner_id`` is the owner of the session that was last read; ``None`` if none was.
    """

    read_owner_id: str | None = None

    @classmethod
    def of(
        cls,
        manager: SessionManager,
        namespace: str,
        groups: tuple[str, ...],
        until: datetime | None = None,
        operator: str | None = None,
    ) -> RequestView:
        """Return a view for one request; ``until`` is when its credential expires."""
        if operator is not None:
            scope = _scope(namespace, groups, until)
            return cls(manager.runtime, msgspec.structs.replace(scope, operator=operator))
        if until is None and len(groups) <= _FEW_GROUPS:
            return cls(manager.runtime, _kept_scope(namespace, groups))
        return cls(manager.runtime, _scope(namespace, groups, until))

    async def _read_session(self, *arguments: Any, **options: Any) -> ReadResult:
        read = await super()._read_session(*arguments, **options)
        self.read_owner_id = read.snapshot.header.owner_id
        return read

    async def list_user_sessions(
        self, user_id: str, *arguments: Any, **options: Any
    ) -> Page[Session]:
        """List sessions, and note whether any belongs to somebody else."""
        page = await super().list_user_sessions(user_id, *arguments, **options)
        for session in page:
            if session.metadata.owner_id != user_id:
                self.read_owner_id = session.metadata.owner_id
        return page

    async def create(
        self, user_id: str, *arguments: Any, request_digest: str | None, **options: Any
    ) -> CreatedSession:
        """Create a session like ``create_session``; return it if it is new."""
        created = await self._create_session(
            user_id, *arguments, request_digest=request_digest, **options
        )
        return self._new_session(created)

    async def open(self, session_id: str, user_id: str, new: Any, **options: Any) -> OpenedSession:
        """Open a session like ``open_session``; also return whether it is new."""
        session, is_new = await self._open_session(session_id, user_id, new, **options)
        self.read_owner_id = session.metadata.owner_id
        return OpenedSession(session, is_new)

    async def fork(
        self, session_id: str, user_id: str, *, request_digest: str | None, **options: Any
    ) -> CreatedSession:
        """Fork a session like ``fork_session``; return the copy."""
        created = await self._fork_session(
            session_id, user_id, request_digest=request_digest, **options
        )
        return self._new_session(created)

    def _new_session(self, created: Created) -> CreatedSession:
        session = None
        if created.header is not None:
            session = self.runtime.engine.session(created.header, created.caller, created.at)
        return CreatedSession(created.session_id, session)

    async def check(self, session_id: str, user_id: str, action: Action) -> None:
        """Raise the error that the caller would get if they may not do this.

        It precedes another refusal, so it is decided on the stored header, never on a cached one.
        """
        await self._read_session(session_id, user_id, action)

    async def look_at(self, session_id: str, user_id: str, action: Action) -> ReadResult:
        """Read the header, including the fields for providers."""
        return await self._read_session(session_id, user_id, action)

    async def header(self, session_id: str, user_id: str) -> Session:
        """Return the session for a create's response: without what requires the right to read."""
        engine = self.runtime.engine
        session_id = self._inputs.session_id(session_id)
        caller = await self._scope.with_groups(self._scope.caller(user_id))
        read = await engine.read(self._scope, session_id, caller, Action.READ)
        self.read_owner_id = read.snapshot.header.owner_id
        await self._renew_by_reading(read)
        session = engine.session(read.snapshot.header, caller, read.decision.at)
        if session is None:
            raise SessionNotFoundError
        return session

    async def append(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage],
        options: AppendOptions,
        *,
        create: Any,
        whole: bool,
    ) -> Append:
        """Append like ``add_messages``; also return the state of the session afterwards.

        ``whole``: apply it only if all messages are new or all are already stored.
        """
        applied = await self._append_messages(
            session_id, user_id, messages, options, create=create, whole=whole
        )
        return _append_of(applied)

    async def update(
        self,
        session_id: str,
        user_id: str,
        seq: int,
        *,
        expected: Mapping[str, Any],
        roles: tuple[str, ...] | None,
        **changes: Any,
    ) -> Update:
        """Update like ``update_message``; also return the version of the session afterwards.

        ``expected`` is what ``If-Match`` names. ``roles`` are those of the messages that the
        credential may write, ``None`` for all.
        """
        decision, applied = await self._update_message(
            session_id, user_id, seq, **expected, roles=roles, **changes
        )
        [message] = self._decoded(applied.messages, decision)
        return Update(message, applied.header.version)

    async def replace(
        self,
        session_id: str,
        user_id: str,
        messages: Sequence[NewMessage],
        options: AppendOptions,
        *,
        after_seq: int,
    ) -> Append:
        """Replace like ``replace_messages``; also return the state of the session afterwards."""
        applied = await self._replace(session_id, user_id, messages, options, after_seq=after_seq)
        return _append_of(applied)
