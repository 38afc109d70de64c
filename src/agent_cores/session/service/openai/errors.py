"""Errors of the routes below ``/v1/conversations``, in OpenAI's shape.

The codes are those of all other routes. The statuses are those that OpenAI's clients know: input
that breaks a bound is 400, and a conversation that has expired is 404.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import StorageUnavailableError
from agent_cores.session.service.problems import problem_of
from agent_cores.session.service.responses import Response
from agent_cores.session.wire.openai import OpenAIError, OpenAIErrorDetail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent_cores.session.wire.shapes import Problem

PATH = "/v1/conversations"
STATUS = {"invalid_input": 400, "idempotency_mismatch": 409, "session_expired": 404}
"""The status of a code where it is not that of the other routes."""
_BAD_REQUEST, _FORBIDDEN, _CONFLICT, _TOO_MANY, _SERVER = 400, 403, 409, 429, 500
_encode = msgspec.json.Encoder().encode


def is_conversation_path(path: str) -> bool:
    """Whether a path, as far as it is known, is one of OpenAI's interface."""
    return path == PATH or path.startswith(PATH + "/")


def error_response(
    error: Exception, names: Mapping[str, str], at: datetime, *, repeatable: bool
) -> Response:
    """Return the response that reports an error.

    ``repeatable``: the request may be sent again without a second effect. Otherwise a client that
    retries by itself is told not to, if the first attempt may have been carried out.
    """
    status, headers, problem = problem_of(error, names, at)
    status = STATUS.get(problem.code, status)
    if status == _CONFLICT or not (repeatable or _wrote_nothing(error, problem.code)):
        headers["X-Should-Retry"] = "false"
    extra = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    detail = OpenAIErrorDetail(
        message=problem.detail,
        type=_type(status),
        param=_param(problem),
        code=problem.code,
    )
    return Response(status, _encode(OpenAIError(error=detail)), extra)


def _wrote_nothing(error: Exception, code: str) -> bool:
    if isinstance(error, StorageUnavailableError):
        return not error.outcome_unknown
    return code != "internal"


def _type(status: int) -> str:
    """Return the type that OpenAI gives to errors of a status."""
    if status >= _SERVER:
        return "server_error"
    if status == _FORBIDDEN:
        return "permission_error"
    return "rate_limit_error" if status == _TOO_MANY else "invalid_request_error"


def _param(problem: Problem) -> str | None:
    """Return the field in question as OpenAI names it, such as ``items[0].role``."""
    if isinstance(problem.errors, msgspec.UnsetType) or not problem.errors[0].field:
        return None
    first, *rest = (
        step.replace("~1", "/").replace("~0", "~")
        for step in problem.errors[0].field.removeprefix("/").split("/")
    )
    return first + "".join(f"[{step}]" if step.isdecimal() else f".{step}" for step in rest)
