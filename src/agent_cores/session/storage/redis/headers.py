"""``Headers``: reads many headers; one that cannot be read does not hide the others.

For a damaged header, one of a newer release, or a key with another type of value, the result has an
error in its place. The error is logged once, with the session id; the record stays in the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.codec import HEADER_FIELDS
from agent_cores.session.errors import CorruptRecordError, StoreFormatError
from agent_cores.session.storage.headers import UnreadableRecords
from agent_cores.session.storage.redis.commands import Command
from agent_cores.session.storage.redis.records import header_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.storage.redis.keys import Keys
    from agent_cores.session.storage.redis.wire import Wire


class Headers:
    """Reads headers for listings, sweeps and repairs."""

    def __init__(self, keys: Keys, wire: Wire) -> None:
        self._keys = keys
        self._wire = wire
        self._unreadable = UnreadableRecords()

    async def read(
        self, namespace: str, session_ids: Iterable[str]
    ) -> list[SessionMetadata | CorruptRecordError | None]:
        """Return the headers of sessions, in order.

        ``None`` for a session that does not exist, an error for one that cannot be read.
        """
        session_ids = list(session_ids)
        keys = [self._keys.session(namespace, session_id).header for session_id in session_ids]
        answers = await self._wire.call_each(
            Command.read("HMGET", key, *HEADER_FIELDS, key=key) for key in keys
        )
        return [
            self.decoded(namespace, session_id, answer)
            for session_id, answer in zip(session_ids, answers, strict=True)
        ]

    def decoded(
        self,
        namespace: str,
        session_id: str,
        answer: Any,  # noqa: ANN401 - whatever the server answers
    ) -> SessionMetadata | CorruptRecordError | None:
        """Return the header in a reply of ``call_each``, as ``read`` does."""
        if isinstance(answer, StoreFormatError):
            unreadable = CorruptRecordError(namespace, session_id, str(answer))
        else:
            try:
                return header_of(namespace, session_id, answer)
            except CorruptRecordError as error:
                unreadable = error
        self.log_once((namespace, session_id), unreadable)
        return unreadable

    def log_once(self, name: object, error: Exception) -> None:
        """Log that listings and sweeps leave this session out."""
        self._unreadable.log(name, error)
