"""``ApiKey``: what is known of a key, where keys are kept, and how one is checked.

A key is ``ask_<id>_<secret>``. The secret is 256 random bits; only its SHA-256 is kept. In the
store, a key is a never-expiring session of a namespace that no view can be made of.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from agent_cores.session.errors import (
    ConfigurationError,
    InvalidInputError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.inputs import checked_namespace
from agent_cores.session.models import Change, Query, SessionMetadata
from agent_cores.session.models.times import from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent_cores.session.storage.base import StorageProvider

NAMESPACE = "_keys"
PREFIX = "ask_"
RIGHTS = ("read", "write", "admin", "act-as")
_PAGE = 100
_PARTS = 3


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. ``secret_hash`` is SHA-256 in hexadecimal.

    With ``act-as`` among its rights the key speaks for whom ``X-User-Id`` names, within
    ``user_prefix`` and ``groups`` (``None``: all); without it for ``user_id`` alone.
    """

    id: str
    name: str
    namespace: str
    secret_hash: str
    rights: tuple[str, ...]
    user_id: str | None = None
    user_prefix: str = ""
    groups: tuple[str, ...] | None = None
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a key that could do nothing, or everything."""
        configured_namespace(self.namespace)
        unknown = set(self.rights) - set(RIGHTS)
        if unknown or not self.rights:
            raise ConfigurationError(f"rights are some of {', '.join(RIGHTS)}")
        acts = "act-as" in self.rights
        if acts and self.user_id is not None:
            raise ConfigurationError("a key has one fixed user, or the right act-as, not both")
        talks = {"read", "write"} & set(self.rights)
        if talks and not acts and self.user_id is None:
            raise ConfigurationError("a key that reads or writes has a fixed user, or act-as")
        if (self.user_prefix or self.groups is not None) and not acts:
            raise ConfigurationError("a user prefix and a list of groups narrow the right act-as")

    def opens(self, secret: str) -> bool:
        """Whether this is the key's secret; takes the same time for every wrong one."""
        return hmac.compare_digest(self.secret_hash, hashed(secret))

    def is_expired(self, at: datetime) -> bool:
        """Whether the key has run out."""
        return self.expires_at is not None and at >= self.expires_at


class Keys(Protocol):
    """Where keys are kept."""

    async def get(self, key_id: str) -> ApiKey | None:
        """Return a key as it stands now, or ``None``."""

    async def all(self) -> list[ApiKey]:
        """Return every key, the newest first."""

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""

    async def revoke(self, key_id: str) -> bool:
        """Drop a key; ``False`` if there was none."""

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Note when a key was last used."""


def configured_namespace(name: str) -> str:
    """Return a namespace that a credential may name: never the one that holds the keys."""
    try:
        return checked_namespace(name)
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from error


def hashed(secret: str) -> str:
    """Return the SHA-256 of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_secret() -> tuple[str, str]:
    """Return an id and a secret: 64 and 256 random bits."""
    return secrets.token_hex(8), secrets.token_urlsafe(32)


def key_text(key_id: str, secret: str) -> str:
    """Return a key as its holder sends it."""
    return f"{PREFIX}{key_id}_{secret}"


