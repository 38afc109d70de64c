"""Fork: a session of one's own that begins as another one was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.engine import Decision, Look
from agent_cores.session.errors import SessionError, SessionNotFoundError
from agent_cores.session.inputs import (
    DEFAULT_TTL_HOURS,
    new_id,
    new_incarnation,
    optional_number,
    ttl_seconds,
)
from agent_cores.session.models.change import Change
from agent_cores.session.models.effects import HoldEffect
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.models.header_changes import metadata_fields
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.snapshot import Window
from agent_cores.session.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models.message import StoredMessage

PAGE = 1_000


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

        Messages keep seq, id, author and time, up to ``up_to_seq``. Context goes along only if the
        caller may read it; grants, visibility and turn do not. ``title`` and ``metadata`` are set
        over the copied ones. The copy cannot be seen before it is whole.
        """
        look = await self._look(session_id, user_id, Action.FORK, context=True)
        source, last = look.decision, look.snapshot.header.last_seq
        bound = optional_number(up_to_seq, "up_to_seq", 0)
        last = last if bound is None else min(bound, last)
        target_id = (
            new_id()
            if new_session_id is None
            else self._inputs.new_identifier(new_session_id, "new_session_id")
        )
        updates = self._inputs.metadata(metadata, "metadata")
        if title is not None:
            updates["title"] = self._inputs.title(title)
        header = self._copied_header(look, target_id, updates, ttl_hours)
        target = await self._open_target(look, header)
        try:
            await self._copy_messages(source, target, last)
            lifted = self._change(target, hold=HoldEffect(None), expected_hold=Hold.OPENING)
            target.at = self._engine.clock()
            await self._engine.apply(target, lifted)
        except BaseException:
            await self._abandon(target)
            raise
        return target_id

    def _copied_header(
        self, look: Look, target_id: str, updates: Mapping[str, Any], ttl_hours: float | None
    ) -> SessionMetadata:
        copied, at = look.snapshot.header, self._engine.clock()
        default = self._runtime.settings.default_expiry or None
        header = SessionMetadata(
            namespace=self._scope.namespace,
            session_id=target_id,
            incarnation=new_incarnation(),
            owner_id=look.decision.caller.user_id,
            created_at=at,
            updated_at=at,
            last_active_at=at,
            title=copied.title,
            tags=copied.tags,
            attributes=copied.attributes,
            hold=Hold.OPENING,
            ttl_seconds=default if ttl_hours is DEFAULT_TTL_HOURS else ttl_seconds(ttl_hours),
            max_lifetime_seconds=copied.max_lifetime_seconds,
            renew_on=copied.renew_on,
        )
        changed = metadata_fields(header, updates, self._engine.limits)
        return msgspec.structs.replace(header, **changed, expires_at=fresh_end(header, at))

    async def _open_target(self, look: Look, header: SessionMetadata) -> Decision:
        allowed = look.role.rank >= Action.READ_CONTEXT.rank
        change = Change(
            namespace=header.namespace,
            session_id=header.session_id,
            at=header.created_at,
            limits=self._engine.limits,
            create=header,
            context_set=look.snapshot.context or {} if allowed else {},
        )
        caller = look.decision.caller
        applied = await self._engine.create(self._scope, caller, change)
        return Decision(
            self._scope,
            header.session_id,
            caller,
            Action.FORK,
            applied.header,
            header.created_at,
            fresh=True,
        )

    async def _copy_messages(self, source: Decision, target: Decision, last: int) -> None:
        seq = 0
        while seq < last:
            page = await self._page(source, seq)
            messages = tuple(message for message in page if message.seq <= last)
            if not messages:
                return
            seq = messages[-1].seq
            target.at = self._engine.clock()
            change = self._change(target, append=messages, expected_hold=Hold.OPENING)
            applied = await self._engine.apply(target, change, done_if=())
            target.header = applied.header

    async def _page(self, source: Decision, after_seq: int) -> list[StoredMessage]:
        """Read on, as far as the caller may still read this very session."""
        look = await self._engine.look(
            self._scope,
            source.session_id,
            source.caller,
            Action.FORK,
            window=Window(
                limit=PAGE, after_seq=after_seq, max_bytes=self._engine.limits.page_bytes
            ),
        )
        if look.snapshot.header.incarnation != source.header.incarnation:
            raise SessionNotFoundError
        return look.snapshot.messages or []

    async def _abandon(self, target: Decision) -> None:
        """Remove a copy that was not finished; what this leaves is swept within a minute."""
        target.at = self._engine.clock()
        change = self._change(target, delete=True, expected_hold=Hold.OPENING)
        try:
            await self._engine.storage.apply(change)
        except SessionError:
            return
