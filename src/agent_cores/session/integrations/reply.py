"""A reply that is saved while it is streamed: its text, the one message made of it, its events."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import new_id
from agent_cores.session.integrations.problems import logger
from agent_cores.session.wire.conversion import message_shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from agent_cores.session.models.message import Message

INCOMPLETE = "incomplete"
"""The metadata key that marks a message as the beginning of a reply; its value says why."""
Reason = Literal["disconnected", "failed", "cancelled"]
"""The client went away; the producer raised; the server cancelled the request."""

EVENT_STREAM = "text/event-stream"


class ReplyOptions(TypedDict, total=False):
    """The keywords of a streamed reply, described at ``fastapi.StreamedReply``."""

    role: str
    message_id: str | None
    metadata: Mapping[str, Any] | None
    turn: str | None
    finish: bool
    events: bool


class Reply:
    """The text so far, and the message that it becomes.

    What is saved is decided once, under one id, so that saving it again is a repetition.
    """

    def __init__(
        self,
        session_id: str,
        user_id: str,
        *,
        role: str,
        message_id: str | None,
        metadata: Mapping[str, Any] | None,
        turn: str | None,
    ) -> None:
        self._session_id = session_id
        self._user_id = user_id
        self._role = role
        self._message_id = message_id or new_id()
        self._metadata = metadata
        self._turn = turn
        self._parts: list[str] = []
        self._decided: tuple[str, Mapping[str, Any] | None] | None = None
        self.message: Message | None = None
        self.is_over = False

    def add(self, chunk: str) -> None:
        """Add a chunk of the text."""
        if not isinstance(chunk, str):
            raise InvalidInputError("chunks", f"must be text, not {type(chunk).__name__}")
        try:
            chunk.encode()
        except UnicodeEncodeError as error:  # it can be neither sent nor stored
            raise InvalidInputError("chunks", "must not hold a lone surrogate") from error
        self._parts.append(chunk)

    def to_save(self, reason: Reason | None = None) -> dict[str, Any] | None:
        """Return the arguments of ``add_message``; ``None`` if there is nothing to save.

        With a reason the message is marked as incomplete.
        """
        if self._decided is None:
            metadata = self._metadata
            if reason is not None:
                metadata = {**(metadata or {}), INCOMPLETE: reason}
            self._decided = "".join(self._parts), metadata
        text, metadata = self._decided
        if self.is_over or not text:
            return None
        return {
            "session_id": self._session_id,
            "user_id": self._user_id,
            "role": self._role,
            "content": text,
            "message_id": self._message_id,
            "metadata": metadata,
            "turn": self._turn,
        }

    @contextmanager
    def failures_logged(self) -> Iterator[None]:
        """Log an error of saving: some servers take a late ``OSError`` for the client's."""
        try:
            yield
        except Exception as error:
            logger.error(
                "reply %r was not saved in session %r",
                self._message_id,
                self._session_id,
                exc_info=error,
            )
            raise


def text_event(chunk: str) -> bytes:
    """Return the event of a chunk: its text as JSON, which has no line breaks."""
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def saved_event(message: Message | None) -> bytes:
    """Return the last event of a reply: the message as it is stored, null if nothing was."""
    shape = None if message is None else message_shape(message)
    return b"event: saved\ndata: " + msgspec.json.encode(shape) + b"\n\n"
