"""``Guards``: what must still hold of the stored session for a change to be applied."""

from __future__ import annotations

from datetime import datetime

import msgspec

from agent_cores.session.errors import (
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
    TurnLostError,
)
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import Hold, SessionMetadata


@hides("turn")
class Guards(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The conditions of a change, compared if they are given; the last two always are.

    ``at`` is the instant as of which the change is judged, and the decision behind it holds before
    ``valid_until``, the end of the caller's grant (``None``: no end). ``incarnation`` and
    ``access_revision`` are those of the header on which the change was decided; ``expected_…`` are
    what the caller asked for. ``turn`` is the token of a turn. ``whole_append``: all messages of
    the append are new, or all of them are known. ``expected_hold`` is the hold that the session
    must have, normally none. With ``must_be_expired`` it must have expired, without it must not.
    """

    at: datetime
    valid_until: datetime | None = None
    incarnation: int | None = None
    access_revision: int | None = None
    expected_incarnation: int | None = None
    expected_revision: int | None = None
    expected_last_seq: int | None = None
    turn: str | None = None
    whole_append: bool = False
    expected_hold: Hold | None = None
    must_be_expired: bool = False

    def check_decision(self, header: SessionMetadata | None) -> SessionMetadata:
        """Return the header if the change was decided on this state of the session.

        Raises ``SessionNotFoundError``, ``StaleHeaderError``, ``SessionMovedError`` or
        ``SessionExpiredError``.
        """
        if header is None:
            raise SessionNotFoundError
        if self.incarnation is not None and header.incarnation != self.incarnation:
            raise StaleHeaderError
        if self.access_revision is not None and header.access_revision != self.access_revision:
            raise StaleHeaderError
        if self.valid_until is not None and self.at >= self.valid_until:
            raise StaleHeaderError
        if header.hold is not self.expected_hold:
            raise SessionMovedError
        if header.is_expired(self.at) is not self.must_be_expired:
            raise StaleHeaderError if self.must_be_expired else SessionExpiredError
        return header

    def check_identity(self, header: SessionMetadata | None) -> None:
        """Check that this is the session of the decision, whatever was written to it since.

        Raises ``SessionNotFoundError``, ``StaleHeaderError`` or ``SessionMovedError``.
        """
        if header is None:
            raise SessionNotFoundError
        if header.incarnation != self.incarnation:
            raise StaleHeaderError
        if header.hold is not self.expected_hold:
            raise SessionMovedError

    def expects_revision_of(self, header: SessionMetadata) -> bool:
        """Whether the header is of the revision and incarnation that the caller expects, if any."""
        expected = self.expected_revision
        return expected is None or (
            header.revision == expected and self.expected_incarnation in {None, header.incarnation}
        )

    def check_expectations(self, header: SessionMetadata) -> None:
        """Check what the caller expects of the session; a replay is answered before this.

        Raises ``TurnLostError``, ``RevisionMismatchError`` or ``LastSeqMismatchError``.
        """
        turn = header.turn
        if self.turn is not None and (turn is None or turn.token != self.turn):
            raise TurnLostError
        expected = self.expected_revision
        if expected is not None and not self.expects_revision_of(header):
            raise RevisionMismatchError(expected, header.revision)
        expected = self.expected_last_seq
        if expected is not None and header.last_seq != expected:
            raise LastSeqMismatchError(expected, header.last_seq)
