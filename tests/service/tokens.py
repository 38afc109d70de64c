"""Tokens for tests, signed here."""

# ruff: noqa: ANN401 - tests look behind the service, and send what no type allows

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import KeySet, OctKey

from agent_cores.session.service.auth.issuer import Issuer
from tests.service.wire import Caller, Reply, Wire

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER = Issuer(
    issuer="https://issuer.test",
    audience="agent-sessions",
    algorithms=("HS256",),
    namespaces=("default",),
    groups_claim="groups",
    secret=SECRET,
)


def claims(at: Any, **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid token, with changes; ``None`` leaves one out."""
    given = {
        "iss": ISSUER.issuer,
        "aud": ISSUER.audience,
        "sub": "ann",
        "namespace": "default",
        "exp": int(at.timestamp()) + 60,
        **changes,
    }
    return {name: value for name, value in given.items() if value is not None}


def token(at: Any, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token signed by the issuer."""
    key = OctKey.import_key(SECRET)
    return jwt.encode(header or {"alg": "HS256"}, claims(at, **changes), key)


def public_issuer(folder: Path, keys: list[Any], algorithms: tuple[str, ...]) -> Issuer:
    path = folder / "jwks.json"
    path.write_text(json.dumps(KeySet(keys).as_dict(private=False)))
    return Issuer(
        issuer=ISSUER.issuer,
        audience=ISSUER.audience,
        algorithms=algorithms,
        namespaces=("default",),
        jwks=str(path),
    )


async def asked(wire: Wire, text: str, path: str = "/v1/me", **headers: str) -> Reply:
    return await Caller(wire.service, None, text, headers)("GET", path)
