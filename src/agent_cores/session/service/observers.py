"""What the service reports of each request, to metrics and traces of which it knows nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPMethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from agent_cores.session.service.routing import Route

Respond = Callable[["Scope", "Receive", "Send"], Awaitable[None]]
"""Responds to one request."""
OTHER_METHOD = "_OTHER"
"""What OpenTelemetry's conventions for HTTP call every method that they do not know."""
_METHODS = frozenset(method.value for method in HTTPMethod)
_FAILED = 500


class Answered(NamedTuple):
    """A request whose response was sent; ``code`` is that of the error, if it was refused."""

    scope: Scope
    route: Route | None
    status: int
    code: str | None
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether the service failed, rather than refused the request."""
        return self.status >= _FAILED


Observer = Callable[[Answered], None]
"""Called after each response; must be quick and must not raise."""


def method_of(scope: Scope) -> str:
    """Return the method of a request, or ``OTHER_METHOD``: callers cannot make up more of them."""
    method: str = scope["method"]
    return method if method in _METHODS else OTHER_METHOD
