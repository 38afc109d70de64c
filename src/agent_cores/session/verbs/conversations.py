"""Create, read, update, list, archive, renew and delete sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.errors import (
    InvalidInputError,
    SessionError,
    SessionExistsError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import (
    DEFAULT_TTL_HOURS,
    choice,
    expected_state,
    flag,
    new_id,
    new_incarnation,
    ttl_seconds,
    whole_number,
)
from agent_cores.session.models.change import Change
from agent_cores.session.models.effects import AccessEffect, RenewEffect
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.query import Cursor, Query
from agent_cores.session.models.session import (
    AccessRole,
    Page,
    RenewOn,
    Session,
    SessionMetadata,
    SessionStatus,
)
from agent_cores.session.verbs.base import Created, Verbs
from agent_cores.session.verbs.paging import find_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LISTED = (SessionStatus.ACTIVE, SessionStatus.ARCHIVED)


class ConversationVerbs(Verbs):
    """Verbs on a session as a whole."""

    async def create_session(
        self,
        user_id: str,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
        *,
        session_id: str | None = None,
        title: str | None = None,
        context: Mapping[str, Any] | None = None,
        public: bool = False,
        max_lifetime_hours: float | None = None,
        renew_on: RenewOn | str = RenewOn.WRITE,
        if_exists: Literal["error", "return", "return_shared"] = "error",
    ) -> str:
        """Create a session owned by ``user_id`` and return its id.

        ``metadata`` may hold ``title``, ``tags`` and any keys of the caller's own. ``ttl_hours`` is
        the idle time: by default ``SESSION_DEFAULT_EXPIRY``; ``None`` never expires.
        ``if_exists="return"`` returns the id of an existing session that the caller owns, never
        that of somebody else, who may have created it under that id to read along.
        ``"return_shared"`` also returns one that the caller may write to, whoever owns it.

        Raises ``InvalidInputError``, ``SessionExistsError``, ``QuotaExceededError``.
        """
        created = await self._create_session(
            user_id,
            metadata,
            ttl_hours,
            session_id=session_id,
            title=title,
            context=context,
            public=public,
            max_lifetime_hours=max_lifetime_hours,
            renew_on=renew_on,
            if_exists=if_exists,
        )
        return created.session_id

    async def _create_session(
        self,
        user_id: str,
        metadata: Mapping[str, Any] | None,
        ttl_hours: float | None,
        *,
        session_id: str | None,
        title: str | None,
        context: Mapping[str, Any] | None,
        public: bool,
        max_lifetime_hours: float | None,
        renew_on: RenewOn | str,
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
        header = self._new_header(session_id, caller, metadata, title, ttl_hours)
        header = msgspec.structs.replace(
            header,
            public=flag(public, "public"),
            renew_on=choice(renew_on, RenewOn, "renew_on"),
            max_lifetime_seconds=ttl_seconds(max_lifetime_hours, "max_lifetime_hours"),
            request_digest=request_digest,
        )
        change = Change(
            namespace=self._scope.namespace,
            session_id=session_id,
            at=header.created_at,
            clock=self._engine.clock,
            limits=self._engine.limits,
            create=msgspec.structs.replace(header, expires_at=fresh_end(header, header.created_at)),
            context_set=self._inputs.context(context, "context"),
        )
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
            read = await self._engine.read(self._scope, session_id, caller, Action.APPEND)
        except SessionError:
            return False
        return shared or read.role is AccessRole.OWNER

    def _new_header(
        self,
        session_id: str,
        caller: Caller,
        metadata: Mapping[str, Any] | None,
        title: str | None,
        ttl_hours: float | None,
    ) -> SessionMetadata:
        known = self._inputs.metadata(metadata, "metadata")
        if title is not None:
            if "title" in known:
                raise InvalidInputError("title", "given twice; metadata has a title too")
            known["title"] = self._inputs.title(title)
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
            ttl_seconds=self._idle_seconds(ttl_hours),
        )

    def _idle_seconds(self, ttl_hours: float | None) -> float | None:
        if ttl_hours is DEFAULT_TTL_HOURS:
            return self._runtime.settings.default_expiry or None
        return ttl_seconds(ttl_hours)

    async def get_session(
        self, session_id: str, user_id: str, *, message_limit: int = 50
    ) -> Session:
        """Return the session with its latest messages, and its context if the caller may read it.

        ``message_limit=0`` leaves the messages out. Raises ``SessionNotFoundError``.
        """
        window = await self._valid(
            lambda: self._window(message_limit, field="message_limit", least=0),
            session_id,
            user_id,
            Action.READ,
        )
        read = await self._read_session(
            session_id, user_id, Action.READ, context=True, window=window
        )
        await self._renew_by_reading(read)
        decision, snapshot = read.decision, read.snapshot
        context = None
        if read.role.rank >= Action.READ_CONTEXT.rank and snapshot.context is not None:
            context = self._decoded_context(snapshot.context, decision)
        messages = None
        if snapshot.messages is not None:
            messages = self._decoded(snapshot.messages, decision)
        header = self._engine.access.view(snapshot.header, decision.caller, read.role, decision.at)
        return Session(
            metadata=header,
            context=context,
            messages=messages,
            access_role=read.role,
            visibility=snapshot.header.visibility_at(decision.at),
        )

    async def update_session(
        self,
        session_id: str,
        user_id: str,
        context_updates: Mapping[str, Any] | None = None,
        metadata_updates: Mapping[str, Any] | None = None,
        *,
        context_removals: Iterable[str] = (),
        expected_revision: int | None = None,
        expected_version: str | None = None,
    ) -> Session:
        """Set context and metadata keys, remove context keys; return the header after that.

        A metadata key set to ``None`` is removed. Writers of different context keys never undo each
        other. Raises ``RevisionMismatchError`` if the session is not in the expected state;
        ``expected_version`` (a ``session.version``) also detects another session of the same id.
        """
        decision = await self._decide(session_id, user_id, Action.UPDATE)

        def change() -> Change:
            context_set = self._inputs.context(context_updates)
            return decision.change(
                expected_state(expected_revision, expected_version),
                metadata=self._inputs.metadata(metadata_updates, "metadata_updates"),
                context_set=context_set,
                context_drop=self._inputs.context_removals(context_removals, context_set),
            )

        return await self._apply_to_header(decision, await self._checked(decision, change))

    async def list_user_sessions(
        self,
        user_id: str,
        status: SessionStatus | str | None = None,
        limit: int = 10,
        offset: int = 0,
        *,
        tags: Sequence[str] | None = None,
        shared: bool = False,
        metadata: Mapping[str, Any] | None = None,
        cursor: str | None = None,
    ) -> Page[Session]:
        """Return headers of the user's sessions, latest activity first.

        ``status`` is active (the default) or archived. With ``tags``, sessions that have all of
        them. With ``metadata``, sessions whose own metadata keys have these values; ``None`` means
        that the key is not there. With ``shared=True``, what others share with the user, directly
        or by group, latest shared first. A page ends at 4 MiB (``SESSION_MAX_PAGE_BYTES``) and may
        be short for other reasons, with ``next_cursor`` set: no index holds metadata, so one page
        reads about 1,000 headers at most, whatever matches. ``cursor`` continues at the same cost
        however far you go; ``offset`` costs what it skips.
        """
        await self._runtime.ready()
        caller = self._scope.caller(self._inputs.user_id(user_id))
        after = None if cursor is None else Cursor.decode(cursor)
        if after is not None and offset:
            raise InvalidInputError("offset", "give offset or cursor, not both")
        if after is not None and (after.shared is not flag(shared, "shared") or after.created):
            raise InvalidInputError("cursor", "belongs to another listing")
        if flag(shared, "shared"):
            caller = await self._scope.with_groups(caller)
        at = self._engine.clock()
        query = Query(
            namespace=self._scope.namespace,
            at=at,
            owner_id=None if shared else caller.user_id,
            subjects=caller.subjects if shared else (),
            status=choice(LISTED[0] if status is None else status, SessionStatus, "status", LISTED),
            tags=self._inputs.tags(tags),
            attributes=self._inputs.wanted_metadata(metadata),
            limit=whole_number(limit, "limit", 1, self._engine.limits.page_items),
            offset=whole_number(offset, "offset", 0),
            after=after,
        )
        found = await find_page(self._engine, query)
        others = (h for h in found.headers if not shared or h.owner_id != caller.user_id)
        sessions = (self._engine.session(header, caller, at) for header in others)
        return Page(
            (session for session in sessions if session is not None),
            has_more=found.next is not None,
            next_cursor=None if found.next is None else found.next.encode(),
        )

    async def delete_session(
        self,
        session_id: str,
        user_id: str,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
    ) -> Literal[True]:
        """Remove the session and all that belongs to it. For its owner only."""
        decision = await self._decide(session_id, user_id, Action.DELETE)
        expected = await self._checked(
            decision, lambda: expected_state(expected_revision, expected_version)
        )
        change = decision.change(expected, delete=True)
        await self._engine.apply(decision, change, done_if=(SessionNotFoundError,))
        return True

    async def archive_session(self, session_id: str, user_id: str) -> Session:
        """Make the session read-only and leave it out of default listings. It still expires."""
        return await self._set_archived(session_id, user_id, archived=True)

    async def unarchive_session(self, session_id: str, user_id: str) -> Session:
        """Make an archived session active again."""
        return await self._set_archived(session_id, user_id, archived=False)

    async def _set_archived(self, session_id: str, user_id: str, *, archived: bool) -> Session:
        decision = await self._decide(session_id, user_id, Action.ARCHIVE)
        change = decision.change(access=AccessEffect(archived=archived))
        return await self._apply_to_header(decision, change)

    async def renew_session(
        self, session_id: str, user_id: str, *, ttl_hours: float | UnsetType | None = UNSET
    ) -> Session:
        """Restart the idle time.

        With ``ttl_hours``, that becomes the idle time, and the session may expire sooner or later
        than before. Without it, never sooner.
        """
        decision = await self._decide(session_id, user_id, Action.RENEW)
        seconds = await self._checked(
            decision, lambda: UNSET if ttl_hours is UNSET else self._idle_seconds(ttl_hours)
        )
        change = decision.change(renew=RenewEffect(ttl_seconds=seconds))
        return await self._apply_to_header(decision, change)
