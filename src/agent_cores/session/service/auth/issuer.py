"""``Issuer``: the setting that says who may sign tokens, for which namespaces and how."""

from __future__ import annotations

import msgspec

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.models.representation import hides
from agent_cores.session.service.auth.api_keys import configured_namespace
from agent_cores.session.service.auth.key_fetching import is_safe

HMAC = frozenset({"HS256"})
PUBLIC_KEY = frozenset({"RS256", "ES256", "EdDSA", "Ed25519"})
SHORTEST_SECRET = 32


@hides("secret", "jwks_proxy")
class Issuer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One issuer of tokens, as configured.

    Keys are a ``secret`` (HS256, at least 32 bytes) or ``jwks``: a file or an https URL. An http
    URL is accepted only on a loopback address, where nobody can replace the keys. ``jwks_proxy`` is
    the HTTP proxy for an https URL; proxies from the environment are ignored.

    The namespace is read from the claim ``namespace_claim`` and must be in ``namespaces``. A token
    without that claim gets the only namespace, if there is just one. The user id is ``user_prefix``
    followed by the claim ``sub``. Groups come from the claim ``groups_claim``, if it is set. Both
    claims are a top-level name or a path such as ``realm_access.roles``.
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
        """Refuse an issuer whose tokens could be forged or could never be valid."""
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
        """Whether a proxy would see only encrypted traffic."""
        proxied = (self.jwks or "").startswith("https://")
        return proxied and (self.jwks_proxy or "").startswith(("http://", "https://"))
