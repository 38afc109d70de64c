"""Create sessions, alone or with their first messages; open one that may exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    SessionError,
    SessionExistsError,
    SessionMovedError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import (
    DEFAULT_TTL_HOURS,
    choice,
    flag,
    new_id,
    new_incarnation,
    ttl_seconds,
)
from agent_cores.session.models.change import Change
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.session import AccessRole, RenewOn, Session, SessionMetadata
from agent_cores.session.verbs.base import Created, Verbs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent_cores.session.decision import ReadResult
    from agent_cores.session.models.message import NewMessage, StoredMessage
    from agent_cores.session.models.new_session import NewSession


class CreatingVerbs(Verbs):
    """Verbs that create a session."""

    async def create_session(
        self,
        user_id: str,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
        *,
        session_id: str | None = None,
        title: str | None = None,
        context: Mapping[str, Any] | None = None,
        messages: Sequence[NewMessage | Mapping[str, Any]] = (),
        public: bool = False,
        max_lifetime_hours: float | None = None,
        renew_on: RenewOn | str = RenewOn.WRITE,
        if_exists: Literal["error", "return", "return_shared"] = "error",
    ) -> str:
        """Create a session owned by ``user_id`` and return its id.

        ``metadata`` may hold ``title``, ``tags`` and any other keys. ``ttl_hours`` is
        the idle time: by default ``SESSION_DEFAULT_EXPIRY``; ``None`` never expires. ``context``
        and ``messages``, the first ones, are written with the session, all or nothing.
        ``if_exists="return"`` returns the id of an existing session that the caller owns, never
        that of somebody else, who may have created it under that id to read along.
        ``"return_shared"`` also returns one that the caller may write to, whoever owns it. Nothing
        is written to an existing session.

        Raises ``InvalidInputError``, ``SessionExistsError``, ``QuotaExceededError``.
        """
        created = await self._create_session(
            user_id,
            session_id,
            {
                "title": title,
                "metadata": metadata,
                "ttl_hours": ttl_hours,
                "public": public,
                "max_lifetime_hours": max_lifetime_hours,
                "renew_on": renew_on,
            },
            context=context,
            messages=messages,
            if_exists=if_exists,
        )
        return created.session_id

    async def open_session(
        self,
        session_id: str,
        user_id: str,
        *,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
        title: str | None = None,
        context: Mapping[str, Any] | None = None,
        messages: Sequence[NewMessage | Mapping[str, Any]] = (),
        public: bool = False,
        max_lifetime_hours: float | None = None,
        renew_on: RenewOn | str = RenewOn.WRITE,
        shared: bool = False,
    ) -> Session:
        """Return the header of the caller's session of that id; create it if it is missing.

        With ``shared=True`` also that of a session of somebody else that the caller may write to.
        The other arguments are those of ``create_session``; they are checked in any case, and used
        only if the session is created. Of two concurrent calls one creates, and both return the
        same session. It costs one read if the session exists, a read and a create if not.

        Raises ``InvalidInputError``, ``SessionExistsError``, ``QuotaExceededError``.
        """
        session, _ = await self._open_session(
            session_id,
            user_id,
            {
                "title": title,
                "metadata": metadata,
                "ttl_hours": ttl_hours,
                "public": public,
                "max_lifetime_hours": max_lifetime_hours,
                "renew_on": renew_on,
            },
            context=context,
            messages=messages,
            shared=flag(shared, "shared"),
        )
        return session

    async def _create_session(
        self,
        user_id: str,
        session_id: str | None,
        new: NewSession,
        *,
        context: Mapping[str, Any] | None,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        if_exists: str,
        request_digest: str | None = None,
    ) -> Created:
        """Create a session as ``create_session`` does; the header keeps ``request_digest``."""
        await self._runtime.ready()
        caller = self._scope.caller(self._inputs.user_id(user_id))
        if if_exists not in ("error", "return", "return_shared"):
            raise InvalidInputError("if_exists", "must be one of error, return, return_shared")
        if session_id is None:
            session_id = new_id()
        else:
            session_id = self._inputs.new_identifier(session_id, "session_id")
        header = self._new_header(session_id, caller, new, request_digest)
        change = self._first_write(header, context, messages)
        try:
            applied = await self._engine.create(self._scope, caller, change)
        except SessionExistsError as exists:
            if if_exists == "error" or not await self._may_return(
                session_id, caller, shared=if_exists == "return_shared"
            ):
                raise exists from None
            return Created(session_id, caller, change.at)
        return Created(session_id, caller, change.at, applied.header)

    async def _may_return(self, session_id: str, caller: Caller, *, shared: bool) -> bool:
        """Whether a create may return the session that has the id.

        The caller must own it, or with ``shared`` may write to it.
        """
        try:
            return await self._own_session(session_id, caller, shared=shared) is not None
        except SessionError:
            return False

    async def _open_session(
        self,
        session_id: str,
        user_id: str,
        new: NewSession,
        *,
        context: Mapping[str, Any] | None,
        messages: Sequence[NewMessage | Mapping[str, Any]],
        shared: bool,
    ) -> tuple[Session, bool]:
        """Open a session as ``open_session`` does; also return whether it is new."""
        await self._runtime.ready()
        caller = self._scope.caller(self._inputs.user_id(user_id))
        session_id = self._inputs.new_identifier(session_id, "session_id")
        change = self._first_write(self._new_header(session_id, caller, new), context, messages)
        deadline = self._engine.begin()
        read = await self._own_session(session_id, caller, shared=shared, deadline=deadline)
        if read is None:
            try:
                applied = await self._engine.create(self._scope, caller, change, deadline=deadline)
            except SessionExistsError:
                read = await self._own_session(session_id, caller, shared=shared, deadline=deadline)
                if read is None:
                    raise
            else:
                return self._shown(applied.header, caller, applied.header.created_at), True
        await self._renew_by_reading(read)
        decision = read.decision
        return self._shown(read.snapshot.header, decision.caller, decision.at), False

    async def _own_session(
        self, session_id: str, caller: Caller, *, shared: bool, deadline: float | None = None
    ) -> ReadResult | None:
        """Read the header of a session that the caller owns, or with ``shared`` may write to."""
        try:
            read = await self._engine.read(
                self._scope, session_id, caller, Action.APPEND, deadline=deadline
            )
        except (SessionNotFoundError, AccessDeniedError, SessionMovedError):
            return None
        return read if shared or read.role is AccessRole.OWNER else None

    def _new_header(
        self, session_id: str, caller: Caller, new: NewSession, request_digest: str | None = None
    ) -> SessionMetadata:
        """Return the header of a new session, with every argument checked."""
        known = self._metadata(new.get("metadata"), new.get("title"))
        at = self._engine.clock()
        own = {k: v for k, v in known.items() if k not in {"title", "tags"} and v is not None}
        return SessionMetadata(
            namespace=self._scope.namespace,
            session_id=session_id,
            incarnation=new_incarnation(),
            owner_id=caller.user_id,
            created_at=at,
            updated_at=at,
            last_active_at=at,
            title=known.get("title"),
            tags=known.get("tags", ()),
            attributes=own,
            ttl_seconds=self._idle_seconds(new.get("ttl_hours", DEFAULT_TTL_HOURS)),
            public=flag(new.get("public", False), "public"),
            renew_on=choice(new.get("renew_on", RenewOn.WRITE), RenewOn, "renew_on"),
            max_lifetime_seconds=ttl_seconds(new.get("max_lifetime_hours"), "max_lifetime_hours"),
            request_digest=request_digest,
        )

    def _first_write(
        self,
        header: SessionMetadata,
        context: Mapping[str, Any] | None,
        messages: Sequence[NewMessage | Mapping[str, Any]],
    ) -> Change:
        """Return the change that creates a session with its first context and messages."""
        drafts: tuple[StoredMessage, ...] = ()
        if not isinstance(messages, tuple | list) or messages:
            drafts = self._drafts(messages, header.owner_id, header.created_at)
        return self._creation(header, self._inputs.context(context, "context"), drafts)

    def _creation(
        self,
        header: SessionMetadata,
        context: Mapping[str, bytes],
        messages: tuple[StoredMessage, ...],
    ) -> Change:
        at = header.created_at
        return Change(
            namespace=header.namespace,
            session_id=header.session_id,
            at=at,
            clock=self._engine.clock,
            limits=self._engine.limits,
            replaces=False,
            create=msgspec.structs.replace(header, expires_at=fresh_end(header, at)),
            context_set=context,
            append=messages,
        )
