"""``Issuers``: checks tokens.

A token chooses nothing: the algorithm, the keys and the namespaces come from the setting of its
issuer. Keys and addresses in the token (``jwk``, ``jku``, ``x5c``, ``x5u``) are ignored.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import MissingDependencyError, UnauthenticatedError

try:
    from joserfc import jwt
    from joserfc.errors import JoseError, SecurityWarning

    from agent_cores.session.service.auth.issuer_keys import IssuerKeys
except ImportError as _error:
    raise MissingDependencyError("joserfc", "service") from _error

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.service.auth.issuer import Issuer

SKEW_SECONDS = 10
"""How far an issuer's clock may be ahead, so that a freshly signed token is accepted."""
_PART_COUNT = 3
_LATEST = 250_000_000_000
"""Expiry times are capped here, in seconds since 1970: few calendars go further."""


class TokenClaims(msgspec.Struct, frozen=True):
    """The content of a verified token."""

    issuer: str
    namespace: str
    user_id: str
    groups: tuple[str, ...]
    expires_at: datetime


class Issuers:
    """All issuers that this service trusts, with their keys."""

    def __init__(self, issuers: tuple[Issuer, ...], clock: Callable[[], datetime]) -> None:
        self._issuers = {issuer.issuer: IssuerKeys(issuer) for issuer in issuers}
        self._all = issuers
        self._clock = clock

    async def check(self, token: str) -> TokenClaims:
        """Return the content of a token; raise ``UnauthenticatedError`` unless it is valid."""
        claimed = _unverified(token, 1).get("iss")
        keys = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if keys is None:
            raise UnauthenticatedError("no issuer of tokens like this is known")
        issuer = keys.issuer
        key_set = await keys.for_token(_unverified(token, 0).get("kid"))
        try:
            with warnings.catch_warnings(action="ignore", category=SecurityWarning):
                # RFC 9864 renames EdDSA to Ed25519, but issuers still send EdDSA.
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
            if checked.claims["exp"] <= now:  # without the leeway that nbf and iat get
                raise UnauthenticatedError("the token has expired")
        except (JoseError, ValueError, TypeError) as error:
            raise UnauthenticatedError("the token is not valid") from error
        found = _claims(issuer, checked.claims)
        self._check_user(issuer, found)
        return found

    def _check_user(self, issuer: Issuer, claims: TokenClaims) -> None:
        """Refuse a user id that belongs to another issuer, one with a longer matching prefix."""
        for other in self._all:
            if (
                len(other.user_prefix) > len(issuer.user_prefix)
                and claims.user_id.startswith(other.user_prefix)
                and claims.namespace in other.namespaces
            ):
                raise UnauthenticatedError("the token names a user of another issuer")


def _unverified(token: str, part: int) -> dict[str, Any]:
    """Read the header or claims of a token to find its issuer and key; none of it is trusted."""
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
    return TokenClaims(
        issuer=issuer.issuer,
        namespace=_namespace(issuer, claims),
        user_id=_user_id(issuer, claims),
        groups=_groups(issuer, claims),
        expires_at=datetime.fromtimestamp(min(claims["exp"], _LATEST), UTC),
    )


def _namespace(issuer: Issuer, claims: dict[str, Any]) -> str:
    only = issuer.namespaces[0] if len(issuer.namespaces) == 1 else None
    named = _claim(claims, issuer.namespace_claim, only)
    if not isinstance(named, str) or named not in issuer.namespaces:
        raise UnauthenticatedError("the token names no namespace that its issuer may use")
    return named


def _user_id(issuer: Issuer, claims: dict[str, Any]) -> str:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise UnauthenticatedError("the token names no user")
    return issuer.user_prefix + subject


def _groups(issuer: Issuer, claims: dict[str, Any]) -> tuple[str, ...]:
    if not issuer.groups_claim:
        return ()
    groups = _claim(claims, issuer.groups_claim, None)
    if groups is None:
        return ()
    if isinstance(groups, str):
        groups = [groups]
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise UnauthenticatedError("the token's groups are not a list of text")
    return tuple(groups)


def _claim(claims: dict[str, Any], name: str, missing: Any) -> Any:  # noqa: ANN401 - JSON
    """Return the claim with this exact name, which may contain dots, else the one at this path."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        if not isinstance(found, dict) or step not in found:
            return missing
        found = found[step]
    return found
