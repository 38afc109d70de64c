"""``Issuer``: who may sign tokens for which namespaces; and how a token is checked.

A token chooses nothing: the algorithm, the keys and the namespaces come from the setting of its
issuer. Keys or addresses that a token carries (``jwk``, ``jku``, ``x5c``, ``x5u``) are not
looked at.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning

from agent_cores.session.errors import (
    ConfigurationError,
    UnauthenticatedError,
)
from agent_cores.session.models.representation import hides
from agent_cores.session.service.auth.api_keys import configured_namespace
from agent_cores.session.service.auth.issuer_keys import IssuerKeys
from agent_cores.session.service.auth.key_fetching import is_safe

if TYPE_CHECKING:
    from collections.abc import Callable

HMAC = frozenset({"HS256"})
PUBLIC_KEY = frozenset({"RS256", "ES256", "EdDSA", "Ed25519"})
SKEW_SECONDS = 10
"""How far an issuer's clock may be ahead: a token that has just been signed is not refused."""
SHORTEST_SECRET = 32
_PART_COUNT = 3
_LATEST = 250_000_000_000
"""Seconds since 1970 past which ends are all the same: no calendar goes much farther."""


@hides("secret", "jwks_proxy")
class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer of tokens, as a setting gives it.

    Keys are ``secret`` (HS256, at least 32 bytes) or ``jwks``, a file or an https URL (http on a
    loopback address alone, where nobody can put other keys in their place). ``jwks_proxy`` is an
    HTTP proxy to reach an https URL by; none that the environment names is used.

    The namespace is the claim ``namespace_claim`` and must be in ``namespaces``; a token without
    that claim is of the one namespace, if there is but one. The user id is ``user_prefix`` and the
    claim ``sub``; groups are the claim ``groups_claim``, if one is named. Both claims are a name
    at the top, or a path such as ``realm_access.roles``.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    namespaces: tuple[str, ...]
    namespace_claim: str = "namespace"
    groups_claim: str | None = None
    user_prefix: str = ""
    jwks: str | None = None
    jwks_proxy: str | None = None
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
        if self.jwks is not None and not is_safe(self.jwks):
            raise ConfigurationError(f"issuer {self.issuer}: jwks is a file or an https URL")
        if self.jwks_proxy is not None and not self._may_use_proxy():
            raise ConfigurationError(
                f"issuer {self.issuer}: jwks_proxy is http://host:port, for a jwks that is https"
            )
        if not self.namespaces:
            raise ConfigurationError(f"issuer {self.issuer}: namespaces is empty")
        for namespace in self.namespaces:
            configured_namespace(namespace)

    def _may_use_proxy(self) -> bool:
        """Whether a proxy can do no more than pass on what it cannot read."""
        proxied = (self.jwks or "").startswith("https://")
        return proxied and (self.jwks_proxy or "").startswith(("http://", "https://"))


class TokenClaims(msgspec.Struct, frozen=True):
    """What a checked token says."""

    issuer: str
    namespace: str
    user_id: str
    groups: tuple[str, ...]
    expires_at: datetime


class Issuers:
    """All issuers that this service believes, and their keys."""

    def __init__(self, issuers: tuple[Issuer, ...], clock: Callable[[], datetime]) -> None:
        self._issuers = {issuer.issuer: IssuerKeys(issuer) for issuer in issuers}
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
        raise UnauthenticatedError("the token names no namespace that its issuer may")
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
    """Return the claim of that very name, which may hold dots, or else the one on that path."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for step in name.split("."):
        if not isinstance(found, dict) or step not in found:
            return missing
        found = found[step]
    return found
