"""``RetryPolicy``: one change that is sent, perhaps more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import (
    OverloadedError,
    SessionError,
    SessionNotFoundError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    from agent_cores.session.backoff import Backoff
    from agent_cores.session.models.change import Change
    from agent_cores.session.models.session import SessionMetadata


class RetryPolicy:
    """Tells whether a change may be sent again, and what a refusal of its repetition means."""

    def __init__(
        self,
        backoff: Backoff,
        change: Change,
        header: SessionMetadata,
        done_if: tuple[type[SessionError], ...] | None,
    ) -> None:
        self.header = header
        self.lost: StorageUnavailableError | None = None
        self._backoff = backoff
        self._names_seqs = change.remove is not None
        self._appends = bool(change.append)
        self._done_if = done_if
        self._revision: int | None = None

    async def response_lost(self, error: StorageUnavailableError, header: SessionMetadata) -> None:
        """Wait before the change is sent again; raise if it must not be, or for too long.

        ``header`` is what the change was decided on.
        """
        if self.lost is None and (self._done_if is None or not error.outcome_unknown):
            raise error
        if self.lost is None:
            self.lost, self._revision = error, header.revision
        await self.wait(self.lost)

    def to_retry(self, change: Change) -> Change:
        """Return the change to send again.

        After a lost answer an append expects the revision from before it. Known messages are
        answered before that is compared. Unknown ones were not stored, or removed since; a removal
        raises the revision.
        """
        if self.lost is None or not self._appends or change.expected_revision is not None:
            return change
        return msgspec.structs.replace(change, expected_revision=self._revision)

    def outcome_still_unknown(self, refusal: SessionError) -> bool:
        """Whether the change may have been carried out before, though its repetition is refused."""
        if isinstance(refusal, SessionNotFoundError):
            return False
        return self._appends or isinstance(refusal, OverloadedError)

    async def wait(self, refusal: SessionError) -> None:
        """Pause; raise the refusal, or the lost answer before it, when there is no time left."""
        if not await self._backoff.pause():
            raise self.lost or refusal

    def check_same_session(self, header: SessionMetadata) -> None:
        """Never touch another session that has taken the id since, where that would do harm.

        So after a lost answer, and for a removal, whose seqs mean messages of the first session.
        """
        if (
            self.lost is not None or self._names_seqs
        ) and header.incarnation != self.header.incarnation:
            raise SessionNotFoundError

    def proves_applied(self, refusal: SessionError) -> bool:
        """Whether the refusal shows that a sending whose answer was lost had been carried out."""
        return self.lost is not None and isinstance(refusal, self._done_if or ())
