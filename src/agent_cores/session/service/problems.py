"""``Problem``: every refusal on the wire (RFC 9457), and the one table from errors to codes.

A body says what was wrong with the request. It never repeats an id, the path, or anything stored.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import (
    InvalidInputError,
    LastSeqMismatchError,
    RevisionMismatchError,
    SessionError,
    StorageUnavailableError,
    TurnHeldError,
)
from agent_cores.session.service.shapes import FieldProblem, Problem, wire_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

STATUSES: dict[str, int] = {
    "malformed_request": 400,
    "unauthenticated": 401,
    "access_denied": 403,
    "quota_exceeded": 403,
    "session_not_found": 404,
    "message_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "session_exists": 409,
    "conflict": 409,
    "last_seq_mismatch": 409,
    "session_archived": 409,
    "turn_held": 409,
    "turn_lost": 409,
    "session_expired": 410,
    "revision_mismatch": 412,
    "payload_too_large": 413,
    "uri_too_long": 414,
    "unsupported_media_type": 415,
    "invalid_input": 422,
    "idempotency_mismatch": 422,
    "rate_limited": 429,
    "headers_too_large": 431,
    "internal": 500,
    "corrupt_record": 500,
    "unsupported": 501,
    "groups_unavailable": 503,
    "overloaded": 503,
    "storage_unavailable": 503,
    "session_moved": 503,
}
"""Every code and its status; ``not_found`` is a path that does not exist."""

TITLES = {code: code.replace("_", " ").capitalize() for code in STATUSES}
_WAIT = {
    "groups_unavailable": 1,
    "overloaded": 1,
    "rate_limited": 1,
    "storage_unavailable": 2,
    "session_moved": 1,
}
"""Seconds after which trying again is worth it, where the refusal itself does not say."""

_FIXED = {
    "message_not_found": "no such message",
    "internal": "something went wrong; the log of the service has this request's id",
    "corrupt_record": "a stored record cannot be read",
    "storage_unavailable": "the store, or where keys are kept, did not answer",
}
"""Details that are the same each time, where the error's own words are for the log."""

_KEYED = frozenset({"context", "context_updates"})
"""Fields below which stands a key of the caller's, which may hold anything."""


class Refusal(Exception):  # noqa: N818 - an answer, which only the service raises
    """An answer that is no error of the library: of the wire, its limits, its preconditions."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        wait: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.wait = wait
        self.headers = dict(headers or {})


class ShapeError(InvalidInputError):
    """A body or query of another shape than the route takes; found before access was decided.

    ``field`` is a JSON Pointer without its first slash, in the names of the wire.
    """


def problem_of(
    error: Exception, names: Mapping[str, str], at: datetime
) -> tuple[int, dict[str, str], Problem]:
    """Return status, headers and body for a refusal.

    ``names`` maps the manager's names of arguments to those on the wire.
    """
    code = error.code if isinstance(error, SessionError | Refusal) else "internal"
    if code not in STATUSES:
        code = "internal"
    status = STATUSES[code]
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    wait = (error.wait if isinstance(error, Refusal) else None) or _WAIT.get(code)
    if isinstance(error, TurnHeldError):
        wait = max(1, math.ceil((error.expires_at - at).total_seconds()))
    if wait is not None:
        headers["Retry-After"] = str(wait)
    if code == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    fields: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET
    detail = _FIXED.get(code) or str(error)
    if isinstance(error, InvalidInputError):
        field = _pointer(error, names)
        fields = [FieldProblem(field, error.problem)]
        detail = f"{field}: {error.problem}" if field else error.problem
    body = Problem(
        type=f"urn:agent-sessions:error:{code}",
        title=TITLES[code],
        status=status,
        code=code,
        detail=detail,
        errors=fields,
        values=_values(error) or msgspec.UNSET,
    )
    return status, headers, body


def reason(status: int) -> str:
    """Return the standard's words for a status."""
    return HTTPStatus(status).phrase


def token(name: str) -> str:
    """Return a name as a step of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _pointer(error: InvalidInputError, names: Mapping[str, str]) -> str:
    """Return the JSON Pointer of a field; that of the whole body is empty."""
    if isinstance(error, ShapeError):
        return error.field and f"/{error.field}"
    first, slash, rest = error.field.partition("/")
    if first in _KEYED:
        rest = token(rest)
    return f"/{names.get(first, first)}{slash}{rest}"


def _values(error: Exception) -> dict[str, Any]:
    """Return what the refusal tells beside its code, so that a client can raise the same error."""
    if isinstance(error, RevisionMismatchError | LastSeqMismatchError):
        return {"expected": error.expected, "actual": error.actual}
    if isinstance(error, TurnHeldError):
        return {"expires_at": wire_time(error.expires_at)}
    if isinstance(error, StorageUnavailableError):
        return {"outcome_unknown": error.outcome_unknown}
    return {}
