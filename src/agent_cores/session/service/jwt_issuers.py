"""``Issuer``: who may sign tokens for which namespaces; and how a token is checked.

A token chooses nothing: the algorithm, the keys and the namespaces come from the setting of its
issuer. Keys or addresses that a token carries (``jwk``, ``jku``, ``x5c``, ``x5u``) are not
looked at.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
import urllib.request
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import KeySet, OctKey

from agent_cores.session.errors import (
    ConfigurationError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from agent_cores.session.service.api_keys import configured_namespace

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

logger = logging.getLogger("agent_cores.session.service")

HMAC = frozenset({"HS256"})
PUBLIC_KEY = frozenset({"RS256", "ES256", "EdDSA", "Ed25519"})
FRESH_SECONDS = 600.0
"""How long keys from a URL are used before they are fetched again."""
RETRY_SECONDS = 30.0
"""How often, at most, keys are fetched again because a token names an unknown one."""
UNREAD_SECONDS = 5.0
"""How long after a failure keys that were never read are not fetched again."""
SKEW_SECONDS = 10
"""How far an issuer's clock may be ahead: a token that has just been signed is not refused."""
FETCH_TIMEOUT = 5.0
MOST_BYTES = 1_048_576
SHORTEST_SECRET = 32
_PART_COUNT = 3
_LATEST = 1e15
"""Seconds since 1970 past which ends are all the same."""
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer of tokens, as a setting gives it.

    Keys are ``secret`` (HS256, at least 32 bytes) or ``jwks``, a file or an https URL (http on a
    loopback address alone, where nobody can put other keys in their place). The
    namespace is the claim ``namespace_claim`` and must be in ``namespaces``. The user id is
    ``user_prefix`` and the claim ``sub``; groups are the claim ``groups_claim``, if one is named.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    namespaces: tuple[str, ...]
    namespace_claim: str = "namespace"
    groups_claim: str | None = None
    user_prefix: str = ""
    jwks: str | None = None
    secret: str | None = None

    def __post_init__(self) -> None:
        """Refuse an issuer whose tokens could be forged, or never be valid."""
        given = set(self.algorithms)
        if not given or not given <= HMAC | PUBLIC_KEY:
            known = ", ".join(sorted(HMAC | PUBLIC_KEY))
            raise ConfigurationError(f"issuer {self.issuer}: algorithms are some of {known}")
        if given & HMAC and given & PUBLIC_KEY:
            raise ConfigurationError(f"issuer {self.issuer}: HMAC and public keys never together")
        if (self.secret is None) is (self.jwks is None) or bool(given & HMAC) is not bool(
            self.secret
        ):
            raise ConfigurationError(f"issuer {self.issuer}: HS256 takes secret, the others jwks")
        if self.secret is not None and len(self.secret.encode()) < SHORTEST_SECRET:
            raise ConfigurationError(f"issuer {self.issuer}: secret has at least 32 bytes")
        if self.jwks is not None and not _is_safe(self.jwks):
            raise ConfigurationError(f"issuer {self.issuer}: jwks is a file or an https URL")
        if not self.namespaces:
            raise ConfigurationError(f"issuer {self.issuer}: namespaces is empty")
        for namespace in self.namespaces:
            configured_namespace(namespace)


class TokenClaims(msgspec.Struct, frozen=True):
    """What a checked token says."""

    issuer: str
    namespace: str
    user_id: str
    groups: tuple[str, ...]
    expires_at: float


