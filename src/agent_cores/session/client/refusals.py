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


class _Problem(msgspec.Struct):
    code: str = ""
    detail: str = ""
    errors: list[_Field] = []
    values: dict[str, Any] = {}


def error_of(status: int, body: bytes) -> errors.SessionError:
    """Return the error that a refusal stands for; what is no problem of ours is unavailability."""
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except msgspec.MsgspecError:
        problem = _Problem()
    code, detail, values = problem.code, problem.detail, problem.values
    if code in _BARE:
        return _BARE[code]()
    if code in _PLAIN:
        return _PLAIN[code](detail)
    if code == errors.InvalidInputError.code:
        first = problem.errors[0] if problem.errors else _Field("", detail)
        return errors.InvalidInputError(_path(first.field), first.message)
    if code == errors.MessageNotFoundError.code:
        return errors.MessageNotFoundError(0)
    if code == errors.CorruptRecordError.code:
        return errors.CorruptRecordError("", "", detail)
    return _with_values(status, code, detail, values)


def _path(pointer: str) -> str:
    """Return a JSON Pointer as the manager names a field; the whole body is the request."""
    return pointer.removeprefix("/").replace("~1", "/").replace("~0", "~") or "request"


def _with_values(
    status: int, code: str, detail: str, values: dict[str, Any]
) -> errors.SessionError:
    if code == errors.RevisionMismatchError.code:
        return errors.RevisionMismatchError(values.get("expected", 0), values.get("actual", 0))
    if code == errors.LastSeqMismatchError.code:
        return errors.LastSeqMismatchError(values.get("expected", 0), values.get("actual", 0))
    if code == errors.TurnHeldError.code:
        end = values.get("expires_at")
        return errors.TurnHeldError(
            datetime.now(UTC) if end is None else datetime.fromisoformat(end)
        )
    if code == errors.StorageUnavailableError.code:
        unknown = bool(values.get("outcome_unknown", True))
        return errors.StorageUnavailableError(detail, outcome_unknown=unknown)
    if code in {"malformed_request", "payload_too_large", "headers_too_large"}:
        return errors.InvalidInputError("request", detail)
    if code or status < _SERVER_ERROR:
        return errors.SessionError(f"the session service answered {status} {code}: {detail}")
    return errors.StorageUnavailableError(
        f"the session service answered {status}", outcome_unknown=True
    )
