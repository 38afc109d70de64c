"""The limit on Redis: our own script, packed by hiredis onto one connection, and nothing else.

All waiting calls are sent together, once per turn of the event loop; replies are matched in order.
There are no access rules, validation, encoding or retries: what remains is the cost of Redis and
the network.

The sessions are made by our own package, and so are the keys and arguments of every call: an append
or a create sends what our package would send, under new ids.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import hiredis
import msgspec

from agent_cores.session import SessionManager
from agent_cores.session.models.change import Change, State, apply_change, hot_append
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.session import SessionMetadata
from agent_cores.session.models.snapshot import Window
from agent_cores.session.models.times import to_millis
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.redis.commands import APPLY, INDEX, Command
from agent_cores.session.storage.redis.keys import Keys
from agent_cores.session.storage.redis.provider import RedisProvider
from agent_cores.session.storage.redis.records import encode_msgpack
from agent_cores.session.storage.redis.writes import create_write, hot_write
from benchmarks.store import Store, server_address

ID = "i" * 22
"""Placeholder for the message or session id in a prepared call."""
INCARNATION = 1_111_111_111_111_111_111
"""Placeholder for a session's incarnation, which has as many digits."""


class Prepared(NamedTuple):
    """The call that appends to one session, without the message id between its `parts`."""

    keys: tuple[bytes, ...]
    parts: list[bytes]


class Creation(NamedTuple):
    """The calls that create one session, without its id and incarnation."""

    listed: tuple[bytes | str | int, ...]
    """Adds the session to its owner's list; the member follows."""
    due_at: str
    write: bytes


class RedisOneConnection(Store[Prepared]):
    """A handle is the call that appends to a session."""

    packages = ("hiredis",)

    async def open(self, directory: Path) -> None:
        address = urlsplit(server_address())
        loop = asyncio.get_running_loop()
        where = str(address.hostname), int(address.port or 0)
        _, self._pipe = await loop.create_connection(_Pipe, *where)
        await self._pipe.call(("FLUSHALL",))
        self._keys = Keys(SessionSettings().key_prefix)

    async def close(self) -> None:
        self._pipe.close()

    async def create(self, user_id: str, count: int) -> list[Prepared]:
        async with SessionManager(server_address()) as manager:
            new = (manager.create_session(user_id) for _ in range(count + 1))
            *ids, model_id = await asyncio.gather(*new)
            await manager.add_message(model_id, user_id, "user", "x" * 200)
        provider = RedisProvider.from_url(server_address())
        await provider.initialize()
        snapshot = await provider.read("default", model_id, window=Window(limit=1))
        assert snapshot is not None
        [model] = snapshot.messages or []
        self._creation = await self._prepare_creation(snapshot.header)
        prepared = []
        for session_id in ids:
            snapshot = await provider.read("default", session_id)
            assert snapshot is not None
            prepared.append(await self._prepare(snapshot.header, model))
        await provider.shutdown()
        return prepared

    async def append(self, session: Prepared, text: str) -> None:
        argument = secrets.token_urlsafe(16).encode().join(session.parts)
        keys = session.keys
        answer = await self._pipe.call((b"EVALSHA", self._sha, len(keys), *keys, argument))
        assert answer

    async def create_session(self, user_id: str) -> None:
        """Add the index entries, then write the session."""
        session_id = secrets.token_urlsafe(16)
        incarnation = str(10**18 + secrets.randbelow(8 * 10**18))
        member = f"{session_id}\0{incarnation}"
        entries = (
            (*self._creation.listed, member),
            ("ZADD", self._keys.due("default", session_id), "GT", self._creation.due_at, member),
            ("SADD", self._keys.namespaces, "default"),
        )
        await asyncio.gather(*map(self._pipe.call, entries))
        keys = self._keys.session("default", session_id).every
        write = self._creation.write.replace(ID.encode(), session_id.encode())
        write = write.replace(str(INCARNATION).encode(), incarnation.encode())
        answer = await self._pipe.call((b"EVALSHA", self._sha, len(keys), *keys, write))
        assert answer

    async def _prepare_creation(self, model: SessionMetadata) -> Creation:
        """Encode the write of a new session as our package does, and load the index script."""
        at = datetime.now(UTC)
        header = msgspec.structs.replace(model, session_id=ID, incarnation=INCARNATION, last_seq=0)
        change = Change(namespace="default", session_id=ID, at=at, create=header)
        applied = apply_change(State(), change)
        owned = self._keys.owned("default", header.owner_id, archived=False)
        sha = await self._load(INDEX.on((owned,)))
        assert applied.header.expires_at is not None
        listed_at, end = to_millis(applied.header.last_active_at), applied.header.expires_at
        return Creation(
            (b"EVALSHA", sha, 1, owned, "add", to_millis(end), "-", listed_at),
            str(to_millis(end)),
            encode_msgpack(create_write(applied)),
        )

    async def _load(self, command: Command) -> str:
        text = str(command.in_full[1])
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        assert await self._pipe.call(("SCRIPT", "LOAD", text)) == sha.encode()
        return sha

    async def _prepare(self, header: SessionMetadata, model: StoredMessage) -> Prepared:
        """Encode the write of a plain append as our package does, and load its script."""
        at = datetime.now(UTC)
        change = Change(
            namespace=header.namespace,
            session_id=header.session_id,
            at=at,
            incarnation=header.incarnation,
            access_revision=header.access_revision,
            basis=header,
            append=(StoredMessage(0, ID, at, model.body),),
        )
        hot = hot_append(change)
        assert hot is not None
        parts = encode_msgpack(hot_write(change, header, hot, None)).split(ID.encode())
        keys = self._keys.session(header.namespace, header.session_id).every
        self._sha = await self._load(APPLY.on(keys))
        return Prepared(keys, parts)


class _Pipe(asyncio.Protocol):
    """One connection that many callers share."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: list[bytes] = []
        self._answers: deque[asyncio.Future[object]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def call(self, command: tuple[bytes | str | int, ...]) -> asyncio.Future[object]:
        answer: asyncio.Future[object] = self._loop.create_future()
        if not self._waiting:
            self._loop.call_soon(self._send)
        self._waiting.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub
        self._answers.append(answer)
        return answer

    def _send(self) -> None:
        self._transport.write(b"".join(self._waiting))
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            self._answers.popleft().set_result(answer)

    def close(self) -> None:
        self._transport.close()
