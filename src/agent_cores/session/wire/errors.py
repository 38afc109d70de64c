"""The table of errors: code, HTTP status, title, and the exception that a client raises.

Clients decide by the code, never by the status.
"""

from __future__ import annotations

import inspect
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
    ``cause`` and ``cure`` are for readers of the description.
    """

    code: str
    status: int
    error_of: Callable[[Problem], _Error] | None = None
    detail: str = ""
    retry_after: int | None = None
    cause: str = ""
    cure: str = ""

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


def cause_and_cure(kind: type[_Error]) -> tuple[str, str]:
    """Return what a class of error means and what to do about it, from its docstring."""
    cause, *further = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    cure = next((part for part in further if part.startswith("Cure: ")), "")
    return " ".join(cause.split()), " ".join(cure.removeprefix("Cure: ").split())


def _of(
    kind: type[_Error],
    error_of: Callable[[Problem], _Error] | None,
    *,
    detail: str = "",
    retry_after: int | None = None,
) -> ErrorRow:
    """Return the row of an error of the library, which knows its code, status, cause and cure."""
    cause, cure = cause_and_cure(kind)
    return ErrorRow(
        code=kind.code,
        status=kind.http_status,
        error_of=error_of,
        detail=detail,
        retry_after=retry_after,
        cause=cause,
        cure=cure,
    )


ERRORS = {
    row.code: row
    for row in (
        ErrorRow(
            code="malformed_request",
            status=400,
            error_of=_invalid_request,
            cause="The request cannot be read: its JSON, a header or a parameter.",
            cure="correct what ``detail`` names.",
        ),
        _of(errors.UnauthenticatedError, _worded(errors.UnauthenticatedError)),
        _of(errors.AccessDeniedError, _worded(errors.AccessDeniedError)),
        _of(
            errors.QuotaExceededError,
            _worded(errors.QuotaExceededError),
            detail="the store is full, or holds as much as it may",
        ),
        _of(errors.SessionNotFoundError, _fixed(errors.SessionNotFoundError)),
        _of(
            errors.MessageNotFoundError,
            lambda _: errors.MessageNotFoundError(0),
            detail="no such message",
        ),
        ErrorRow(
            code="not_found",
            status=404,
            cause="There is no such path.",
            cure="compare the path with the routes, and with the prefix of a proxy.",
        ),
        ErrorRow(
            code="method_not_allowed",
            status=405,
            cause="The path has no such method.",
            cure="use one that the header ``Allow`` names.",
        ),
        ErrorRow(
            code="not_acceptable",
            status=406,
            cause="``Accept`` excludes what the route returns.",
            cure="accept ``application/json``.",
        ),
        _of(errors.SessionExistsError, _fixed(errors.SessionExistsError)),
        _of(errors.ConflictError, _worded(errors.ConflictError)),
        _of(errors.LastSeqMismatchError, _mismatch(errors.LastSeqMismatchError)),
        _of(errors.SessionArchivedError, _fixed(errors.SessionArchivedError)),
        _of(errors.TurnHeldError, _turn_held),
        _of(errors.TurnLostError, _fixed(errors.TurnLostError)),
        _of(errors.SessionExpiredError, _fixed(errors.SessionExpiredError)),
        _of(errors.RevisionMismatchError, _mismatch(errors.RevisionMismatchError)),
        ErrorRow(
            code="payload_too_large",
            status=413,
            error_of=_invalid_request,
            cause="The body is larger than its route allows.",
            cure="send less at a time; the bounds are settings.",
        ),
        ErrorRow(
            code="uri_too_long",
            status=414,
            error_of=_invalid_request,
            cause="Path and query are longer than ``SESSION_SERVICE_MAX_URL_BYTES``.",
            cure="send fewer parameters.",
        ),
        ErrorRow(
            code="unsupported_media_type",
            status=415,
            cause="The body is not plain JSON in UTF-8.",
            cure="send ``Content-Type: application/json``, without ``Content-Encoding``.",
        ),
        _of(errors.InvalidInputError, _invalid_input),
        ErrorRow(
            code="idempotency_mismatch",
            status=422,
            error_of=_worded(errors.ConflictError),
            cause="The ``Idempotency-Key`` was used for another request.",
            cure="use a new key for each request, and repeat a request as it was.",
        ),
        ErrorRow(
            code="rate_limited",
            status=429,
            error_of=_worded(errors.OverloadedError),
            retry_after=1,
            cause="A caller, or an address that fails to log in, exceeds its limit.",
            cure="wait as long as ``Retry-After`` says; the audit log shows failed logins.",
        ),
        ErrorRow(
            code="headers_too_large",
            status=431,
            error_of=_invalid_request,
            cause="The headers are more, or larger, than allowed.",
            cure="send fewer; the bounds are settings.",
        ),
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
        _of(
            errors.StoreFormatError,
            _worded(errors.StoreFormatError),
            detail="the store is damaged, or not one that this service can use",
            retry_after=2,
        ),
        _of(errors.SessionMovedError, _fixed(errors.SessionMovedError), retry_after=1),
    )
}
"""Every code; ``not_found`` is for a path that does not exist."""
