"""Turn an error into the problem that a response carries (RFC 9457).

A body says what was wrong with the request. It never repeats an id, the path or anything stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType

from agent_cores.session.errors import InvalidInputError, SessionError, TurnHeldError
from agent_cores.session.wire.errors import ERRORS, values_of
from agent_cores.session.wire.shapes import FieldProblem, Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_KEYED = frozenset({"context", "context_updates"})
"""Fields whose children are keys chosen by the caller, which may contain anything."""


def token(name: str) -> str:
    """Return a name as a step of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def pointer_of(error: InvalidInputError) -> str:
    """Return the JSON Pointer of an argument of a verb."""
    first, slash, rest = error.field.partition("/")
    if first in _KEYED:
        rest = token(rest)
    return f"/{first}{slash}{rest}"


def problem_of(
    error: Exception,
    at: datetime,
    *,
    code: str = "",
    pointer: Callable[[InvalidInputError], str] = pointer_of,
) -> tuple[int, dict[str, str], Problem]:
    """Return the status, headers and body of the response that reports an error.

    ``code`` is that of a refusal which is no error of the library. ``pointer`` returns the JSON
    Pointer of an invalid field, empty for the whole body.
    """
    if not code:
        code = error.code if isinstance(error, SessionError) else "internal"
    row = ERRORS.get(code) or ERRORS["internal"]
    wait = row.retry_after
    if isinstance(error, TurnHeldError):
        wait = max(1, math.ceil((error.expires_at - at).total_seconds()))
    headers = {} if wait is None else {"Retry-After": str(wait)}
    if row.code == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    fields: list[FieldProblem] | UnsetType = UNSET
    detail = row.detail or str(error)
    if isinstance(error, InvalidInputError):
        field = pointer(error)
        fields = [FieldProblem(field, error.problem)]
        detail = f"{field}: {error.problem}" if field else error.problem
    body = Problem(
        type=f"urn:agent-sessions:error:{row.code}",
        title=row.title,
        status=row.status,
        code=row.code,
        detail=detail,
        errors=fields,
        values=values_of(error) or UNSET,
    )
    return row.status, headers, body
