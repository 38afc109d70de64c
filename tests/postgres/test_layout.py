"""What lies in the tables, byte for byte: a format changes on purpose, or not at all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from agent_cores.session.models import AccessRole, Grant
from agent_cores.session.models.times import from_millis
from agent_cores.session.testing.samples import creation, new_context, new_header, new_message
from tests.postgres.support import TABLES, connected

if TYPE_CHECKING:
    from agent_cores.session.storage.postgres.provider import PostgresProvider

pytestmark = pytest.mark.anyio

AT = from_millis(1_800_000_000_000)


async def test_a_session_lies_in_the_tables_as_it_always_did(
    provider: PostgresProvider, url: str
) -> None:
    grant = Grant(subject="group:team", role=AccessRole.EDITOR, granted_by="安", granted_at=AT)
    header = new_header(
        "会话",
        at=AT,
        incarnation=42,
        owner_id="安",
        title="Tea\x00",
        tags=("茶",),
        attributes={"n": 1.0, "b": [True]},
        grants={"group:team": grant},
    )
    message = new_message("m1", "你好\x00", at=AT + timedelta(milliseconds=5))
    await provider.apply(creation(header, append=(message,), context_set=new_context(key="v\x00")))
    async with connected(url) as connection:
        lying = {
            table: [dict(row) for row in await connection.fetch(query(table))] for table in TABLES
        }
        counters = await connection.fetch("SELECT namespace, sessions FROM counters")
    assert lying == EXPECTED
    assert [tuple(row) for row in counters] == [("default", 1)]


def query(table: str) -> str:
    order = "1" if table == "deleted" else "1, 2"
    return f"SELECT * FROM {table} ORDER BY {order}"  # noqa: S608 - names of ours


GRANTS = (
    '{"group:team":{"subject":"group:team","role":"editor","granted_by":"安",'
    '"granted_at":"2027-01-15T08:00:00Z","expires_at":null}}'
)
BODY = '1{"role":"user","content":"你好\\u0000","author_id":"ann","metadata":{}}'
OWNED = {
    "session_key": 1,
    "owner_id": "安",
    "namespace": "default",
    "archived": 0,
    "listed_at": 1_800_000_000_000,
    "session_id": "会话",
}
EXPECTED = {
    "sessions": [
        {
            "session_key": 1,
            "format": 1,
            "namespace": "default",
            "session_id": "会话",
            "incarnation": 42,
            "owner_id": "安",
            "title": b'"Tea\\u0000"',
            "tags": '["茶"]'.encode(),
            "attributes": b'{"n":1.0,"b":[true]}',
            "grants": GRANTS.encode(),
            "archived": 0,
            "public": 0,
            "created_at": 1_800_000_000_000,
            "updated_at": 1_800_000_000_000,
            "last_active_at": 1_800_000_000_000,
            "expires_at": 1_800_003_600_000,
            "ttl_seconds": 3600.0,
            "max_lifetime_seconds": None,
            "renew_on": "write",
            "last_seq": 1,
            "message_count": 1,
            "revision": 1,
            "access_revision": 42,
            "hold": None,
            "context_bytes": 12,
            "request_digest": None,
            "listed_at": 1_800_000_000_000,
            "due_at": 1_800_003_600_000,
            "turn_token": None,
            "turn_expires_at": None,
        }
    ],
    "messages": [
        {
            "session_key": 1,
            "seq": 1,
            "id": "m1",
            "created_at": 1_800_000_000_005,
            "body": BODY.encode(),
        }
    ],
    "context": [{"session_key": 1, "key": "key", "value": b'1"v\\u0000"'}],
    "owned": [{**OWNED, "mark": ""}, {**OWNED, "mark": "=茶"}],
    "shared": [
        {
            "session_key": 1,
            "subject": "group:team",
            "namespace": "default",
            "granted_at": 1_800_000_000_000,
            "session_id": "会话",
        }
    ],
    "deleted": [],
}