class Issuers:
    """All issuers that this service believes, and their keys."""

    def __init__(self, issuers: tuple[Issuer, ...], clock: Callable[[], datetime]) -> None:
        self._issuers = {issuer.issuer: _IssuerKeys(issuer) for issuer in issuers}
        self._all = issuers
        self._clock = clock

    async def check(self, token: str) -> TokenClaims:
        """Return what a token says; ``UnauthenticatedError`` unless all of it is right."""
        claimed = _unverified(token, 1).get("iss")
        keys = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if keys is None:
            raise UnauthenticatedError("no issuer of tokens like this is known")
        issuer = keys.issuer
        key_set = await keys.for_token(_unverified(token, 0).get("kid"))
        try:
            with warnings.catch_warnings(action="ignore", category=SecurityWarning):
                # RFC 9864 would have EdDSA called Ed25519; issuers still say EdDSA.
                checked = jwt.decode(token, key_set, algorithms=list(issuer.algorithms))
            now = self._clock().timestamp()
            registry = jwt.JWTClaimsRegistry(
                now=int(now),
                leeway=SKEW_SECONDS,
                exp={"essential": True},
                iss={"essential": True, "value": issuer.issuer},
                aud={"essential": True, "value": issuer.audience},
                sub={"essential": True},
            )
            registry.validate(checked.claims)
            if checked.claims["exp"] <= now:  # without the leeway that nbf and iat have
                raise UnauthenticatedError("the token has run out")
        except (JoseError, ValueError, TypeError) as error:
            raise UnauthenticatedError("the token is not valid") from error
        found = _claims(issuer, checked.claims)
        self._check_user(issuer, found)
        return found

    def _check_user(self, issuer: Issuer, claims: TokenClaims) -> None:
        """Refuse a user of another issuer: one whose longer prefix the user id begins with."""
        for other in self._all:
            if (
                len(other.user_prefix) > len(issuer.user_prefix)
                and claims.user_id.startswith(other.user_prefix)
                and claims.namespace in other.namespaces
            ):
                raise UnauthenticatedError("the token names a user of another issuer")


class _IssuerKeys:
    """The keys of one issuer: from a secret, a file or a URL, read again when they may be new."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self._keys: KeySet | OctKey | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        if issuer.secret is not None:
            self._keys = OctKey.import_key(issuer.secret)

    async def for_token(self, key_id: object) -> KeySet | OctKey:
        """Return the keys, read anew if they are old, or do not hold the key that is named."""
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
        """Read the keys; where that fails, those that are known hold on."""
        try:
            raw = await asyncio.to_thread(_fetch, self.issuer.jwks or "")
            self._keys = KeySet.import_key_set(msgspec.json.decode(raw))
        except (OSError, HTTPException, ValueError, KeyError, TypeError, JoseError) as error:
            logger.warning("the keys of %s could not be read: %r", self.issuer.issuer, error)
        finally:
            # From its end on: those who waited for a slow failure do not try it once more each.
            self._read_at = time.monotonic()


def _is_safe(place: str) -> bool:
    """Whether nobody on the way can put other keys in the place of the issuer's."""
    scheme, mark, _ = place.partition("://")
    if not mark or scheme == "https":
        return True
    return scheme == "http" and urlsplit(place).hostname in _LOOPBACK


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirection to where the answer could be changed on its way."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:  # noqa: ANN401
        """Refuse an address that a setting could not name either; it comes last."""
        if not _is_safe(arguments[-1]):
            raise ValueError("redirected to an address that is not https")
        return super().redirect_request(*arguments)


def _fetch(place: str) -> bytes:
    if "://" not in place:
        return Path(place).read_bytes()
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(place, timeout=FETCH_TIMEOUT) as answer:
        raw: bytes = answer.read(MOST_BYTES)
    return raw


def _unverified(token: str, part: int) -> dict[str, Any]:
    """Read the header or the claims of a token, to find its issuer and key; nothing is believed."""
    parts = token.split(".")
    if len(parts) != _PART_COUNT:
        raise UnauthenticatedError("neither an API key nor a token")
    try:
        raw = base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4))
        found = msgspec.json.decode(raw)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise UnauthenticatedError("neither an API key nor a token") from error
    return found if isinstance(found, dict) else {}


def _claims(issuer: Issuer, claims: dict[str, Any]) -> TokenClaims:
    namespace, subject = claims.get(issuer.namespace_claim), claims.get("sub")
    if namespace not in issuer.namespaces:
        raise UnauthenticatedError("the token names no namespace that its issuer may")
    if not isinstance(subject, str) or not subject:
        raise UnauthenticatedError("the token names no user")
    groups = claims.get(issuer.groups_claim) if issuer.groups_claim else None
    if isinstance(groups, str):
        groups = [groups]
    if not isinstance(groups or [], list) or not all(isinstance(g, str) for g in groups or []):
        raise UnauthenticatedError("the token's groups are not a list of text")
    user_id = issuer.user_prefix + subject
    return TokenClaims(
        issuer.issuer, namespace, user_id, tuple(groups or ()), float(min(claims["exp"], _LATEST))
    )
