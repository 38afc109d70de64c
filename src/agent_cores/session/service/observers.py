"""What metrics and traces are told of each request, so that the service need not know of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from agent_cores.session.service.routing import Route

Respond = Callable[["Scope", "Receive", "Send"], Awaitable[None]]
"""Responds to one request."""
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
