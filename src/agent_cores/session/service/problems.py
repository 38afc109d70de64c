"""The refusals that only the service raises, and the problem of any error, with its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.wire import problems

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from agent_cores.session.wire.shapes import Problem


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
        self.headers: dict[str, str] = dict(headers or {})


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
    if isinstance(error, Refusal):
        status, headers, body = problems.problem_of(error, at, code=error.code)
        if error.wait:
            headers["Retry-After"] = str(error.wait)
        return status, {**error.headers, **headers}, body
    return problems.problem_of(error, at, pointer=lambda invalid: _pointer(invalid, names))


def _pointer(error: InvalidInputError, names: Mapping[str, str]) -> str:
    """Return the JSON Pointer of a field; that of the whole body is empty."""
    if isinstance(error, ShapeError):
        return error.field and f"/{error.field}"
    _, first, *rest = problems.pointer_of(error).split("/")
    return "/".join(("", names.get(first, first), *rest))
