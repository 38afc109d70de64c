"""``Budget``: how many bytes of bodies and answers a process holds at a time, over all callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

FREE = 65_536
"""The first bytes of each body and answer that do not count, so that small requests are taken
while large ones use the budget up. The number of connections bounds them."""


class Budget:
    """Counts bytes, up to ``most``."""

    __slots__ = ("_most", "held")

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def share(self) -> Share:
        """Return the part of one body or answer; it has nothing yet."""
        return Share(self)

    def has_room(self, size: int) -> bool:
        """Whether a body or answer of so many bytes may be held."""
        return size <= FREE or self.held + size - FREE <= self._most


class Share:
    """What one body or answer holds of a budget."""

    __slots__ = ("_budget", "_counted", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._counted = 0

    def take(self, size: int) -> bool:
        """Hold so many bytes more, if there is room for them."""
        total = self._size + size
        if total <= FREE:
            self._size = total
            return True
        more = total - FREE - self._counted
        budget = self._budget
        if budget.held + more > budget._most:  # noqa: SLF001 - of this module
            return False
        self._size = total
        self._counted += more
        budget.held += more
        return True

    def force(self, size: int) -> None:
        """Hold so many bytes more, even without room: an answer to what has been carried out."""
        self._size += size
        more = max(0, self._size - FREE) - self._counted
        self._counted += more
        self._budget.held += more

    def give_back(self) -> None:
        """Hold nothing any more."""
        self._budget.held -= self._counted
        self._counted = self._size = 0


def too_much() -> Refusal:
    """Return the refusal of a body or answer for which there is no room."""
    return Refusal(
        "overloaded",
        "too much is under way with other requests",
        headers={"Connection": "close"},
    )


def counted(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]], share: Share
) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
    """Return a ``receive`` of ASGI that counts what comes, for servers that do not."""

    async def receive_counted() -> MutableMapping[str, Any]:
        message = await receive()
        if not share.take(len(message.get("body", b""))):
            raise too_much()
        return message

    return receive_counted
