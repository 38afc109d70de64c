"""What a store knows of transcripts, so that it need not read it before each write."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent_cores.session.models.version import NO_SESSION

if TYPE_CHECKING:
    from claude_agent_sdk import SessionSummaryEntry

_MOST = 1_000


class State(NamedTuple):
    """The version of the session of a transcript, and the summary that it has there."""

    version: str = NO_SESSION
    summary: SessionSummaryEntry | None = None


class Known:
    """The states of sessions. Bounded; the store compares the version before it writes."""

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def state(self, session_id: str) -> State | None:
        """Return the state in which a session was seen last, ``None`` if that is not known."""
        return self._states.get(session_id)

    def seen(self, session_id: str, state: State) -> None:
        """Note the state of a session."""
        self.forget(session_id)
        self._states[session_id] = state
        if len(self._states) > _MOST:
            self.forget(next(iter(self._states)))

    def forget(self, session_id: str) -> None:
        """Forget a session that is not in the state that was noted."""
        self._states.pop(session_id, None)
