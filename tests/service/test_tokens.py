"""JWT: who is believed, and what a token may."""

# ruff: noqa: ANN401 - tests look behind the service, and send what no type allows

from __future__ import annotations

import base64
import hmac
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.service import ServiceSettings
from agent_cores.session.service.auth.issuer import Issuer
from tests.service.tokens import ISSUER, SECRET, asked, claims, public_issuer, token
from tests.service.wire import Caller, Wire

S = "/v1/sessions"


async def test_a_token_says_who_is_calling() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    reply = await asked(wire, token(wire.clock(), sub="安", groups=["a", "b"]))
    assert reply.json() == {
        "namespace": "default",
        "user_id": "安",
        "groups": ["a", "b"],
        "rights": ["read", "write"],
        "key_id": None,
    }
    refused = await asked(wire, token(wire.clock()), **{"X-User-Id": "ben"})
    assert (refused.status, refused.code) == (403, "access_denied")
    assert (await asked(wire, token(wire.clock()), "/v1/statistics")).status == 403


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": None},
        {"iss": "https://elsewhere.test"},
        {"iss": ["https://issuer.test"]},
        {"aud": None},
        {"aud": "other"},
        {"exp": None},
        {"exp": 1},
        {"exp": "never"},
        {"sub": None},
        {"sub": ""},
        {"sub": 5},
        {"sub": "group:x"},
        {"sub": "a\nb"},
        {"namespace": ""},
        {"namespace": "other"},
        {"namespace": ["default"]},
        {"nbf": 99_999_999_999},
        {"groups": [1]},
        {"groups": {"a": 1}},
    ],
    ids=str,
)
async def test_a_token_with_one_thing_wrong_is_not_believed(changes: dict[str, Any]) -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    reply = await asked(wire, token(wire.clock(), **changes))
    assert (reply.status, reply.code) == (401, "unauthenticated")


@pytest.mark.parametrize(
    ("claim", "claims_of", "status", "groups"),
    [
        ("realm_access.roles", {"realm_access": {"roles": ["a", "b"]}}, 200, ["a", "b"]),
        ("resource.api.roles", {"resource": {"api": {"roles": "a"}}}, 200, ["a"]),
        ("https://x.test/groups", {"https://x.test/groups": ["a"]}, 200, ["a"]),
        ("a.b", {"a.b": ["flat"], "a": {"b": ["deep"]}}, 200, ["flat"]),
        ("realm_access.roles", {"realm_access": {"other": ["a"]}}, 200, []),
        ("realm_access.roles", {"realm_access": ["a"]}, 200, []),
        ("realm_access.roles", {}, 200, []),
        ("realm_access.roles", {"realm_access": {"roles": {"a": 1}}}, 401, None),
        ("realm_access.roles", {"realm_access": {"roles": 0}}, 401, None),
    ],
)
async def test_groups_may_lie_deeper_in_a_token(
    claim: str, claims_of: dict[str, Any], status: int, groups: list[str] | None
) -> None:
    issuer = changed(groups_claim=claim)
    wire = Wire(jwt_issuers=(issuer,))
    reply = await asked(wire, token(wire.clock(), **claims_of))
    assert reply.status == status
    assert reply.json().get("groups") == groups


@pytest.mark.parametrize(
    ("namespaces", "claims_of", "namespace"),
    [
        (("one",), {"namespace": None}, "one"),
        (("one",), {"namespace": "one"}, "one"),
        (("one",), {"namespace": "two"}, None),
        (("one",), {"namespace": ""}, None),
        (("one", "two"), {"namespace": None}, None),
        (("one", "two"), {"namespace": "two"}, "two"),
    ],
)
async def test_a_token_without_a_namespace_is_of_the_only_one(
    namespaces: tuple[str, ...], claims_of: dict[str, Any], namespace: str | None
) -> None:
    wire = Wire(jwt_issuers=(changed(namespaces=namespaces),))
    reply = await asked(wire, token(wire.clock(), **claims_of))
    assert reply.status == (401 if namespace is None else 200)
    assert reply.json().get("namespace") == namespace


async def test_an_end_that_no_number_holds_is_an_end() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    for end in (10**30, 1e300, 9_999_999_999.5):
        assert (await asked(wire, token(wire.clock(), exp=end))).status == 200
    for end in (float("nan"), float("inf"), True):
        assert (await asked(wire, token(wire.clock(), exp=end))).status == 401


def changed(**fields: Any) -> Issuer:
    return Issuer(**{name: getattr(ISSUER, name) for name in Issuer.__struct_fields__} | fields)


async def test_a_token_ends_at_its_end() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    text = token(wire.clock())
    assert (await asked(wire, text)).status == 200
    wire.clock.advance(61)
    assert (await asked(wire, text)).status == 401


