"""``IssuerKeys``: the keys that an issuer signs with, read again when they may have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc.jwk import JWKRegistry, KeySet, OctKey

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.service.auth.key_fetching import fetch

if TYPE_CHECKING:
    from joserfc.jwk import Key

    from agent_cores.session.service.auth.issuer import Issuer

logger: logging.Logger = logging.getLogger("agent_cores.session.service")

FRESH_SECONDS = 600.0
"""How long keys from a URL are used before they are fetched again."""
RETRY_SECONDS = 30.0
"""The shortest time between two fetches that tokens with an unknown key cause."""
UNREAD_SECONDS = 5.0
"""After a failure, how long keys that were never read are not fetched again."""


class IssuerKeys:
    """The keys of one issuer: from a secret, a file or a URL."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._keys: KeySet | OctKey | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        if issuer.secret is not None:
            self._keys = OctKey.import_key(issuer.secret)

    async def for_token(self, key_id: object) -> KeySet | OctKey:
        """Return the keys, read again if they are old or lack the named key."""
        if isinstance(self._keys, OctKey):
            return self._keys
        if self._is_stale(key_id):
            async with self._lock:
                if self._is_stale(key_id):
                    await self._read_again()
        if self._keys is None:
            raise StorageUnavailableError(f"the keys of {self.issuer.issuer} cannot be read")
        return self._keys

    def _is_stale(self, key_id: object) -> bool:
        age = time.monotonic() - self._read_at
        if self._keys is None:
            return age >= UNREAD_SECONDS
        if age >= FRESH_SECONDS:
            return True
        known = isinstance(self._keys, KeySet) and any(k.kid == key_id for k in self._keys.keys)
        return key_id is not None and not known and age >= RETRY_SECONDS

    async def _read_again(self) -> None:
        """Read the keys; if that fails, keep using the known ones."""
        issuer = self.issuer
        try:
            self._keys, unusable = await fetch(issuer.jwks or "", issuer.jwks_proxy, usable_keys)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            logger.warning("the keys of %s could not be read: %r", issuer.issuer, error)
        else:
            if unusable:
                logger.warning("keys of %s are ignored: %s", issuer.issuer, unusable)
        finally:
            # Counted from the end: callers who waited for a slow failure must not each retry it.
            self._read_at = time.monotonic()


def usable_keys(raw: bytes) -> tuple[KeySet, str]:
    """Return the keys of a set that can verify signatures, and what is wrong with the others.

    Keys that are not understood are skipped (RFC 7517, section 5). Raises ``ValueError`` if this is
    not a key set, or if no key in it is usable.
    """
    found = msgspec.json.decode(raw)
    listed = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(listed, list):
        raise ValueError("not a set of keys")  # noqa: TRY004 - external data
    keys: list[Key] = []
    unusable: list[str] = []
    for place, record in enumerate(listed):
        try:
            keys.append(_key(record))
        except Exception as error:  # noqa: BLE001 - the library may raise anything on a bad record
            unusable.append(f"keys/{place}: {type(error).__name__}")
    if not keys:
        raise ValueError(f"no key that is of use ({_some(unusable) or 'the set is empty'})")
    return KeySet(keys), _some(unusable)


def _key(record: Any) -> Key:  # noqa: ANN401 - external JSON
    if not isinstance(record, dict) or not isinstance(record.get("kid", ""), str):
        raise TypeError("a key is an object, and its kid is text")
    key = JWKRegistry.import_key(record)
    if isinstance(key, OctKey):
        raise ValueError("a secret has no place in a public set")  # noqa: TRY004 - not a type
    operations = record.get("key_ops")
    if record.get("use", "sig") != "sig" or (operations is not None and "verify" not in operations):
        raise ValueError("not a key for signatures")
    key.ensure_kid()
    return key


def _some(unusable: list[str]) -> str:
    return ", ".join(unusable[:10])
