"""Read, update, list, archive, renew and delete sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import UNSET, UnsetType

from agent_cores.session.access.access_control import Action
from agent_cores.session.errors import (
    InvalidInputError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import (
    choice,
    expected_state,
    flag,
    optional_number,
    whole_number,
)
from agent_cores.session.models.effects import AccessEffect, RenewEffect
from agent_cores.session.models.query import Cursor, Query
from agent_cores.session.models.session import (
    Page,
    Session,
    SessionStatus,
)
from agent_cores.session.verbs.creating import CreatingVerbs
from agent_cores.session.verbs.listing import ListingVerbs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent_cores.session.models.change import Change
    from agent_cores.session.verbs.listing import Included

LISTED = (SessionStatus.ACTIVE, SessionStatus.ARCHIVED)


class ConversationVerbs(CreatingVerbs, ListingVerbs):
    """Verbs on a session as a whole."""

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
        return self._session_of(read)

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
        include: Iterable[Included] = (),
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

        ``include`` adds the context, where the user may read it, the last message, or both, for one
        more read of the store for many sessions. Such a page holds at most 100 sessions, and ends
        once they hold 4 MiB. It renews none of them, and leaves out a session that cannot be read.
        """
        await self._runtime.ready()
        deadline = self._engine.begin()
        caller = self._scope.caller(self._inputs.user_id(user_id))
        after = None if cursor is None else Cursor.decode(cursor)
        if after is not None and offset:
            raise InvalidInputError("offset", "give offset or cursor, not both")
        if after is not None and (after.shared is not flag(shared, "shared") or after.created):
            raise InvalidInputError("cursor", "belongs to another listing")
        if flag(shared, "shared"):
            caller = await self._scope.with_groups(caller, until=deadline)
        query = Query(
            namespace=self._scope.namespace,
            at=self._engine.clock(),
            owner_id=None if shared else caller.user_id,
            subjects=caller.subjects if shared else (),
            status=choice(LISTED[0] if status is None else status, SessionStatus, "status", LISTED),
            tags=self._inputs.tags(tags),
            attributes=self._inputs.wanted_metadata(metadata),
            limit=whole_number(limit, "limit", 1, self._engine.limits.page_items),
            offset=whole_number(offset, "offset", 0),
            after=after,
        )
        return await self._list(query, caller, include, deadline)

    async def delete_session(
        self,
        session_id: str,
        user_id: str,
        *,
        expected_revision: int | None = None,
        expected_version: str | None = None,
        expected_last_seq: int | None = None,
        turn: str | None = None,
    ) -> Literal[True]:
        """Remove the session and all that belongs to it. For its owner only.

        Raises ``RevisionMismatchError``, ``LastSeqMismatchError`` or ``TurnLostError`` if the
        session is not what the caller expects.
        """
        decision = await self._decide(session_id, user_id, Action.DELETE)
        change = await self._checked(
            decision,
            lambda: decision.change(
                expected_state(expected_revision, expected_version),
                expected_last_seq=optional_number(expected_last_seq, "expected_last_seq", 0),
                turn=self._inputs.turn(turn),
                delete=True,
            ),
        )
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