async def test_a_token_of_a_clock_that_is_a_little_ahead_is_believed() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    now = int(wire.clock().timestamp())
    for ahead, status in ((1, 200), (5, 200), (60, 401)):
        for claim in ("iat", "nbf"):
            begin: dict[str, Any] = {claim: now + ahead}
            text = token(wire.clock(), **begin)
            assert (await asked(wire, text)).status == status, (claim, ahead)
    for end in (now, now - 1, wire.clock().timestamp()):
        assert (await asked(wire, token(wire.clock(), exp=end))).status == 401


async def test_a_token_that_was_not_signed_by_the_issuer_is_not_believed() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    good = token(wire.clock())
    head, body, signature = good.split(".")
    other = jwt.encode({"alg": "HS256"}, claims(wire.clock()), OctKey.import_key("x" * 32))
    none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for text in (
        other,
        f"{head}.{body}.",
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        good[:-4] + "AAAA",
        f"{good}.x",
    ):
        assert (await asked(wire, text)).status == 401


async def test_keys_that_a_token_brings_along_are_not_looked_at(tmp_path: Path) -> None:
    trusted, own = RSAKey.generate_key(2048), RSAKey.generate_key(2048)
    wire = Wire(jwt_issuers=(public_issuer(tmp_path, [trusted], ("RS256",)),))
    public = own.as_dict(private=False)
    for header in (
        {"jwk": public},
        {"jku": "https://evil.test/jwks"},
        {"x5u": "https://evil.test"},
    ):
        text = jwt.encode({"alg": "RS256", **header}, claims(wire.clock()), own)
        assert (await asked(wire, text)).status == 401
    assert (
        await asked(wire, jwt.encode({"alg": "RS256"}, claims(wire.clock()), trusted))
    ).status == 200


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("RS256", RSAKey.generate_key(2048)),
        ("ES256", ECKey.generate_key("P-256")),
        ("EdDSA", OKPKey.generate_key("Ed25519")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_each_algorithm_works_where_it_is_named(
    tmp_path: Path, algorithm: str, key: Any
) -> None:
    wire = Wire(jwt_issuers=(public_issuer(tmp_path, [key], (algorithm,)),))
    with warnings.catch_warnings(action="ignore", category=SecurityWarning):  # of the name EdDSA
        text = jwt.encode({"alg": algorithm}, claims(wire.clock()), key, algorithms=[algorithm])
    assert (await asked(wire, text)).status == 200
    other = "RS256" if algorithm != "RS256" else "ES256"
    wire = Wire(jwt_issuers=(public_issuer(tmp_path, [key], (other,)),))
    assert (await asked(wire, text)).status == 401


async def test_a_public_key_is_never_taken_for_a_secret(tmp_path: Path) -> None:
    key = RSAKey.generate_key(2048)
    wire = Wire(jwt_issuers=(public_issuer(tmp_path, [key], ("RS256",)),))
    head, body, _ = token(wire.clock()).split(".")
    signed = hmac.digest(key.as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    text = f"{head}.{body}.{base64.urlsafe_b64encode(signed).rstrip(b'=').decode()}"
    assert (await asked(wire, text)).status == 401


async def test_a_token_appends_only_the_roles_it_may() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    ann = Caller(wire.service, None, token(wire.clock()), {})
    path = f"{S}/{await ann.new_session()}/messages"
    for role, status in (("user", 201), ("assistant", 403), ("system", 403)):
        reply = await ann("POST", path, {"messages": [{"role": role, "content": "x"}]})
        assert reply.status == status
    missing = await ann("POST", f"{S}/no/messages", {"messages": [{"role": "tool", "content": ""}]})
    assert missing.status == 404
    wire.service = wire.another(jwt_issuers=(ISSUER,), jwt_roles=("user", "assistant"))
    ann.service = wire.service
    reply = await ann("POST", path, {"messages": [{"role": "assistant", "content": "x"}]})
    assert reply.status == 201


async def test_a_token_updates_only_messages_of_the_roles_it_may() -> None:
    wire = Wire(jwt_issuers=(ISSUER,), jwt_roles=("user", "assistant"))
    ann = Caller(wire.service, None, token(wire.clock()), {})
    path = f"{S}/{await ann.new_session()}/messages"
    messages = [{"role": role, "content": "x"} for role in ("user", "assistant")]
    assert (await ann("POST", path, {"messages": messages})).status == 201
    ann.service = wire.another(jwt_issuers=(ISSUER,))
    for seq, status in ((1, 200), (2, 403), (3, 404)):
        assert (await ann("PATCH", f"{path}/{seq}", {"content": "y"})).status == status
    page = (await ann("GET", path)).json()
    assert [message["content"] for message in page["data"]] == ["y", "x"]


async def test_a_token_chooses_no_id_unless_a_setting_allows() -> None:
    wire = Wire(jwt_issuers=(ISSUER,))
    ann = Caller(wire.service, None, token(wire.clock()), {})
    assert (await ann("POST", S, {"id": "mine"})).code == "access_denied"
    session_id = await ann.new_session()
    assert (await ann("POST", f"{S}/{session_id}/fork", {"id": "f"})).code == "access_denied"
    ann.service = wire.another(jwt_issuers=(ISSUER,), client_ids=True)
    assert (await ann("POST", S, {"id": "mine"})).status == 201


async def test_users_of_two_issuers_are_told_apart_by_a_prefix() -> None:
    fields = {name: getattr(ISSUER, name) for name in Issuer.__struct_fields__}
    other = Issuer(**{**fields, "issuer": "https://two.test"})
    with pytest.raises(ConfigurationError):
        ServiceSettings(jwt_issuers=(ISSUER, other))
    prefixed = Issuer(**{**fields, "issuer": "https://two.test", "user_prefix": "two:"})
    longer = Issuer(**{**fields, "issuer": "https://three.test", "user_prefix": "two:three:"})
    apart = Issuer(
        **{**fields, "issuer": "https://x.test", "user_prefix": "x:", "namespaces": ("x",)}
    )
    wire = Wire(jwt_issuers=(ISSUER, prefixed, longer, apart))
    for issuer, subject, user_id in (
        (ISSUER, "ann", "ann"),
        (ISSUER, "two:ann", None),
        (ISSUER, "two:three:ann", None),
        (ISSUER, "x:ann", "x:ann"),
        (prefixed, "ann", "two:ann"),
        (prefixed, "two:ann", "two:two:ann"),
        (prefixed, "three:ann", None),
        (longer, "ann", "two:three:ann"),
    ):
        reply = await asked(wire, token(wire.clock(), iss=issuer.issuer, sub=subject))
        assert reply.json().get("user_id") == user_id, (issuer.issuer, subject)
        assert reply.status == (401 if user_id is None else 200)


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithms": ()},
        {"algorithms": ("none",)},
        {"algorithms": ("HS256", "RS256")},
        {"algorithms": ("RS256",)},
        {"secret": None, "jwks": "x"},
        {"jwks": "x"},
        {"secret": "short"},
        {"namespaces": ()},
        {"namespaces": ("default", "_keys")},
        {"algorithms": ("RS256",), "secret": None, "jwks": "http://issuer.test/jwks"},
        {"algorithms": ("RS256",), "secret": None, "jwks": "ftp://issuer.test/jwks"},
    ],
    ids=str,
)
def test_an_issuer_that_could_be_forged_is_refused(fields: dict[str, Any]) -> None:
    given = {name: getattr(ISSUER, name) for name in Issuer.__struct_fields__}
    with pytest.raises(ConfigurationError):
        Issuer(**{**given, **fields})


