"""``Authentication``: turns the headers of a request into a ``Principal``.

Nothing else says who is calling: the namespace, user, groups and rights all come from the
credential, or from the headers that a key with ``act-as`` may send.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from agent_cores.session.errors import (
    AccessDeniedError,
    ConfigurationError,
    InvalidInputError,
    StorageUnavailableError,
    UnauthenticatedError,
)
from agent_cores.session.service.auth.api_keys import split_key
from agent_cores.session.service.auth.principal import Principal
from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from agent_cores.session.inputs import Inputs
    from agent_cores.session.service.auth.api_keys import ApiKey
    from agent_cores.session.service.auth.jwt_issuers import Issuers
    from agent_cores.session.service.auth.key_cache import KeyCache
    from agent_cores.session.service.auth.rate_limits import FailedLogins
    from agent_cores.session.service.headers import Headers

_ENCODED = re.compile(rb"(?:[A-Za-z0-9._~@:|+=!'()*-]|%[0-9A-Fa-f]{2})*")
_TOKEN_RIGHTS = ("read", "write")
_DONE_BY_SOMEBODY = frozenset({"read", "write"})
"""Rights of routes that require a user to act for."""
_MOST_REMEMBERED = 1_000
_LONGEST_REMEMBERED = 1_024
"""Bytes of identifying headers up to which the caller is cached; longer ones are parsed again."""
_UNKNOWN = "the credential is missing, wrong, expired or revoked"

_Place = tuple[str, bytes, bytes | None, bytes | None, bytes | None]
"""The right that a route requires, and the headers that identify the caller."""


class Authentication:
    """Checks credentials."""

    def __init__(
        self,
        keys: KeyCache,
        issuers: Issuers | None,
        inputs: Inputs,
        *,
        clock: Callable[[], datetime],
        failures: FailedLogins,
        jwt_roles: tuple[str, ...],
    ) -> None:
        self._keys = keys
        self._issuers = issuers
        self._inputs = inputs
        self._clock = clock
        self._failures = failures
        self._jwt_roles = jwt_roles
        self._remembered: dict[_Place, tuple[ApiKey, Principal]] = {}

    async def principal(
        self, headers: Headers, address: str, *, right: str, tell: Callable[[str], None]
    ) -> Principal:
        """Return who is calling a route that requires a right.

        ``tell`` gets the key or issuer as soon as the credential is verified, whatever follows.
        Raises ``UnauthenticatedError``, then ``AccessDeniedError`` for a missing right or for
        headers that the credential may not send, then a refusal of malformed headers.
        """
        credential = _bearer(headers)
        if credential is None:
            raise UnauthenticatedError(_UNKNOWN)
        key_parts = split_key(credential)
        if key_parts is not None and not self._keys.knows(key_parts[0]):
            self._failures.check(address)
        try:
            if key_parts is not None:
                return await self._by_key(*key_parts, headers, right, tell)
            return await self._by_token(credential, headers, right, tell)
        except UnauthenticatedError:
            self._failures.check(address)
            self._failures.count(address)
            raise

    async def confirm(self, known: Principal, headers: Headers, address: str, right: str) -> None:
        """Check again, after a wait, that the credential still gives the same access.

        Raises what :meth:`principal` raises, and ``UnauthenticatedError`` for a key that by now
        acts for somebody else.
        """
        again = self.recall(headers, right)
        if again is None:
            again = await self.principal(headers, address, right=right, tell=lambda _: None)
        if again != known:
            raise UnauthenticatedError(_UNKNOWN)

    def recall(self, headers: Headers, right: str) -> Principal | None:
        """Return the earlier caller with these headers, if the key has not been read again since.

        ``None``: use :meth:`principal`. A key is read again every few seconds.
        """
        place = _place(headers, right)
        known = None if place is None else self._remembered.get(place)
        if known is None:
            return None
        key, principal = known
        if self._keys.at_hand(key.id) is not key:
            return None
        if key.expires_at is not None and key.is_expired(self._clock()):
            return None
        self._keys.note_use(key, self._clock)
        return principal

    def _remember(self, headers: Headers, right: str, key: ApiKey, principal: Principal) -> None:
        place = _place(headers, right)
        if place is None:
            return
        self._remembered.pop(place, None)
        self._remembered[place] = key, principal
        if len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    async def _by_key(
        self, key_id: str, secret: str, headers: Headers, right: str, tell: Callable[[str], None]
    ) -> Principal:
        try:
            key = self._keys.at_hand(key_id) or await self._keys.get(key_id)
        except ConfigurationError as error:
            raise StorageUnavailableError(str(error)) from error
        if key is None or not key.opens(secret) or key.is_expired(self._clock()):
            raise UnauthenticatedError(_UNKNOWN)
        tell(key.id)
        self._keys.note_use(key, self._clock)
        _check_right(right, key.rights)
        if headers.values(b"x-operator") or right == "operator":
            principal = self._operating(key, headers)
        elif "act-as" in key.rights:
            principal = _principal_of(key, *self._acted(key, headers))
            if principal.user_id is None and right in _DONE_BY_SOMEBODY:
                raise Refusal("malformed_request", "X-User-Id is missing")
        else:
            _refuse_acting(headers)
            principal = _principal_of(key, key.user_id, ())
            if principal.user_id is None and right in _DONE_BY_SOMEBODY:
                raise Refusal("malformed_request", "X-Operator is missing")
        self._remember(headers, right, key, principal)
        return principal

    async def _by_token(
        self, token: str, headers: Headers, right: str, tell: Callable[[str], None]
    ) -> Principal:
        if self._issuers is None:
            raise UnauthenticatedError("no issuer of tokens is known")
        claims = await self._issuers.check(token)
        tell(claims.issuer)
        try:
            user_id = self._inputs.user_id(claims.user_id)
            groups = self._inputs.groups(claims.groups, "groups")
        except InvalidInputError as error:
            raise UnauthenticatedError(
                f"the token names a user or groups out of bounds: {error.problem}"
            ) from error
        _check_right(right, _TOKEN_RIGHTS)
        _refuse_acting(headers)
        return Principal(
            namespace=claims.namespace,
            user_id=user_id,
            groups=groups,
            rights=_TOKEN_RIGHTS,
            source=claims.issuer,
            roles=self._jwt_roles,
            until=claims.expires_at,
        )

    def _operating(self, key: ApiKey, headers: Headers) -> Principal:
        """Return an operator, who acts in the name of a user, or in its own."""
        if "operator" not in key.rights:
            raise AccessDeniedError("X-Operator requires the `operator` right")
        if headers.values(b"x-user-groups"):
            raise Refusal("malformed_request", "X-User-Groups cannot be sent with X-Operator")
        given, user = _single(headers, b"x-operator"), _single(headers, b"x-user-id")
        name = key.id if given is None else _decoded(given, "X-Operator")
        try:
            self._inputs.user_id(name)
            user_id = name if user is None else _decoded(user, "X-User-Id")
            self._inputs.user_id(user_id)
        except InvalidInputError as error:
            raise Refusal(
                "malformed_request", f"X-Operator or X-User-Id: {error.problem}"
            ) from error
        return _principal_of(key, user_id, (), name)

    def _acted(self, key: ApiKey, headers: Headers) -> tuple[str | None, tuple[str, ...]]:
        """Return the user and the groups that a key acts for."""
        user, listed = _single(headers, b"x-user-id"), _single(headers, b"x-user-groups")
        user_id = None if user is None else _decoded(user, "X-User-Id")
        groups: tuple[str, ...] = ()
        try:
            if user_id is not None:
                self._inputs.user_id(user_id)
            if listed:
                self._inputs.group_count(listed.count(b",") + 1, "X-User-Groups")
                names = [part.strip(b" \t") for part in listed.split(b",")]
                decoded = [_decoded(name, "X-User-Groups") for name in names]
                groups = self._inputs.groups(decoded, "X-User-Groups")
        except InvalidInputError as error:
            raise Refusal(
                "malformed_request", f"X-User-Id or X-User-Groups: {error.problem}"
            ) from error
        if user_id is not None and not user_id.startswith(key.user_prefix):
            raise AccessDeniedError("this key may not act as that user")
        if key.groups is not None and not set(groups) <= set(key.groups):
            raise AccessDeniedError("this key may not act for that group")
        return user_id, groups


def _place(headers: Headers, right: str) -> _Place | None:
    """Return a cache key for the caller, without the secret that they sent."""
    sent = headers.plain
    credential = None if sent is None else sent.get(b"authorization")
    if sent is None or credential is None:
        return None
    user, groups = sent.get(b"x-user-id"), sent.get(b"x-user-groups")
    operator = sent.get(b"x-operator")
    if len(user or b"") + len(groups or b"") + len(operator or b"") > _LONGEST_REMEMBERED:
        return None
    return right, sha256(credential).digest(), user, groups, operator


def _principal_of(
    key: ApiKey, user_id: str | None, groups: tuple[str, ...], operator: str | None = None
) -> Principal:
    return Principal(
        namespace=key.namespace,
        user_id=user_id,
        groups=groups,
        rights=key.rights,
        source=key.id,
        key_id=key.id,
        until=key.expires_at,
        operator=operator,
    )


def _bearer(headers: Headers) -> str | None:
    given = headers.values(b"authorization")
    if len(given) != 1:
        return None
    scheme, _, credential = given[0].partition(b" ")
    if scheme.lower() != b"bearer" or not credential.isascii():
        return None
    return credential.strip().decode("ascii") or None


def user_header(headers: Headers, name: bytes) -> str | None:
    """Return the user id in a header, decoded but not checked further; ``None`` without one."""
    given = _single(headers, name)
    return None if given is None else _decoded(given, name.decode().title())


def _single(headers: Headers, name: bytes) -> bytes | None:
    given = headers.values(name)
    if len(given) > 1:
        raise Refusal("malformed_request", f"{name.decode()} is given twice")
    return given[0] if given else None


def _decoded(value: bytes, header: str) -> str:
    if _ENCODED.fullmatch(value) is None:
        raise Refusal("malformed_request", f"{header} is percent-encoded UTF-8")
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise Refusal("malformed_request", f"{header} is percent-encoded UTF-8") from error


def _check_right(right: str, rights: tuple[str, ...]) -> None:
    if right != "any" and right not in rights:
        raise AccessDeniedError(f"this requires the `{right}` right")


def _refuse_acting(headers: Headers) -> None:
    if headers.values(b"x-user-id") or headers.values(b"x-user-groups"):
        raise AccessDeniedError("this credential may not send X-User-Id or X-User-Groups")
    if headers.values(b"x-operator"):
        raise AccessDeniedError("X-Operator requires a key with the `operator` right")
