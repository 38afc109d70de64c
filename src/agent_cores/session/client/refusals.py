"""From the problems that the service answers with to the errors of the library, by ``code``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from agent_cores.session import errors

_PLAIN: dict[str, type[errors.SessionError]] = {
    "access_denied": errors.AccessDeniedError,
    "conflict": errors.ConflictError,
    "idempotency_mismatch": errors.ConflictError,
    "overloaded": errors.OverloadedError,
    "quota_exceeded": errors.QuotaExceededError,
    "rate_limited": errors.OverloadedError,
    "unauthenticated": errors.UnauthenticatedError,
    "unsupported": errors.UnsupportedError,
}
_BARE: dict[str, type[errors.SessionError]] = {
    kind.code: kind
    for kind in (
        errors.GroupsUnavailableError,
        errors.SessionArchivedError,
        errors.SessionExistsError,
        errors.SessionExpiredError,
        errors.SessionMovedError,
        errors.SessionNotFoundError,
        errors.TurnLostError,
    )
}
_SERVER_ERROR = 500


class _Field(msgspec.Struct):
    field: str = ""
    message: str = ""


class Problem(msgspec.Struct):
    """What a refusal says; without a ``code`` it is not the service's own."""

    code: str = ""
    detail: str = ""
    errors: list[_Field] = []
    values: dict[str, Any] = {}


def read_problem(body: bytes) -> Problem:
    """Return the problem that a body holds, or an empty one."""
    try:
        return msgspec.json.decode(body, type=Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Problem()


_OF_THE_REQUEST = {"malformed_request", "payload_too_large", "uri_too_long", "headers_too_large"}


def error_of(method: str, status: int, problem: Problem) -> errors.SessionError:
    """Return the error that a refusal stands for; what is no problem of ours is unavailability."""
    code, detail = problem.code, problem.detail
    if code in _BARE:
        return _BARE[code]()
    if code in _PLAIN:
        return _PLAIN[code](detail)
    if code == errors.InvalidInputError.code:
        first = problem.errors[0] if problem.errors else _Field("", detail)
        return errors.InvalidInputError(_path(first.field), first.message)
    if code in _OF_THE_REQUEST:
        return errors.InvalidInputError("request", detail)
    if code == errors.MessageNotFoundError.code:
        return errors.MessageNotFoundError(0)
    if code == errors.CorruptRecordError.code:
        return errors.CorruptRecordError("", "", detail)
    if code == errors.StorageUnavailableError.code:
        unknown = method != "GET" and bool(problem.values.get("outcome_unknown", True))
        return errors.StorageUnavailableError(detail, outcome_unknown=unknown)
    return _with_values(code, problem.values) or _foreign(method, status, problem)


def _path(pointer: str) -> str:
    """Return a JSON Pointer as the manager names a field; the whole body is the request."""
    return pointer.removeprefix("/").replace("~1", "/").replace("~0", "~") or "request"


def _with_values(code: str, values: dict[str, Any]) -> errors.SessionError | None:
    if code == errors.RevisionMismatchError.code:
        return errors.RevisionMismatchError(values.get("expected", 0), values.get("actual", 0))
    if code == errors.LastSeqMismatchError.code:
        return errors.LastSeqMismatchError(values.get("expected", 0), values.get("actual", 0))
    if code == errors.TurnHeldError.code:
        return errors.TurnHeldError(_instant(values.get("expires_at")))
    return None


def _foreign(method: str, status: int, problem: Problem) -> errors.SessionError:
    """Return the error for a code that is not known here, or for what is not of the service."""
    if problem.code:
        return errors.SessionError(
            f"the session service answered {status} {problem.code}: {problem.detail}"
        )
    if status < _SERVER_ERROR:
        return errors.SessionError(
            f"what answered {status} is not the session service; check base_url and proxies"
        )
    return errors.StorageUnavailableError(
        f"the session service answered {status}", outcome_unknown=method != "GET"
    )


def _instant(text: object) -> datetime:
    """Return the time that a refusal tells; one that cannot be read is now."""
    try:
        instant = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.now(UTC)
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
