"""``Route`` and ``Router``: the table of routes, and how a path finds its route.

Paths are split before they are decoded, so that an id with an encoded slash remains one id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.service.problems import Refusal
from agent_cores.session.service.responses import Response

if TYPE_CHECKING:
    from starlette.types import Scope

Handler = Callable[[Any], Awaitable[Response]]
"""Takes the ``Call`` of a request; routes lie below calls, so the type is not named here."""


class Route(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One row of the table of routes.

    ``right`` is what the key requires: ``read``, ``write``, ``admin``, ``operator``, ``any`` for
    any credential, or ``open`` for no credential. ``action`` is the least that the route does with
    the session in its path; only callers who may do that learn that a request's shape is wrong.
    ``role`` says the same in words, for the documentation. ``creates``: the session may be
    missing if the body has ``create``. ``query`` maps parameters to ``integer``, ``few``
    (1 to 100), ``flag``, ``text``, ``texts``, ``includes``, ``status``, ``order``, ``time`` or
    ``object`` (JSON). ``names`` maps the manager's argument names to those of the HTTP interface.
    """

    method: str
    path: str
    handler: Handler
    right: str
    summary: str
    role: str = ""
    action: Action | None = None
    request: type | None = None
    query: Mapping[str, str] = {}
    responses: Mapping[int, Any] = {}
    names: Mapping[str, str] = {}
    if_match: bool = False
    idempotent: bool = False
    creates: bool = False

    @property
    def name(self) -> str:
        """The method and the path template, which logs and derived ids use."""
        return f"{self.method} {self.path}"


class _Node:
    """One step of a path."""

    __slots__ = ("children", "parameter", "routes")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        self.routes: dict[str, Route] = {}


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._root = _Node()
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for part in route.path.strip("/").split("/"):
            if part.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(part, _Node())
        node.routes[route.method] = route

    def find(self, scope: Scope) -> tuple[Route, list[str]]:
        """Return the route and the decoded path parameters; refuse with 404 or 405."""
        node = self._root
        parameters: list[str] = []
        for part in relative_path(scope)[1:].split("/"):
            child = node.children.get(part)
            if child is None:
                child = node.parameter
                if child is None or not part:
                    raise Refusal("not_found", "no such path")
                decoded = unquote(part, errors="surrogateescape") if "%" in part else part
                parameters.append(decoded)
            node = child
        if not node.routes:
            raise Refusal("not_found", "no such path")
        method = scope["method"]
        route = node.routes.get("GET" if method == "HEAD" else method)
        if route is None:
            served = {*node.routes, *(["HEAD"] if "GET" in node.routes else ())}
            allowed = ", ".join(sorted(served))
            raise Refusal("method_not_allowed", f"allowed: {allowed}", headers={"Allow": allowed})
        return route, parameters


def relative_path(scope: Scope) -> str:
    """Return the path below the mount point, still encoded."""
    root = scope.get("root_path", "")
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"], safe="/%:@!$&'()*+,;=~")
    if not root:
        return path
    for prefix in (root, quote(root)):
        if path.startswith(prefix + "/") or path == prefix:
            return path[len(prefix) :] or "/"
    return path
