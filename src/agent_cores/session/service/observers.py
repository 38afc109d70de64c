"""What the service reports of requests, to metrics and traces of which it knows nothing."""

from __future__ import annotations

from collections import defaultdict
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

    @property
    def failed(self) -> bool:
        """Whether the service failed, rather than refused the request."""
        return has_failed(self.status)


def has_failed(status: int) -> bool:
    """Whether a status says that the service failed, rather than refused the request."""
    return status >= _FAILED


Observer = Callable[[Answered], None]
"""Called after each response; must be quick and must not raise."""


Outcome = tuple["Route | None", int, str | None, str, str]
"""Route, status, code of the error, method and scheme of a request whose response was sent."""


class Traffic:
    """Requests, as metrics see them. Every request pays for this, so it is of plain containers.

    ``in_flight`` has the scopes of those being served, each under an object of its own; ``seconds``
    has how long others took, from arrival to the end of the response, since somebody took them.
    """

    __slots__ = ("in_flight", "seconds")

    def __init__(self) -> None:
        self.in_flight: dict[object, Scope] = {}
        self.seconds: defaultdict[Outcome, list[float]] = defaultdict(list)

    def take(self) -> dict[Outcome, list[float]]:
        """Return how long requests took since this was last called."""
        taken, self.seconds = self.seconds, defaultdict(list)
        return taken


def method_of(scope: Scope) -> str:
    """Return the method of a request, or ``OTHER_METHOD``: callers cannot make up more of them."""
    return known_method(scope["method"])


def known_method(method: str) -> str:
    """Return a method, or ``OTHER_METHOD`` for one that the conventions do not know."""
    return method if method in _METHODS else OTHER_METHOD