def split_key(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of what looks like a key."""
    parts = text.split("_", 2)
    if len(parts) != _PARTS or not text.startswith(PREFIX) or not parts[1].isalnum():
        return None
    return parts[1], parts[2]


class StoredKeys:
    """Keys in the store of the sessions. Hooks are not told of them."""

    def __init__(self, storage: StorageProvider, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._clock = clock

    async def get(self, key_id: str) -> ApiKey | None:
        """Read one key."""
        snapshot = await self._storage.read(NAMESPACE, key_id)
        return None if snapshot is None else _key_of(snapshot.header)

    async def all(self) -> list[ApiKey]:
        """List them, page by page."""
        query = Query(namespace=NAMESPACE, at=self._clock(), owner_id=NAMESPACE, limit=_PAGE)
        keys: list[ApiKey] = []
        while True:
            found = await self._storage.find(query)
            keys += [_key_of(header) for header in found.headers]
            if found.next is None:
                return keys
            query = msgspec.structs.replace(query, after=found.next)

    async def add(self, key: ApiKey) -> None:
        """Create the session that is the key."""
        header = SessionMetadata(
            namespace=NAMESPACE,
            session_id=key.id,
            incarnation=secrets.randbits(63),
            owner_id=NAMESPACE,
            created_at=key.created_at,
            updated_at=key.created_at,
            last_active_at=key.created_at,
            attributes={"key": _record(key)},
        )
        await self._storage.apply(self._change(key.id, create=header))

    async def revoke(self, key_id: str) -> bool:
        """Delete the session that is the key."""
        while (snapshot := await self._storage.read(NAMESPACE, key_id)) is not None:
            removal = self._change(key_id, incarnation=snapshot.header.incarnation, delete=True)
            try:
                await self._storage.apply(removal)
            except SessionNotFoundError:
                return False
            except StaleHeaderError:
                continue  # overtaken by another write: look again
            return True
        return False

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Write the time beside the key, so that it changes nothing else."""
        change = self._change(key.id, metadata={"last_used_at": to_millis(at)})
        try:
            await self._storage.apply(change)
        except (SessionNotFoundError, StaleHeaderError):
            return  # revoked meanwhile, or noted by another worker

    def _change(self, key_id: str, **parts: object) -> Change:
        change = Change(namespace=NAMESPACE, session_id=key_id, at=self._clock())
        return msgspec.structs.replace(change, **parts)


class HeldKeys:
    """Keys of this process alone: the one that a first run makes."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in keys}

    async def get(self, key_id: str) -> ApiKey | None:
        """Look one up."""
        return self._keys.get(key_id)

    async def all(self) -> list[ApiKey]:
        """Return them."""
        return list(reversed(self._keys.values()))

    async def add(self, key: ApiKey) -> None:
        """Hold one more."""
        self._keys[key.id] = key

    async def revoke(self, key_id: str) -> bool:
        """Let one go."""
        return self._keys.pop(key_id, None) is not None

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Note the time; a key that is kept elsewhere is not taken in."""
        if key.id in self._keys:
            self._keys[key.id] = msgspec.structs.replace(key, last_used_at=at)


class KeyFile:
    """Keys in a JSON file, ``{"keys": [...]}``; read again when the file has changed."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None
        self._keys: dict[str, ApiKey] = {}

    async def get(self, key_id: str) -> ApiKey | None:
        """Look one up."""
        return self._read().get(key_id)

    async def all(self) -> list[ApiKey]:
        """Return them, the last added first."""
        return list(reversed(self._read().values()))

    async def add(self, key: ApiKey) -> None:
        """Write the file with one key more."""
        self._write({**self._read(), key.id: key})

    async def revoke(self, key_id: str) -> bool:
        """Write the file without a key."""
        keys = dict(self._read())
        if keys.pop(key_id, None) is None:
            return False
        self._write(keys)
        return True

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Leave the file as it is: it belongs to the operator."""

    def _read(self) -> dict[str, ApiKey]:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size, status.st_ino)
            if seen != self._seen:
                read = msgspec.json.decode(self._path.read_bytes(), type=dict[str, list[ApiKey]])
                self._keys = {key.id: key for key in read.get("keys", [])}
                self._seen = seen
        except FileNotFoundError:
            self._keys, self._seen = {}, None
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(f"SESSION_SERVICE_KEYS_FILE: {error}") from error
        return self._keys

    def _write(self, keys: dict[str, ApiKey]) -> None:
        text = msgspec.json.format(msgspec.json.encode({"keys": list(keys.values())}))
        new = self._path.with_name(self._path.name + ".new")
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(text + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)


def _record(key: ApiKey) -> dict[str, object]:
    record: dict[str, object] = msgspec.to_builtins(key)
    return {name: value for name, value in record.items() if value is not None}


def _key_of(header: SessionMetadata) -> ApiKey:
    key = msgspec.convert(header.attributes["key"], ApiKey)
    last_used = header.attributes.get("last_used_at")
    if last_used is None:
        return key
    return msgspec.structs.replace(key, last_used_at=from_millis(last_used))
