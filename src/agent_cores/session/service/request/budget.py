"""``Budget``: bounds the bytes of bodies and responses that a process holds, over all callers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping
    from typing import Any

FREE = 65_536
"""The first bytes of each body and response do not count, so that small requests are served while
large ones exhaust the budget. The number of connections bounds these bytes.
"""


class Budget:
    """Counts bytes, up to ``most``."""

    __slots__ = ("_most", "held")

    def __init__(self, most: int) -> None:
        self._most = most
        self.held: int = 0

    def share(self) -> Share:
        """Return an empty share for one body or response."""
        return Share(self)

    def has_room(self, size: int) -> bool:
        """Whether the budget has room for a body or response of ``size`` bytes."""
        return size <= FREE or self.held + size - FREE <= self._most


class Share:
    """The part of a budget that one body or response holds."""

    __slots__ = ("_budget", "_counted", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0
        self._counted = 0

    def take(self, size: int) -> bool:
        """Hold ``size`` more bytes if there is room; return whether there was."""
        total = self._size + size
        if total <= FREE:
            self._size = total
            return True
        more = total - FREE - self._counted
        budget = self._budget
        if budget.held + more > budget._most:  # noqa: SLF001 - same module
            return False
        self._size = total
        self._counted += more
        budget.held += more
        return True

    def force(self, size: int) -> None:
        """Hold ``size`` more bytes even without room, to respond to a completed write."""
        self._size += size
        more = max(0, self._size - FREE) - self._counted
        self._counted += more
        self._budget.held += more

    def give_back(self) -> None:
        """Release everything."""
        self._budget.held -= self._counted
        self._counted = self._size = 0


def too_much() -> Refusal:
    """Return the refusal of a body or response that does not fit."""
    return Refusal(
        "overloaded",
        "the service holds too many bytes of other requests and responses",
        headers={"Connection": "close"},
    )


def counted(
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]], share: Share
) -> Callable[[], Awaitable[MutableMapping[str, Any]]]:
    """Return an ASGI ``receive`` that counts bytes, for servers that do not count them."""

    async def receive_counted() -> MutableMapping[str, Any]:
        message = await receive()
        if not share.take(len(message.get("body", b""))):
            raise too_much()
        return message

    return receive_counted
