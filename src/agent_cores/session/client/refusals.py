"""Turn the service's problems into the errors of the library."""

from __future__ import annotations

import msgspec

from agent_cores.session import errors
from agent_cores.session.wire.errors import ERRORS
from agent_cores.session.wire.shapes import Problem

_SERVER_ERROR = 500
_decode_problem = msgspec.json.Decoder(Problem).decode


def read_problem(body: bytes) -> Problem | None:
    """Return the problem in a body; ``None`` if the response does not come from the service."""
    try:
        return _decode_problem(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def error_of(method: str, status: int, problem: Problem | None) -> errors.SessionError:
    """Return the error to raise; a response from elsewhere means an unavailable service."""
    if problem is not None:
        row = ERRORS.get(problem.code)
        if row is not None and row.error_of is not None:
            return _without_outcome(row.error_of(problem), method)
        return errors.SessionError(
            f"the session service responded with {status} {problem.code}: {problem.detail}"
        )
    if status < _SERVER_ERROR:
        return errors.SessionError(
            f"the response {status} is not the session service's; check base_url and proxies"
        )
    return errors.StorageUnavailableError(
        f"the session service responded with {status}", outcome_unknown=method != "GET"
    )


def _without_outcome(error: errors.SessionError, method: str) -> errors.SessionError:
    """Return the error without an unknown outcome, since the request wrote nothing."""
    if method == "GET" and isinstance(error, errors.StorageUnavailableError):
        return errors.StorageUnavailableError(str(error))
    return error
