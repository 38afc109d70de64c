"""``Held``: what one request counts for, from its first check until its answer is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.service.request.budget import FREE, too_much

if TYPE_CHECKING:
    from agent_cores.session.service.answering import Answer
    from agent_cores.session.service.auth.principal import Principal
    from agent_cores.session.service.request.budget import Budget, Share
    from agent_cores.session.service.workings import Workings


class Held:
    """A place among the requests of its caller, one among those at work, and shares of the budget.

    A caller who does not read the answer counts as long as the service has to keep it.
    """

    __slots__ = ("_is_at_work", "_place", "_shares", "_workings")

    def __init__(self, workings: Workings) -> None:
        self._workings = workings
        self._place: tuple[str, str | None] | None = None
        self._is_at_work = False
        self._shares: list[Share] = []

    def body(self, budget: Budget) -> Share:
        """Return what the body is counted with, where the server does not count it."""
        share = budget.share()
        self._shares.append(share)
        return share

    def caller(self, principal: Principal) -> None:
        """Count as a request of that caller; refuses one too many."""
        self._place = self._workings.callers.enter(principal)

    def work(self) -> None:
        """Count as a request at work; refuses one too many."""
        self._workings.in_flight.enter()
        self._is_at_work = True

    def answer(self, budget: Budget, answer: Answer, method: str) -> Answer:
        """Count the answer; refuses one for which there is no room, unless it tells of a write."""
        size = len(answer.body)
        if size > FREE:
            if method in {"GET", "HEAD"} and not budget.has_room(size):
                raise too_much()
            share = budget.share()
            share.force(size)
            self._shares.append(share)
        return answer

    def leave(self) -> None:
        """Count no more."""
        if self._place is not None:
            self._workings.callers.leave(self._place)
        if self._is_at_work:
            self._workings.in_flight.leave()
        for share in self._shares:
            share.give_back()
