"""The responses to refused and failed requests in the description, one for each status."""

from __future__ import annotations

from typing import Any

from agent_cores.session.service.document.examples import EXAMPLES
from agent_cores.session.wire.errors import ERRORS, ErrorRow


def errors_of(status: int) -> list[ErrorRow]:
    """Return the errors of a status."""
    return [row for row in ERRORS.values() if row.status == status]


def problem_responses() -> dict[str, Any]:
    """Return a response for each status of an error, with an example for each code."""
    return {
        problem_name(status): {
            "description": "\n\n".join(
                f"`{row.code}`: {_plain(row.cause)}" for row in errors_of(status)
            ),
            "content": {
                "application/problem+json": {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "examples": {row.code: {"value": _example(row)} for row in errors_of(status)},
                }
            },
        }
        for status in sorted({row.status for row in ERRORS.values()})
    }


def problem_name(status: int) -> str:
    """Return the name of the response of a status."""
    return f"Problem{status}"


def _example(row: ErrorRow) -> dict[str, Any]:
    if row.code == EXAMPLES["Problem"]["code"]:
        return EXAMPLES["Problem"]
    return {
        "type": f"urn:agent-sessions:error:{row.code}",
        "title": row.title,
        "status": row.status,
        "code": row.code,
        "detail": row.detail or _plain(row.cause),
    }


def _plain(text: str) -> str:
    return text.replace("``", "`")