def test_issuers_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "issuer": "i",
        "audience": "a",
        "algorithms": ["HS256"],
        "namespaces": ["n"],
        "secret": SECRET,
    }
    monkeypatch.setenv("SESSION_SERVICE_JWT_ISSUERS", json.dumps([given]))
    monkeypatch.setenv("SESSION_SERVICE_JWT_ROLES", "user, tool")
    monkeypatch.setenv("SESSION_SERVICE_PORT", "9000")
    settings = ServiceSettings.load()
    assert settings.jwt_issuers[0].issuer == "i"
    assert (settings.jwt_roles, settings.port) == (("user", "tool"), 9000)
    secret = SECRET + " # not a comment"
    for tail in ("", "  # a comment"):
        text = json.dumps([{**given, "secret": SECRET if tail else secret}]) + tail
        monkeypatch.setenv("SESSION_SERVICE_JWT_ISSUERS", text)
        found = ServiceSettings.load().jwt_issuers[0].secret
        assert found == (SECRET if tail else secret)
    monkeypatch.setenv("SESSION_SERVICE_JWT_ISSUERS", json.dumps([{**given, "secret": "x"}]))
    with pytest.raises(ConfigurationError):
        ServiceSettings.load()


def test_times_are_whole_numbers_too_and_bounded() -> None:
    assert ServiceSettings(requests_per_second=0, drain_seconds=0).body_timeout == 20
    for wrong in ({"workers": 0}, {"drain_seconds": -1}, {"body_timeout": float("inf")}):
        with pytest.raises(ConfigurationError):
            ServiceSettings.load(**wrong)


async def test_forged_tokens_are_bounded_and_lock_no_valid_one_out() -> None:
    wire = Wire(jwt_issuers=(ISSUER,), failed_logins_per_minute=2)
    forged = token(wire.clock(), aud="other")
    assert [(await asked(wire, forged)).status for _ in range(3)] == [401, 401, 429]
    assert (await asked(wire, token(wire.clock()))).status == 200
