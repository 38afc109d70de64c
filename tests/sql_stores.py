"""What the tests of PostgreSQL and MariaDB share: sessions, appends, and other changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent_cores.session.models import Change, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.testing.samples import creation, new_header, new_message

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.sql.server_provider import SqlProvider


async def create(
    provider: SqlProvider,
    session_id: str = "talk",
    *,
    created: datetime | None = None,
    **fields: Any,  # noqa: ANN401 - of SessionMetadata
) -> SessionMetadata:
    """Create a session, now or at that time, and return its header."""
    header = new_header(session_id, at=created or utc_now(), **fields)
    return (await provider.apply(creation(header))).header


def append(header: SessionMetadata, *ids: str, **guards: Any) -> Change:  # noqa: ANN401 - of Change
    """Return a plain append, decided on a header."""
    at = utc_now()
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=at,
        basis=header,
        incarnation=header.incarnation,
        access_revision=header.access_revision,
        append=tuple(new_message(message_id, at=at) for message_id in ids),
        **guards,
    )


def change(header: SessionMetadata, **effects: Any) -> Change:  # noqa: ANN401 - of Change
    """Return a change other than an append, guarded by the incarnation."""
    return Change(
        namespace=header.namespace,
        session_id=header.session_id,
        at=utc_now(),
        incarnation=header.incarnation,
        **effects,
    )


async def message_ids(provider: SqlProvider, session_id: str = "talk") -> list[str]:
    """Return the ids of a session's messages, in order."""
    snapshot = await provider.read("default", session_id, window=Window(limit=1000))
    assert snapshot is not None
    assert snapshot.messages is not None
    return [message.id for message in snapshot.messages]
