"""``ApiKey``: the data of a key, where keys are kept, and how one is checked.

A key is ``ask_<id>_<secret>``. The secret is 256 random bits, of which only the SHA-256 is kept. In
the store, a key is a never-expiring session in a namespace that no view can reach.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent_cores.session.errors import (
    ConfigurationError,
    InvalidInputError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.inputs import Inputs, checked_namespace
from agent_cores.session.models import Change, Query, SessionMetadata
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from agent_cores.session.storage.base import StorageProvider

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

NAMESPACE = "_keys"
PREFIX = "ask_"
RIGHTS = ("read", "write", "admin", "act-as", "operator")
_PAGE = 100
_PARTS = 3
_ID = re.compile(r"[A-Za-z0-9]{1,255}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NAMES = Inputs(Limits(name_bytes=65_536))
"""What names may contain; the service's settings bound their length."""


@hides("secret_hash")
class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret. ``secret_hash`` is SHA-256 in hexadecimal.

    With the right ``act-as`` the key acts for the user in ``X-User-Id``, limited by ``user_prefix``
    and ``groups`` (``None``: all). Without it the key acts only for ``user_id``. With ``operator``
    a request that sends ``X-Operator`` has the owner's rights in every session of the namespace.
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
        """Refuse a key that allows nothing or everything, or that could never be checked."""
        configured_namespace(self.namespace)
        if not is_key_id(self.id):
            raise ConfigurationError("id is 1 to 255 letters and digits")
        if _HASH.fullmatch(self.secret_hash) is None:
            raise ConfigurationError("secret_hash is SHA-256, 64 hexadecimal digits in lower case")
        self._check_times()
        self._check_rights()
        self._check_names()

    def _check_times(self) -> None:
        for field in ("created_at", "expires_at", "last_used_at"):
            at = getattr(self, field)
            if at is not None and at.tzinfo is None:
                raise ConfigurationError(f"{field} has no time zone; end it with Z for UTC")

    def _check_rights(self) -> None:
        unknown = set(self.rights) - set(RIGHTS)
        if unknown or not self.rights:
            raise ConfigurationError(f"rights are some of {', '.join(RIGHTS)}")
        acts = "act-as" in self.rights
        if acts and self.user_id is not None:
            raise ConfigurationError("a key has one fixed user, or the right act-as, not both")
        talks = {"read", "write"} & set(self.rights)
        if talks and not acts and self.user_id is None and "operator" not in self.rights:
            raise ConfigurationError(
                "a key that reads or writes has a fixed user, act-as or operator"
            )
        if (self.user_prefix or self.groups is not None) and not acts:
            raise ConfigurationError("a user prefix and a list of groups narrow the right act-as")
        if (self.user_prefix or self.groups is not None) and "operator" in self.rights:
            raise ConfigurationError(
                "an operator acts in the name of every user: no user prefix or groups narrow that"
            )

    def _check_names(self) -> None:
        try:
            if self.user_id is not None:
                _NAMES.user_id(self.user_id)
            if self.user_prefix:
                _NAMES.user_id(self.user_prefix, "user_prefix")
            for group in self.groups or ():
                _NAMES.name(group, "groups")
        except InvalidInputError as error:
            raise ConfigurationError(str(error)) from error

    def opens(self, secret: str) -> bool:
        """Whether this is the key's secret; takes the same time for every wrong one."""
        return hmac.compare_digest(self.secret_hash, hashed(secret))

    def is_expired(self, at: datetime) -> bool:
        """Whether the key has expired."""
        return self.expires_at is not None and at >= self.expires_at


