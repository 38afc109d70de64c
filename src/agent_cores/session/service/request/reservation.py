"""``Reservation``: what a request holds until its response is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.service.request.budget import FREE, too_much

if TYPE_CHECKING:
    from starlette.types import Scope

    from agent_cores.session.service.auth.principal import Principal
    from agent_cores.session.service.components import Components
    from agent_cores.session.service.observers import Traffic
    from agent_cores.session.service.request.budget import Budget, Share
    from agent_cores.session.service.responses import Response


class Reservation:
    """Slots in the caller's and the process's limits of requests, and shares of the budget.

    A caller who does not read the response holds them until the service closes the connection. So
    long the request is in flight, for metrics too.
    """

    __slots__ = ("_components", "_is_at_work", "_place", "_shares", "_traffic")

    def __init__(self, components: Components, scope: Scope, traffic: Traffic | None) -> None:
        self._components = components
        self._traffic = traffic
        if traffic is not None:
            traffic.in_flight[self] = scope
        self._place: tuple[str, str | None] | None = None
        self._is_at_work = False
        self._shares: list[Share] = []

    def count_body(self, budget: Budget) -> Share:
        """Return a share that counts the body, for servers that do not count it."""
        share = budget.share()
        self._shares.append(share)
        return share

    def take_caller_slot(self, principal: Principal) -> None:
        """Take one of the caller's slots; refuse the request if none is free."""
        self._place = self._components.callers.enter(principal)

    def take_work_slot(self) -> None:
        """Take one of the slots for requests in flight; refuse the request if none is free."""
        self._components.in_flight.enter()
        self._is_at_work = True

    def count_response(self, budget: Budget, response: Response, method: str) -> Response:
        """Count the response; without room for it, a read is refused and a write still succeeds."""
        size = len(response.body)
        if size > FREE:
            if method in {"GET", "HEAD"} and not budget.has_room(size):
                raise too_much()
            share = budget.share()
            share.force(size)
            self._shares.append(share)
        return response

    def release(self) -> None:
        """Release everything, once."""
        if self._traffic is not None:
            del self._traffic.in_flight[self]
        if self._place is not None:
            self._components.callers.leave(self._place)
        if self._is_at_work:
            self._components.in_flight.leave()
        for share in self._shares:
            share.give_back()
