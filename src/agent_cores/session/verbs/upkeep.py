"""Sweep, count and erase: the verbs of operators."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action, Caller
from agent_cores.session.errors import (
    ConflictError,
    CorruptRecordError,
    SessionMovedError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.models.effects import AccessEffect
from agent_cores.session.models.query import Query
from agent_cores.session.models.session import Hold
from agent_cores.session.models.times import EPOCH
from agent_cores.session.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from agent_cores.session.models.query import Found
    from agent_cores.session.models.session import SessionMetadata

PAGE = 100
ROUNDS = 5


class ErasureReceipt(msgspec.Struct, frozen=True):
    """What an erasure removed.

    ``complete`` is false if something could not be removed: call again. ``failed`` are the ids of
    sessions that could not be removed, or from which the user's grant could not: their records
    cannot be read, or they are being moved or built.
    """

    sessions: int
    messages: int
    grants: int
    complete: bool
    failed: tuple[str, ...] = ()


class _Erased(msgspec.Struct):
    """Progress of an erasure: messages removed per session, grants removed, ids that failed."""

    sessions: list[int] = []
    grants: int = 0
    failed: set[str] = set()

    @property
    def anything(self) -> bool:
        return bool(self.sessions or self.grants)


def _raise_first(outcomes: Iterable[object]) -> None:
    """Raise the first error among outcomes, none of which is pending."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


class UpkeepVerbs(Verbs):
    """Verbs on a whole namespace. They check no caller: they are for operators."""

    async def clean_expired_sessions(self) -> int:
        """Remove every expired session, hooks included; return how many this namespace had.

        It sweeps the whole store, as the background task does every
        ``SESSION_CLEANUP_INTERVAL`` seconds.
        """
        await self._runtime.ready()
        removed = await self._runtime.lifecycle.sweep()
        return sum(session.namespace == self._scope.namespace for session in removed)

    async def get_statistics(self) -> dict[str, Any]:
        """Return ``sessions``, stored in this namespace, and ``due``, those past their due time."""
        await self._runtime.ready()
        return msgspec.structs.asdict(await self._engine.count(self._scope.namespace))

    async def erase_user(self, user_id: str) -> ErasureReceipt:
        """Remove every session that the user owns, and every grant that names them.

        Messages that they wrote in sessions of others stay, under their id. A session whose record
        cannot be read, or that is being moved, does not stop the others; the receipt is then not
        complete, and names it.
        """
        await self._runtime.ready()
        user = self._inputs.user_id(user_id)
        await self._runtime.storage.repair_lists(self._scope.namespace, user)
        erased = _Erased()
        try:
            complete = await self._erase_all(user, erased)
        except StorageUnavailableError as error:
            error.outcome_unknown = error.outcome_unknown or erased.anything
            raise
        return ErasureReceipt(
            sessions=len(erased.sessions),
            messages=sum(erased.sessions),
            grants=erased.grants,
            complete=complete and not erased.failed,
            failed=tuple(sorted(erased.failed)),
        )

    async def _erase_all(self, user: str, erased: _Erased) -> bool:
        """Erase until nothing is found; ``False`` if the last round still found something."""
        found = 0
        for _ in range(ROUNDS):
            erased.failed, found = set(), 0
            async for page in self._pages(owner_id=user):
                found += len(page.headers)
                calls = map(self._erase_session, page.headers)
                gone = await asyncio.gather(*calls, return_exceptions=True)
                done = [header for header, ok in zip(page.headers, gone, strict=True) if ok is True]
                erased.sessions += [header.message_count for header in done]
                erased.failed |= _failed(page, page.headers, gone)
                _raise_first(gone)
            async for page in self._pages(subjects=(user,)):
                at = self._engine.clock()
                live = [header for header in page.headers if not header.is_expired(at)]
                found += len(live)
                taken = await asyncio.gather(
                    *(self._erase_grant(header, user) for header in live), return_exceptions=True
                )
                erased.grants += taken.count(True)
                erased.failed |= _failed(page, live, taken)
                _raise_first(taken)
            if not found:
                break
        return not found

    async def _pages(
        self, *, owner_id: str | None = None, subjects: tuple[str, ...] = ()
    ) -> AsyncIterator[Found]:
        """Yield everything that is stored, page by page.

        The query is as of 1970, so that it also finds grants that have expired.
        """
        query = Query(
            namespace=self._scope.namespace,
            at=EPOCH,
            owner_id=owner_id,
            subjects=subjects,
            status=None,
            limit=PAGE,
        )
        while True:
            found = await self._engine.find(query)
            yield found
            if found.next is None:
                return
            query = msgspec.structs.replace(query, after=found.next)

    async def _erase_session(self, header: SessionMetadata) -> bool:
        at = self._engine.clock()
        ended = header.is_expired(at)
        if ended:
            await self._runtime.lifecycle.emit_expired(
                header.namespace, header.session_id, header, at
            )
        return await self._erase(header, Action.DELETE, delete=True, must_be_expired=ended)

    async def _erase_grant(self, header: SessionMetadata, user: str) -> bool:
        return await self._erase(header, Action.REVOKE, access=AccessEffect(revoke=(user,)))

    async def _erase(self, header: SessionMetadata, action: Action, **parts: Any) -> bool:  # noqa: ANN401
        """Apply one change; ``False`` if it was refused: the next round finds the session again."""
        decision = self._engine.decision(
            self._scope, header.session_id, Caller(header.owner_id), action, header
        )
        unopened = Hold.OPENING if header.hold is Hold.OPENING else None
        change = decision.change(expected_hold=unopened, **parts)
        done_if = (SessionNotFoundError,) if action is Action.DELETE else None
        try:
            await self._engine.apply(decision, change, done_if=done_if)
        except (ConflictError, SessionNotFoundError, SessionMovedError, CorruptRecordError):
            return False
        return True


def _failed(
    page: Found, headers: list[SessionMetadata], gone: Sequence[bool | BaseException]
) -> set[str]:
    """Return the ids of sessions that could not be read or not be removed."""
    kept = {header.session_id for header, ok in zip(headers, gone, strict=True) if ok is not True}
    return kept.union(page.unreadable)
