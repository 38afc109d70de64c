"""Helpers of these tests: sessions, appends, and SQL on the tables themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent_cores.session.models import Change, SessionMetadata, Window
from agent_cores.session.models.times import utc_now
from agent_cores.session.testing.samples import creation, new_header, new_message
from tests.servers.mariadb import shared_server

if TYPE_CHECKING:
    from agent_cores.session.storage.mysql.provider import MysqlProvider


async def create(
    provider: MysqlProvider,
    session_id: str = "talk",
    **fields: Any,  # noqa: ANN401 - of SessionMetadata
) -> SessionMetadata:
    """Create a session and return its header."""
    header = new_header(session_id, at=utc_now(), **fields)
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


async def message_ids(provider: MysqlProvider, session_id: str = "talk") -> list[str]:
    """Return the ids of a session's messages, in order."""
    snapshot = await provider.read("default", session_id, window=Window(limit=1000))
    assert snapshot is not None
    assert snapshot.messages is not None
    return [message.id for message in snapshot.messages]


def database_of(url: str) -> str:
    """Return the name of a store's database."""
    return urlsplit(url).path.removeprefix("/")


def sql(url: str, statement: str) -> str:
    """Run a statement in a store's database, on the shared server."""
    return shared_server().sql(statement, database_of(url))
