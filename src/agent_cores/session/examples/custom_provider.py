"""A custom storage provider: with seven methods, every verb of the manager works on it.

This one keeps sessions in a dict. ``StorageProvider`` builds everything else from the seven
methods; its documentation says how.
"""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session import StorageFactory, StorageProvider, get_session_manager
from agent_cores.session.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session import Session, SessionStatus


class CustomStorageProvider(StorageProvider):
    """Keeps whole sessions in a dict."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    async def save_session(self, session: Session) -> None:
        """Insert or replace a whole session; raise for one with missing parts."""
        if session.context is None or len(session.messages or ()) != session.metadata.message_count:
            raise InvalidInputError("session", "a whole session is needed")
        self._sessions[session.id] = copy.deepcopy(session)

    async def load_session(self, session_id: str) -> Session | None:
        """Return the whole session, an expired one too."""
        return copy.deepcopy(self._sessions.get(session_id))

    async def delete_session(self, session_id: str) -> bool:
        """Remove a session."""
        return self._sessions.pop(session_id, None) is not None

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        """Return sessions, newest activity first."""
        found = [
            session
            for session in self._sessions.values()
            if owner_id in {None, session.owner_id}
            and status in {None, session.status}
            and set(tags or ()) <= set(session.metadata.tags)
        ]
        found.sort(key=lambda session: session.metadata.last_active_at, reverse=True)
        return copy.deepcopy(found[offset : offset + limit])

    async def update_metadata(self, session_id: str, metadata_updates: Mapping[str, Any]) -> bool:
        """Set title, tags and other keys; remove those set to ``None``."""
        session = self._sessions.get(session_id)
        if session is None:
            return False
        header, updates = session.metadata, dict(metadata_updates)
        title, tags = updates.pop("title", header.title), updates.pop("tags", header.tags)
        merged = {**header.attributes, **copy.deepcopy(updates)}
        attributes = {key: value for key, value in merged.items() if value is not None}
        header = msgspec.structs.replace(
            header, title=title, tags=tuple(tags or ()), attributes=attributes
        )
        self._sessions[session_id] = msgspec.structs.replace(session, metadata=header)
        return True

    async def clean_expired_sessions(self) -> int:
        """Remove every expired session."""
        ended = [session.id for session in self._sessions.values() if session.status == "expired"]
        return sum([await self.delete_session(session_id) for session_id in ended])

    async def get_statistics(self) -> dict[str, Any]:
        """Count all sessions, and those that have expired."""
        now = datetime.now(UTC)
        due = sum(session.metadata.is_expired(now) for session in self._sessions.values())
        return {"sessions": len(self._sessions), "due": due}


async def main() -> None:
    """Register the provider under a name, and use it by that name."""
    StorageFactory.register_provider("custom", CustomStorageProvider)
    async with get_session_manager(storage_type="custom") as sessions:
        session_id = await sessions.create_session("ann", {"tags": ["demo"], "topic": "travel"})
        await sessions.add_message(session_id, "ann", "user", "Hello")
        await sessions.share_session(session_id, "ann", "bob")
        print(await sessions.get_session_messages(session_id, "bob"))
        print(await sessions.get_statistics())


if __name__ == "__main__":
    asyncio.run(main())
