"""``RetryPolicy``: whether and how one change is sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import (
    OverloadedError,
    SessionError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.observing import note_retry

if TYPE_CHECKING:
    from agent_cores.session.backoff import Backoff
    from agent_cores.session.models.change import Change
    from agent_cores.session.models.session import SessionMetadata


class RetryPolicy:
    """Decides whether one change may be sent again, and what a refusal of the retry means.

    ``header`` is the one on which the change was first decided. ``lost`` is the error of the first
    lost response.
    """

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
        self._names_seqs = change.remove is not None or change.update is not None
        self._recognised = bool(change.append) or change.update is not None
        self._done_if = done_if
        self._revision: int | None = None
        self._last_seq: int | None = None

    async def response_lost(self, error: StorageUnavailableError, header: SessionMetadata) -> None:
        """Wait before the change is sent again; raise if it must not be, or if time is up.

        ``header`` is the one on which the lost change was decided.
        """
        if self.lost is None and (self._done_if is None or not error.outcome_unknown):
            raise error
        if self.lost is None:
            self.lost = error
            self._revision, self._last_seq = header.revision, header.last_seq
        await self.wait(self.lost)

    def to_retry(self, change: Change) -> Change:
        """Return the change to send again.

        After a lost response an append expects the revision from before it. If its messages are
        stored, it is answered as a replay before that is compared. If they are not, they were never
        stored, or they were removed since, and a removal raises the revision. So does an update: a
        message that differs from it was never updated, or was updated again since. The messages of
        a replacement have new seqs.
        """
        if self.lost is None or not self._recognised:
            return change
        revision, last_seq = change.expected_revision, change.stored_after
        return msgspec.structs.replace(
            change,
            expected_revision=self._revision if revision is None else revision,
            stored_after=self._last_seq if last_seq is None else last_seq,
        )

    def outcome_still_unknown(self, refusal: SessionError) -> bool:
        """Whether the change may have been applied although this retry was refused."""
        if isinstance(refusal, SessionNotFoundError):
            return False
        return self._recognised or isinstance(refusal, OverloadedError)

    async def wait(self, refusal: SessionError) -> None:
        """Pause before the change is sent again, as long as there is time for that."""
        await self._backoff.pause()
        self.check_time(refusal)
        note_retry()

    def check_time(self, refusal: SessionError) -> None:
        """When time is up, raise the lost response if there was one, else the refusal."""
        if self._backoff.is_over:
            raise self.lost or refusal

    def check_same_session(self, header: SessionMetadata) -> None:
        """Raise ``SessionNotFoundError`` if another session has taken the id, where it matters.

        It matters after a lost response, and for a removal, whose seqs belong to the first session.
        """
        if (
            self.lost is not None or self._names_seqs
        ) and header.incarnation != self.header.incarnation:
            raise SessionNotFoundError

    def proves_applied(self, refusal: SessionError) -> bool:
        """Whether the refusal shows that the change whose response was lost had been applied."""
        return self.lost is not None and isinstance(refusal, self._done_if or ())
