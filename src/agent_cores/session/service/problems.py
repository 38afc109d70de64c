"""Turn an error into the problem that a response carries (RFC 9457).

A body says what was wrong with the request. It never repeats an id, the path or anything stored.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import InvalidInputError, SessionError, TurnHeldError
from agent_cores.session.wire.errors import ERRORS, values_of
from agent_cores.session.wire.shapes import FieldProblem, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

_KEYED = frozenset({"context", "context_updates"})
"""Fields whose children are keys chosen by the caller, which may contain anything."""


class Refusal(Exception):  # noqa: N818 - a response, which only the service raises
    """A refusal that is not an error of the library: of HTTP, its limits or its preconditions."""

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
    """The body or query has the wrong shape; found before access was decided.

    ``field`` is a JSON Pointer without its first slash, with the field names of the HTTP interface.
    """


def problem_of(
    error: Exception, names: Mapping[str, str], at: datetime
) -> tuple[int, dict[str, str], Problem]:
    """Return the status, headers and body of a refusal.

    ``names`` maps the manager's argument names to those of the HTTP interface.
    """
    code = error.code if isinstance(error, SessionError | Refusal) else "internal"
    row = ERRORS.get(code) or ERRORS["internal"]
    headers = dict(error.headers) if isinstance(error, Refusal) else {}
    wait = (error.wait if isinstance(error, Refusal) else None) or row.retry_after
    if isinstance(error, TurnHeldError):
        wait = max(1, math.ceil((error.expires_at - at).total_seconds()))
    if wait is not None:
        headers["Retry-After"] = str(wait)
    if row.code == "unauthenticated":
        headers["WWW-Authenticate"] = "Bearer"
    fields: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET
    detail = row.detail or str(error)
    if isinstance(error, InvalidInputError):
        field = _pointer(error, names)
        fields = [FieldProblem(field, error.problem)]
        detail = f"{field}: {error.problem}" if field else error.problem
    body = Problem(
        type=f"urn:agent-sessions:error:{row.code}",
        title=row.title,
        status=row.status,
        code=row.code,
        detail=detail,
        errors=fields,
        values=values_of(error) or msgspec.UNSET,
    )
    return row.status, headers, body


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
