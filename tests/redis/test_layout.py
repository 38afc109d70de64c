"""What lies in Redis: the exact keys and values of one session, and nothing that nobody needs."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agent_cores.session.models import (
    AccessRole,
    Change,
    Grant,
    MessageUpdate,
    Query,
    RenewEffect,
    SeqRange,
    TurnEffect,
    Window,
)
from agent_cores.session.models.times import to_millis, utc_now
from agent_cores.session.testing.samples import (
    change_of,
    creation,
    new_context,
    new_header,
    new_message,
)
from tests.redis.talks import append, messages, opened
from tests.servers.redis import RedisServer

AT = datetime(2100, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
DAY = timedelta(days=1)
KEYS_OF_A_SESSION = ("", ":messages", ":ids", ":updated")


@pytest.fixture
def prefix() -> str:
    return f"layout-{secrets.token_hex(4)}:"


def dump(server: RedisServer, prefix: str) -> dict[str, object]:
    """Return every key under a prefix with its value."""
    with server.client() as client:
        keys: list[bytes] = sorted(client.scan_iter(f"{prefix}*", count=1_000))
        return {key.decode().removeprefix(prefix): _value(client, key) for key in keys}


def _value(client: Any, key: bytes) -> object:  # noqa: ANN401 - redis-py's types say too little
    kind = client.type(key)
    if kind == b"hash":
        return {name.decode(): value for name, value in client.hgetall(key).items()}
    if kind == b"zset":
        return list(client.zrange(key, 0, -1, withscores=True))
    if kind == b"set":
        return client.smembers(key)
    return [(entry, *fields.items()) for entry, fields in client.xrange(key)]


async def test_an_updated_message_is_kept_like_this(server: RedisServer, prefix: str) -> None:
    header = new_header(at=AT, ttl_seconds=86_400)
    old, new = new_message("m2", "old", at=AT), new_message("m2", "new", at=AT)
    session = "{default/talk}"
    update = MessageUpdate(seq=2, id="m2", content=b'"new"')
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        messages = (new_message("m1", at=AT), old, new_message("m3", at=AT))
        await provider.apply(creation(header, append=messages))
        await provider.apply(change_of(header, AT, update=update))
        kept = dump(server, prefix)
        with server.client() as client:
            ends = {client.pexpiretime(f"{prefix}{session}{key}") for key in KEYS_OF_A_SESSION}
        await provider.apply(change_of(header, AT, renew=RenewEffect(ttl_seconds=None)))
        with server.client() as client:
            never = {client.pexpiretime(f"{prefix}{session}{key}") for key in KEYS_OF_A_SESSION}
        await provider.apply(change_of(header, AT, remove=SeqRange(2, 2)))
        assert f"{session}:updated" not in dump(server, prefix)
    at = to_millis(AT)
    body = new.body[:-1] + b',"updated_at":%d}' % at
    assert kept[f"{session}:updated"] == [(b"m2\n%d\n%b" % (at, body), 2)]
    assert [entry for entry, _ in kept[f"{session}:messages"]] == [b"1-0", b"3-0"]  # type: ignore[attr-defined]
    assert old.body not in repr(kept).encode()
    assert len(ends) == 1
    assert min(ends) > to_millis(AT + DAY)
    assert never == {-1}


async def test_one_session_is_kept_like_this(server: RedisServer, prefix: str) -> None:
    grant = Grant(subject="group:ops", role=AccessRole.EDITOR, granted_by="{a}:b", granted_at=AT)
    header = new_header(
        "to/do {1}",
        at=AT,
        incarnation=2**62 + 1,
        owner_id="{a}:b",
        ttl_seconds=86_400,
        tags=("t:1",),
        title="计划",
        attributes={"k": [1, None]},
        grants={"group:ops": grant},
    )
    message = new_message("m1", "你好", at=AT)
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        await provider.apply(creation(header, context_set=new_context(plan={"step": 1})))
        await provider.apply(change_of(header, AT, append=(message,)))
        await provider.apply(
            change_of(
                header, AT, turn_effect=TurnEffect(token="t0ken", lease_end=AT + DAY, take=True)
            )
        )
    begin, end = str(to_millis(AT)).encode(), str(to_millis(AT + DAY)).encode()
    member = b"to/do {1}\x004611686018427387905"
    owner = "owner:{default/%7Ba%7D%3Ab}"
    session = "{default/to%2Fdo%20%7B1%7D}"
    grants = (
        '{"group:ops":{"subject":"group:ops","role":"editor","granted_by":"{a}:b",'
        '"granted_at":"2100-01-02T03:04:05.678000Z","expires_at":null}}'
    )
    assert dump(server, prefix) == {
        "due:namespaces": {b"default"},
        "created:{default/1}:active": [(member, to_millis(AT))],
        "created:{default/1}:active:tag:t%3A1": [(member, to_millis(AT))],
        "due:{default/1}": [(member, to_millis(AT + DAY))],
        f"{owner}:active": [(member, to_millis(AT))],
        f"{owner}:active:tag:t%3A1": [(member, to_millis(AT))],
        "subject:{default/group%3Aops}": [(member, to_millis(AT))],
        session: {
            "format": b"1",
            "namespace": b"default",
            "session_id": b"to/do {1}",
            "incarnation": b"4611686018427387905",
            "owner_id": b"{a}:b",
            "created_at": begin,
            "updated_at": begin,
            "last_active_at": begin,
            "listed_at": begin,
            "title": '"计划"'.encode(),
            "tags": b'["t:1"]',
            "attributes": b'{"k":[1,null]}',
            "archived": b"0",
            "public": b"0",
            "grants": grants.encode(),
            "expires_at": end,
            "due_at": end,
            "ttl_seconds": b"86400",
            "renew_on": b"write",
            "last_seq": b"1",
            "message_count": b"1",
            "revision": b"1",
            "access_revision": b"4611686018427387905",
            "context_bytes": b"14",
            "turn_token": b"t0ken",
            "turn_expires_at": end,
            "context:plan": b'1{"step":1}',
        },
        f"{session}:ids": {"m1": b"1"},
        f"{session}:messages": [
            (b"1-0", (b"m", b"m1\n" + begin + b"\n" + message.body)),
        ],
    }


async def test_every_key_of_a_session_goes_in_the_sixth_minute_after_its_end(
    server: RedisServer, prefix: str
) -> None:
    header = new_header(at=utc_now(), ttl_seconds=600)
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        header = (await provider.apply(creation(header))).header
        header = (await provider.apply(append(header, "m1"))).header
        header = (await provider.apply(append(header, "m2"))).header
    assert header.expires_at is not None
    ends = to_millis(header.expires_at)
    erased_at = -(-ends // 60_000) * 60_000 + 300_000
    for key in ("", ":messages", ":ids"):
        assert server.command("PEXPIRETIME", f"{prefix}{{default/talk}}{key}") == erased_at
    for key in ("active",):
        listed_until = server.command("PEXPIRETIME", f"{prefix}owner:{{default/ann}}:{key}")
        assert listed_until >= to_millis(header.expires_at + timedelta(hours=1)) - 1_000


async def test_the_keys_go_later_once_the_end_has_moved_into_another_minute(
    server: RedisServer, prefix: str
) -> None:
    at = utc_now()
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        header = (await provider.apply(creation(new_header(at=at, ttl_seconds=600)))).header
        for seconds in (0, 20, 40, 60, 80):
            later = at + timedelta(seconds=seconds)
            change = change_of(header, later, append=(new_message(f"m{seconds}", at=later),))
            header = (await provider.apply(change)).header
            assert header.expires_at == later + timedelta(seconds=600)
            left = {
                server.command("PEXPIRETIME", f"{prefix}{{default/talk}}{key}")
                - to_millis(header.expires_at)
                for key in ("", ":messages", ":ids")
            }
            assert len(left) == 1
            assert 300_000 <= left.pop() < 360_000


async def test_a_reader_between_the_two_writes_of_a_create_removes_nothing(
    server: RedisServer, prefix: str
) -> None:
    at = utc_now()
    query = Query(namespace="default", at=at, owner_id="ann")
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        applied = await provider.apply(creation(new_header(at=at)))
        with server.client() as client:
            record = client.dump(f"{prefix}{{default/talk}}")
            assert isinstance(record, bytes)
            client.delete(f"{prefix}{{default/talk}}")
            assert (await provider.find(query)).headers == []
            client.restore(f"{prefix}{{default/talk}}", 0, record)
        assert (await provider.find(query)).headers == [applied.header]


async def test_an_entry_that_leads_nowhere_is_removed_once_it_is_a_minute_old(
    server: RedisServer, prefix: str
) -> None:
    at = utc_now()
    owned = f"{prefix}owner:{{default/ann}}:active"
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        await provider.apply(creation(new_header(at=at)))
        server.command("DEL", f"{prefix}{{default/talk}}")
    for seconds, left in ((59, 1), (60, 0)):
        later = at + timedelta(seconds=seconds)
        async with opened(f"{server.url}?prefix={prefix}") as provider:
            await provider.find(Query(namespace="default", at=later, owner_id="ann"))
        assert server.command("ZCARD", owned) == left


async def test_a_field_of_a_later_version_survives(server: RedisServer, prefix: str) -> None:
    at = utc_now()
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        header = (await provider.apply(creation(new_header(at=at)))).header
        server.command("HSET", f"{prefix}{{default/talk}}", "novelty", "kept")
        header = (await provider.apply(append(header, "m1"))).header
        await provider.apply(change_of(header, at, metadata={"title": "new"}))
    assert server.command("HGET", f"{prefix}{{default/talk}}", "novelty") == "kept"


async def test_a_change_that_this_process_loses_to_another_is_decided_anew(
    server: RedisServer, prefix: str
) -> None:
    at = utc_now()
    async with (
        opened(f"{server.url}?prefix={prefix}") as one,
        opened(f"{server.url}?prefix={prefix}") as other,
    ):
        header = (await one.apply(creation(new_header(at=at)))).header
        changes = [
            Change(
                namespace="default",
                session_id="talk",
                at=at,
                incarnation=header.incarnation,
                context_set=new_context(**{f"key{number}": number}),
            )
            for number in range(40)
        ]
        providers = (one, other) * 20

        await asyncio.gather(
            *(provider.apply(change) for provider, change in zip(providers, changes, strict=True))
        )
        snapshot = await one.read("default", "talk", context=True)
    assert snapshot is not None
    assert snapshot.context is not None
    assert len(snapshot.context) == 40
    assert snapshot.header.revision == header.revision + 40
    assert msgspec.json.decode(snapshot.context["key7"][1:]) == 7


async def test_a_create_over_what_is_left_of_an_emptied_session_can_be_appended_to(
    server: RedisServer, prefix: str
) -> None:
    at = utc_now()
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        header = (await provider.apply(creation(new_header(at=at, ttl_seconds=600)))).header
        for number in range(3):
            header = (await provider.apply(append(header, f"m{number}"))).header
        await provider.apply(change_of(header, at, remove=SeqRange(1, 3)))
        server.command("DEL", f"{prefix}{{default/talk}}")
        header = (
            await provider.apply(creation(new_header(at=at, incarnation=2, ttl_seconds=None)))
        ).header
        header = (await provider.apply(append(header, "m1"))).header
        assert header.last_seq == 1
        assert [message.seq for message in await messages(provider)] == [1]
        assert server.command("PEXPIRETIME", f"{prefix}{{default/talk}}:messages") == -1


async def test_a_page_that_ends_by_its_bytes_knows_that_more_follows(
    server: RedisServer, prefix: str
) -> None:
    at = utc_now()
    async with opened(f"{server.url}?prefix={prefix}") as provider:
        header = (await provider.apply(creation(new_header(at=at)))).header
        batch = tuple(new_message(f"m{number}", "x" * 40, at=at) for number in range(60))
        await provider.apply(change_of(header, at, append=batch))
        size = len(batch[0].body)
        for fits in range(1, 60):
            window = Window(limit=50, max_bytes=fits * size)
            page = await provider.read("default", "talk", window=window)
            assert page is not None
            assert page.messages is not None
            assert (len(page.messages), page.has_more) == (min(fits, 50), True)
