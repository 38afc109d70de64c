"""The table of errors: code, HTTP status, title, and the exception that a client raises.

Clients decide by the code, never by the status.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from agent_cores.session import errors
from agent_cores.session.wire.conversion import time_of, wire_time
from agent_cores.session.wire.shapes import FieldProblem, Problem

_Error = errors.SessionError


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    ``error_of`` makes the client's exception from a problem; ``None`` if the library has no class
    for it. ``detail``, if set, replaces the error's own message, which is only for the log.
    ``retry_after`` is the number of seconds to wait before a retry, if the error itself has none.
    """

    code: str
    status: int
    error_of: Callable[[Problem], _Error] | None = None
    detail: str = ""
    retry_after: int | None = None

    @property
    def title(self) -> str:
        """The code in words."""
        return self.code.replace("_", " ").capitalize()


def values_of(error: Exception) -> dict[str, Any]:
    """Return a problem's further fields, from which a client can rebuild the error."""
    if isinstance(error, errors.RevisionMismatchError | errors.LastSeqMismatchError):
        return {"expected": error.expected, "actual": error.actual}
    if isinstance(error, errors.TurnHeldError):
        return {"expires_at": wire_time(error.expires_at)}
    if isinstance(error, errors.StorageUnavailableError):
        return {"outcome_unknown": error.outcome_unknown}
    return {}


def _values(problem: Problem) -> dict[str, Any]:
    return {} if problem.values is UNSET else problem.values


def _fixed(kind: Callable[[], _Error]) -> Callable[[Problem], _Error]:
    """Return a factory for an error whose message is always the same."""
    return lambda _: kind()


def _worded(kind: Callable[[str], _Error]) -> Callable[[Problem], _Error]:
    """Return a factory for an error whose message is the problem's detail."""
    return lambda problem: kind(problem.detail)


def _mismatch(kind: Callable[[Any, Any], _Error]) -> Callable[[Problem], _Error]:
    def make(problem: Problem) -> _Error:
        values = _values(problem)
        return kind(values.get("expected", 0), values.get("actual", 0))

    return make


def _invalid_request(problem: Problem) -> _Error:
    return errors.InvalidInputError("request", problem.detail)


def _invalid_input(problem: Problem) -> _Error:
    found = None if problem.errors is UNSET else problem.errors
    first = found[0] if found else FieldProblem("", problem.detail)
    return errors.InvalidInputError(_path(first.field), first.message)


def _path(pointer: str) -> str:
    """Return a JSON Pointer as the manager's name of a field; the whole body is the request."""
    return pointer.removeprefix("/").replace("~1", "/").replace("~0", "~") or "request"


def _turn_held(problem: Problem) -> _Error:
    try:
        expires_at = time_of(str(_values(problem).get("expires_at")))
    except ValueError:
        expires_at = datetime.now(UTC)
    return errors.TurnHeldError(expires_at)


def _storage_unavailable(problem: Problem) -> _Error:
    unknown = bool(_values(problem).get("outcome_unknown", True))
    return errors.StorageUnavailableError(problem.detail, outcome_unknown=unknown)


def _row(
    code: str,
    status: int,
    error_of: Callable[[Problem], _Error] | None = None,
    *,
    detail: str = "",
    retry_after: int | None = None,
) -> ErrorRow:
    return ErrorRow(
        code=code, status=status, error_of=error_of, detail=detail, retry_after=retry_after
    )


def _of(
    kind: type[_Error],
    error_of: Callable[[Problem], _Error] | None,
    *,
    detail: str = "",
    retry_after: int | None = None,
) -> ErrorRow:
    """Return the row of an error of the library, which knows its code and status."""
    return _row(kind.code, kind.http_status, error_of, detail=detail, retry_after=retry_after)


ERRORS = {
    row.code: row
    for row in (
        _row("malformed_request", 400, _invalid_request),
        _of(errors.UnauthenticatedError, _worded(errors.UnauthenticatedError)),
        _of(errors.AccessDeniedError, _worded(errors.AccessDeniedError)),
        _of(errors.QuotaExceededError, _worded(errors.QuotaExceededError)),
        _of(errors.SessionNotFoundError, _fixed(errors.SessionNotFoundError)),
        _of(
            errors.MessageNotFoundError,
            lambda _: errors.MessageNotFoundError(0),
            detail="no such message",
        ),
        _row("not_found", 404),
        _row("method_not_allowed", 405),
        _row("not_acceptable", 406),
        _of(errors.SessionExistsError, _fixed(errors.SessionExistsError)),
        _of(errors.ConflictError, _worded(errors.ConflictError)),
        _of(errors.LastSeqMismatchError, _mismatch(errors.LastSeqMismatchError)),
        _of(errors.SessionArchivedError, _fixed(errors.SessionArchivedError)),
        _of(errors.TurnHeldError, _turn_held),
        _of(errors.TurnLostError, _fixed(errors.TurnLostError)),
        _of(errors.SessionExpiredError, _fixed(errors.SessionExpiredError)),
        _of(errors.RevisionMismatchError, _mismatch(errors.RevisionMismatchError)),
        _row("payload_too_large", 413, _invalid_request),
        _row("uri_too_long", 414, _invalid_request),
        _row("unsupported_media_type", 415),
        _of(errors.InvalidInputError, _invalid_input),
        _row("idempotency_mismatch", 422, _worded(errors.ConflictError)),
        _row("rate_limited", 429, _worded(errors.OverloadedError), retry_after=1),
        _row("headers_too_large", 431, _invalid_request),
        _of(
            errors.SessionError,
            None,
            detail="something went wrong; the log of the service has this request's id",
        ),
        _of(
            errors.CorruptRecordError,
            lambda problem: errors.CorruptRecordError("", "", problem.detail),
            detail="a stored record cannot be read",
        ),
        _of(errors.UnsupportedError, _worded(errors.UnsupportedError)),
        _of(errors.GroupsUnavailableError, _fixed(errors.GroupsUnavailableError), retry_after=1),
        _of(errors.OverloadedError, _worded(errors.OverloadedError), retry_after=1),
        _of(
            errors.StorageUnavailableError,
            _storage_unavailable,
            detail="the store, or where keys are kept, did not answer",
            retry_after=2,
        ),
        _of(errors.SessionMovedError, _fixed(errors.SessionMovedError), retry_after=1),
    )
}
"""Every code; ``not_found`` is for a path that does not exist."""
