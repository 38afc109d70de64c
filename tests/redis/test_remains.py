"""What is left in Redis after a mixed workload: each entry in its right list, and nothing else."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from zlib import crc32

import pytest

from agent_cores.session.errors import (
    SessionExistsError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from agent_cores.session.models import (
    AccessEffect,
    AccessRole,
    Grant,
    MessageUpdate,
    Query,
    SessionMetadata,
)
from agent_cores.session.models.times import to_millis, utc_now
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.testing.samples import change_of, creation, new_header, new_message
from tests.redis.interrupts import before_writes, die, die_after_writes
from tests.redis.talks import append, opened
from tests.servers.redis import RedisServer, empty_store

OWNERS = {None: "cat", 30: "ann", 3_600: "ann"}
"""Never-ending sessions have owners of their own: their lists alone may not expire."""
HEIRS = {"cat": "dan", "ann": "bob"}
TAGS = ("x", "y", "z", "q")


async def test_nothing_is_left_behind_and_nothing_leads_nowhere(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, url = utc_now(), empty_store(server.url)
    prefix = url.rpartition("prefix=")[2]
    async with opened(url) as provider:
        await _mixed_workload(provider, at)
        await _failed_creates(provider, at, monkeypatch)
        await _half_done_changes(provider, at, monkeypatch)
    _erase(server, prefix, "talk-7", "talk-10")
    async with opened(url) as provider:
        later = at + timedelta(seconds=90)
        await _sweep(provider, later)
        await _read_all_lists(provider, later)
    async with opened(url) as provider:  # what readers set going is done
        await _sweep(provider, later + timedelta(minutes=1))
        headers = await _headers(server, prefix, provider)
        assert len(headers) > 10
        _check_every_key(server, prefix, headers)
        assert (await provider.count("default", later)).sessions == len(headers)
        for header in headers:
            await provider.apply(change_of(header, later, delete=True))
    with server.client() as client:
        assert list(client.scan_iter(f"{prefix}*", count=1_000)) == [
            f"{prefix}due:namespaces".encode()
        ]


async def _mixed_workload(provider: RedisProvider, at: datetime) -> None:
    """Create, write, share, revoke, tag, archive, transfer, delete, re-create, refuse."""
    grant = Grant(subject="bob", role=AccessRole.VIEWER, granted_by="ann", granted_at=at)
    for number in range(30):
        ttl = (None, 30, 3_600)[number % 3]
        name, owner = f"talk-{number}", OWNERS[ttl]
        header = new_header(
            name, at=at, incarnation=number + 1, owner_id=owner, ttl_seconds=ttl, tags=("x", "y")
        )
        header = (await provider.apply(creation(header))).header
        header = (await provider.apply(append(header, "m1"))).header
        if number % 4 == 0:
            update = MessageUpdate(seq=1, id="m1", content=b'"new"')
            header = (await provider.apply(change_of(header, at, update=update))).header
        changes: tuple[list[dict[str, Any]], ...] = (
            [{"access": AccessEffect(grant=(grant,))}],
            [{"metadata": {"tags": ["y", "z"]}}],
            [{"access": AccessEffect(archived=True)}],
            [{"access": AccessEffect(owner_id=HEIRS[owner])}],
            [{"access": AccessEffect(grant=(grant,))}, {"access": AccessEffect(revoke=("bob",))}],
        )
        for fields in changes[number // 3 % 5]:
            header = (await provider.apply(change_of(header, at, **fields))).header
        if number % 5 == 0:
            await provider.apply(change_of(header, at, delete=True))
            again = new_header(
                name, at=at, incarnation=100 + number, owner_id=owner, ttl_seconds=ttl
            )
            await provider.apply(creation(again, append=(new_message("m1", at=at),)))
        elif number % 5 == 1:
            refused = new_header(name, at=at, incarnation=999, owner_id=owner, tags=("q",))
            with pytest.raises(SessionExistsError):
                await provider.apply(creation(refused))


async def _failed_creates(
    provider: RedisProvider, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Add index entries of sessions that are never written."""
    with monkeypatch.context() as patch:
        before_writes(patch, die)
        for ttl, owner in ((None, "cat"), (30, "ann")):
            header = new_header(f"never-{owner}", at=at, owner_id=owner, ttl_seconds=ttl)
            with pytest.raises(StorageUnavailableError):
                await provider.apply(creation(header))