class Keys(Protocol):
    """Where keys are kept."""

    async def get(self, key_id: str) -> ApiKey | None:
        """Return a key in its current state, or ``None``."""

    async def all(self) -> list[ApiKey]:
        """Return every key, the newest first."""

    async def add(self, key: ApiKey) -> None:
        """Add a new key."""

    async def revoke(self, key_id: str) -> bool:
        """Revoke a key; ``False`` if there was none."""

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Record when a key was last used."""


def configured_namespace(name: str) -> str:
    """Return a namespace that a credential may name: never the one that contains the keys."""
    try:
        return checked_namespace(name)
    except InvalidInputError as error:
        raise ConfigurationError(str(error)) from error


def is_key_id(text: str) -> bool:
    """Whether this could be the id of a key."""
    return _ID.fullmatch(text) is not None


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
    """Split text that looks like a key into id and secret."""
    parts = text.split("_", 2)
    if len(parts) != _PARTS or not text.startswith(PREFIX) or not parts[1].isalnum():
        return None
    return parts[1], parts[2]


class StoredKeys:
    """Keys in the same store as the sessions. Hooks do not see them."""

    def __init__(self, storage: StorageProvider, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._clock = clock

    async def get(self, key_id: str) -> ApiKey | None:
        """Read one key."""
        snapshot = await self._storage.read(NAMESPACE, key_id)
        return None if snapshot is None else _stored_key(snapshot.header)

    async def all(self) -> list[ApiKey]:
        """List all keys, page by page."""
        query = Query(namespace=NAMESPACE, at=self._clock(), owner_id=NAMESPACE, limit=_PAGE)
        keys: list[ApiKey] = []
        while True:
            found = await self._storage.find(query)
            keys += _readable(found.headers)
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
                continue  # a concurrent write came first: read again
            return True
        return False

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Write the time beside the key, so that nothing else changes."""
        change = self._change(key.id, metadata={"last_used_at": to_millis(at)})
        try:
            await self._storage.apply(change)
        except (SessionNotFoundError, StaleHeaderError):
            return  # concurrently revoked, or recorded by another worker

    def _change(self, key_id: str, **parts: object) -> Change:
        change = Change(namespace=NAMESPACE, session_id=key_id, at=self._clock())
        return msgspec.structs.replace(change, **parts)


class HeldKeys:
    """Keys in the memory of this process: the one that a first run makes."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = {key.id: key for key in keys}

    async def get(self, key_id: str) -> ApiKey | None:
        """Look up a key."""
        return self._keys.get(key_id)

    async def all(self) -> list[ApiKey]:
        """Return all keys."""
        return list(reversed(self._keys.values()))

    async def add(self, key: ApiKey) -> None:
        """Add a key."""
        self._keys[key.id] = key

    async def revoke(self, key_id: str) -> bool:
        """Remove a key."""
        return self._keys.pop(key_id, None) is not None

    async def used(self, key: ApiKey, at: datetime) -> None:
        """Record the time; ignores keys that are kept elsewhere."""
        if key.id in self._keys:
            self._keys[key.id] = msgspec.structs.replace(key, last_used_at=at)


def key_of(record: dict[str, Any]) -> ApiKey:
    """Return the key that a stored record describes.

    Raises ``ConfigurationError`` for a wrong field, and for an unknown one, since it may be one
    that restricts the key.
    """
    check_fields(record, ApiKey.__struct_fields__)
    try:
        return msgspec.convert(record, ApiKey)
    except msgspec.ValidationError as error:
        problem = str(error).removesuffix(" - at `$`").replace("`$.", "`")
        raise ConfigurationError(problem) from error


def check_fields(record: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse an unknown field, and suggest the one that was perhaps meant."""
    for name in record:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ConfigurationError(f"unknown field {name!r}; {hint}")


def _record(key: ApiKey) -> dict[str, object]:
    record: dict[str, object] = msgspec.to_builtins(key)
    return {name: value for name, value in record.items() if value is not None}


def _stored_key(header: SessionMetadata) -> ApiKey:
    try:
        key = key_of(header.attributes["key"])
    except (KeyError, ConfigurationError) as error:
        raise ConfigurationError(f"the stored key {header.session_id!r}: {error}") from error
    last_used = header.attributes.get("last_used_at")
    if last_used is None:
        return key
    return msgspec.structs.replace(key, last_used_at=from_millis(last_used))


def _readable(headers: Iterable[SessionMetadata]) -> Iterator[ApiKey]:
    """Yield the valid keys; a key that this program does not understand is logged and skipped."""
    for header in headers:
        try:
            yield _stored_key(header)
        except ConfigurationError as error:
            logger.warning("%s", error)
