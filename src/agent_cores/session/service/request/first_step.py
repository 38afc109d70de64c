"""``FirstStep``: what can be had of an awaitable without waiting.

A body is nearly always there when it is asked for. To bound the time of a wait that does not happen
costs more than to read the body.
"""

from __future__ import annotations

from functools import partial
from types import coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")


class FirstStep(Generic[T]):
    """An awaitable that has gone as far as it goes without waiting.

    ``is_over``: it has ended, with ``value``. If not, await ``rest()``, once, in the same task.
    """

    __slots__ = ("_steps", "_waits_for", "is_over", "value")

    value: T

    def __init__(self, awaitable: Awaitable[T]) -> None:
        self._steps = awaitable.__await__()
        self._waits_for: Any = None
        self.is_over = False
        try:
            self._waits_for = next(self._steps)
        except StopIteration as end:
            self.is_over = True
            self.value = end.value

    @coroutine
    def rest(self) -> Generator[Any, Any, T]:
        """Wait for the end and return the value."""
        steps, waits_for = self._steps, self._waits_for
        go_on: Callable[[], Any]
        while True:
            try:
                came = yield waits_for
            except BaseException as error:  # noqa: BLE001 - it is thrown where the wait is
                go_on = partial(steps.throw, error)
            else:
                go_on = partial(steps.send, came)
            try:
                waits_for = go_on()
            except StopIteration as end:
                value: T = end.value
                return value