async def _half_done_changes(
    provider: RedisProvider, at: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leave stale index entries of sessions."""
    effects: tuple[dict[str, Any], ...] = (
        {"metadata": {"tags": []}},
        {"access": AccessEffect(archived=True)},
        {"access": AccessEffect(owner_id="bob")},
    )
    with monkeypatch.context() as patch:
        die_after_writes(patch)
        for number, fields in enumerate(effects):
            header = new_header(f"half-{number}", at=at, owner_id="ann", tags=("x",))
            header = (await provider.apply(creation(header))).header
            await provider.apply(change_of(header, at, **fields))


def _erase(server: RedisServer, prefix: str, *names: str) -> None:
    """Do what Redis does by itself to a session that has ended."""
    with server.client() as client:
        for name in names:
            keys = [f"{prefix}{{default/{name}}}{part}" for part in ("", ":messages", ":ids")]
            assert client.delete(*keys) == len(keys)


async def _sweep(provider: RedisProvider, at: datetime) -> None:
    while ended := await provider.due(at, 10, 30):
        for session in ended:
            with suppress(SessionNotFoundError):
                await provider.apply(session.removal(at))


async def _read_all_lists(provider: RedisProvider, at: datetime) -> None:
    for tags in ((), *((tag,) for tag in TAGS)):
        query = Query(namespace="default", at=at, tags=tags, limit=100, by_creation=True)
        await provider.find(query)
    for name in ("ann", "bob", "cat", "dan"):
        for tags in ((), *((tag,) for tag in TAGS)):
            await provider.find(
                Query(namespace="default", at=at, owner_id=name, tags=tags, limit=100)
            )
        await provider.find(Query(namespace="default", at=at, subjects=(name,), limit=100))


async def _headers(
    server: RedisServer, prefix: str, provider: RedisProvider
) -> list[SessionMetadata]:
    """Return the headers behind all keys of sessions, each of which must have one."""
    with server.client() as client:
        keys = [key.decode() for key in client.scan_iter(f"{prefix}{{*", count=1_000)]
    names = {key.partition("/")[2].partition("}")[0] for key in keys}
    snapshots = [await provider.read("default", name) for name in sorted(names)]
    return [snapshot.header for snapshot in snapshots if snapshot is not None]


def _check_every_key(server: RedisServer, prefix: str, headers: list[SessionMetadata]) -> None:
    """Check that lists hold just the sessions that are there, and that keys end as these do."""
    ends = {f"{{default/{header.session_id}}}": header.expires_at for header in headers}
    places: defaultdict[str, dict[bytes, float]] = defaultdict(dict)
    for header in headers:
        member = f"{header.session_id}\0{header.incarnation}".encode()
        for key, score in _places(header).items():
            places[key][member] = score
    with server.client() as client:
        for found in client.scan_iter(f"{prefix}*", count=1_000):
            name = found.decode().removeprefix(prefix)
            lasts = client.ttl(found) == -1
            if name.startswith("{"):
                assert lasts == (ends[name.partition(":")[0]] is None), name
            elif name != "due:namespaces":
                assert dict(client.zrange(found, 0, -1, withscores=True)) == places.pop(name), name
                is_owned = name.startswith("owner:")
                assert lasts == (not is_owned or "/cat}" in name or "/dan}" in name), name
    assert not places


def _places(header: SessionMetadata) -> dict[str, float]:
    """Return every list that a session belongs to, and its score there."""
    assert header.listed_at is not None
    owned = f"owner:{{default/{header.owner_id}}}:{'archived' if header.archived else 'active'}"
    keys = [owned, *(f"{owned}:tag:{tag}" for tag in header.tags)]
    places: dict[str, float] = dict.fromkeys(keys, to_millis(header.listed_at))
    for subject, grant in header.grants.items():
        places[f"subject:{{default/{subject}}}"] = to_millis(grant.granted_at)
    shard = crc32(header.session_id.encode()) % 8
    created = f"created:{{default/{shard}}}:{'archived' if header.archived else 'active'}"
    keys = [created, *(f"{created}:tag:{tag}" for tag in header.tags)]
    places |= dict.fromkeys(keys, to_millis(header.created_at))
    due_at = float("inf") if header.due_at is None else float(to_millis(header.due_at))
    places[f"due:{{default/{shard}}}"] = due_at
    return places
