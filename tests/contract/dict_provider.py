"""A provider written from the list of the seven methods alone: sessions in a dict, nothing more."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.storage import StorageProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models import Session, SessionStatus


class DictProvider(StorageProvider):
    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}

    async def save_session(self, session: Session) -> None:
        messages, expected = session.messages, session.metadata.message_count
        if session.context is None or messages is None or len(messages) != expected:
            raise InvalidInputError("session", "a whole session is needed")
        self.sessions[session.id] = copy.deepcopy(session)

    async def load_session(self, session_id: str) -> Session | None:
        return copy.deepcopy(self.sessions.get(session_id))

    async def delete_session(self, session_id: str) -> bool:
        return self.sessions.pop(session_id, None) is not None

    async def list_sessions(
        self,
        owner_id: str | None = None,
        status: SessionStatus | str | None = None,
        tags: list[str] | None = None,
        limit: int = 10,
        offset: int = 0,
    ) -> list[Session]:
        found = [
            session
            for session in self.sessions.values()
            if owner_id in {None, session.owner_id}
            and status in {None, session.status}
            and set(tags or ()) <= set(session.metadata.tags)
        ]
        found.sort(key=lambda session: session.metadata.last_active_at, reverse=True)
        return copy.deepcopy(found[offset : offset + limit])

    async def update_metadata(self, session_id: str, metadata_updates: Mapping[str, Any]) -> bool:
        session = self.sessions.get(session_id)
        if session is None:
            return False
        header, updates = session.metadata, dict(metadata_updates)
        title, tags = updates.pop("title", header.title), updates.pop("tags", header.tags)
        attributes = {**header.attributes, **updates}
        header = msgspec.structs.replace(
            header,
            title=title,
            tags=tuple(tags or ()),
            attributes={key: value for key, value in attributes.items() if value is not None},
        )
        self.sessions[session_id] = msgspec.structs.replace(session, metadata=header)
        return True

    async def clean_expired_sessions(self) -> int:
        now = datetime.now(UTC)
        ended = [key for key, kept in self.sessions.items() if kept.metadata.is_expired(now)]
        for session_id in ended:
            del self.sessions[session_id]
        return len(ended)

    async def get_statistics(self) -> dict[str, Any]:
        now = datetime.now(UTC)
        due = sum(session.metadata.is_expired(now) for session in self.sessions.values())
        return {"sessions": len(self.sessions), "due": due}
