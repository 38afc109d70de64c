"""Errors as the web applications of all frameworks report them."""

from __future__ import annotations

import logging

import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.models.times import utc_now
from agent_cores.session.wire.problems import problem_of

PROBLEM_TYPE = "application/problem+json"
_INTERNAL = 500

logger: logging.Logger = logging.getLogger("agent_cores.session.integrations")


def reported(error: Exception) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and JSON body of the response to an error (RFC 9457).

    Faults of the program itself are logged; the body does not describe them.
    """
    status, headers, problem = problem_of(error, utc_now())
    if status == _INTERNAL:
        logger.error("a request failed", exc_info=error)
    if problem.code == SessionError.code:
        detail = "something went wrong; the log of the application says what"
        problem = msgspec.structs.replace(problem, detail=detail)
    return status, headers, msgspec.json.encode(problem)
