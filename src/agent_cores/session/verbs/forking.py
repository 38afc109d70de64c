"""Fork a session: copy it into a new one of the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.errors import (
    ConflictError,
    SessionError,
    SessionMovedError,
    SessionNotFoundError,
)
from agent_cores.session.inputs import (
    DEFAULT_TTL_HOURS,
    new_id,
    new_incarnation,
    optional_number,
)
from agent_cores.session.models.change import Change, State, apply_change
from agent_cores.session.models.effects import HoldEffect
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.header_changes import metadata_fields
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.snapshot import Window
from agent_cores.session.verbs.base import Created, Verbs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.decision import Decision, ReadResult

PAGE = 1_000
TRIES = 5


class ForkVerbs(Verbs):
    """The verb that copies a session."""

    async def fork_session(
        self,
        session_id: str,
        user_id: str,
        *,
        new_session_id: str | None = None,
        up_to_seq: int | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl_hours: float | None = DEFAULT_TTL_HOURS,
    ) -> str:
        """Copy a session that the caller may read into a new one of theirs; return its id.

        Messages up to ``up_to_seq`` keep seq, id, author and time. Context is copied only if the
        caller may read it; grants, visibility and turn are not. ``title`` and ``metadata`` override
        the copied ones. Nobody can see the copy before it is complete.
        """
        forked = await self._fork_session(
            session_id,
            user_id,
            new_session_id=new_session_id,
            up_to_seq=up_to_seq,
            title=title,
            metadata=metadata,
            ttl_hours=ttl_hours,
        )
        return forked.session_id

    async def _fork_session(
        self,
        session_id: str,
        user_id: str,
        *,
        new_session_id: str | None,
        up_to_seq: int | None,
        title: str | None,
        metadata: Mapping[str, Any] | None,
        ttl_hours: float | None,
        request_digest: str | None = None,
    ) -> Created:
        """Copy a session as ``fork_session`` does; the new header keeps ``request_digest``."""
        read = await self._read_session(session_id, user_id, Action.FORK, context=True)
        bound = optional_number(up_to_seq, "up_to_seq", 0)
        target_id = (
            new_id()
            if new_session_id is None
            else self._inputs.new_identifier(new_session_id, "new_session_id")
        )
        updates = self._metadata(metadata, title)
        for _ in range(TRIES):
            header = self._copied_header(read, target_id, updates, ttl_hours)
            header = msgspec.structs.replace(header, request_digest=request_digest)
            created = await self._copy(read, header, bound)
            if created is not None:
                return created
            read = await self._read_session(session_id, user_id, Action.FORK, context=True)
        detail = "messages were removed during every attempt to copy the session; try again"
        raise ConflictError(detail)

    async def _copy(
        self, read: ReadResult, header: SessionMetadata, bound: int | None
    ) -> Created | None:
        """Build the copy; ``None``, with nothing left, if messages were removed in between."""
        target = await self._open_target(read, header)
        last = read.snapshot.header.last_seq if bound is None else bound
        try:
            whole = await self._copy_messages(
                read, target, min(last, read.snapshot.header.last_seq)
            )
            if whole:
                self._engine.begin_operation(target)
                lifted = target.change(hold=HoldEffect(None), expected_hold=Hold.OPENING)
                # Once it is open it has no hold, and a retry is refused with this error.
                done = await self._engine.apply(target, lifted, done_if=(SessionMovedError,))
                if done.header.hold is not None:  # the response was lost
                    done = apply_change(State(header=done.header), target.guard(lifted))
                return Created(header.session_id, target.caller, target.at, done.header)
        except BaseException:
            await self._runtime.finish(self._abandon(target))
            raise
        await self._abandon(target)
        return None

    def _copied_header(
        self, read: ReadResult, target_id: str, updates: Mapping[str, Any], ttl_hours: float | None
    ) -> SessionMetadata:
        copied, at = read.snapshot.header, self._engine.clock()
        header = SessionMetadata(
            namespace=self._scope.namespace,
            session_id=target_id,
            incarnation=new_incarnation(),
            owner_id=read.decision.caller.user_id,
            created_at=at,
            updated_at=at,
            last_active_at=at,
            title=copied.title,
            tags=copied.tags,
            attributes=copied.attributes,
            hold=Hold.OPENING,
            ttl_seconds=self._idle_seconds(ttl_hours),
            max_lifetime_seconds=copied.max_lifetime_seconds,
            renew_on=copied.renew_on,
        )
        changed = metadata_fields(header, updates, self._engine.limits)
        return msgspec.structs.replace(header, **changed, expires_at=fresh_end(header, at))

    async def _open_target(self, read: ReadResult, header: SessionMetadata) -> Decision:
        allowed = read.role.rank >= Action.READ_CONTEXT.rank
        change = Change(
            namespace=header.namespace,
            session_id=header.session_id,
            at=header.created_at,
            clock=self._engine.clock,
            limits=self._engine.limits,
            create=header,
            context_set=read.snapshot.context or {} if allowed else {},
        )
        caller = read.decision.caller
        applied = await self._engine.create(self._scope, caller, change)
        return self._engine.decision(
            self._scope, header.session_id, caller, Action.FORK, applied.header
        )

    async def _copy_messages(self, read: ReadResult, target: Decision, last: int) -> bool:
        """Copy the messages page by page, as long as the caller may read this very session.

        ``False`` if messages were removed since the first read: the copy would mix two states.
        """
        source, seq = read.snapshot.header, 0
        while True:
            page = await self._engine.read(
                self._scope,
                read.decision.session_id,
                read.decision.caller,
                Action.FORK,
                window=Window(limit=PAGE, after_seq=seq, max_bytes=self._engine.limits.page_bytes),
            )
            if page.snapshot.header.incarnation != source.incarnation:
                raise SessionNotFoundError
            if _holes(page.snapshot.header) != _holes(source):
                return False
            found = page.snapshot.messages or ()
            messages = tuple(message for message in found if message.seq <= last)
            if not messages:
                return True
            seq = messages[-1].seq
            self._engine.begin_operation(target)
            change = target.change(append=messages, expected_hold=Hold.OPENING)
            applied = await self._engine.apply(target, change, done_if=())
            target.header = applied.header

    async def _abandon(self, target: Decision) -> None:
        """Remove an unfinished copy; if this fails, it is swept within a minute."""
        self._engine.begin_operation(target)
        change = target.change(delete=True, expected_hold=Hold.OPENING)
        try:
            await self._engine.apply_once(target, change)
        except SessionError:
            return


def _holes(header: SessionMetadata) -> int:
    """Return how many seqs were used and are no longer stored; only removals change that."""
    return header.last_seq - header.message_count
