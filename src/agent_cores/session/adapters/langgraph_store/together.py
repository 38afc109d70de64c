"""Calls that are made at the same moment, as one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from agent_cores.session.errors import OverloadedError, StorageUnavailableError

P = ParamSpec("P")
V = TypeVar("V")
R = TypeVar("R")
Many = Callable[[list[V]], Awaitable[Sequence[R]]]
"""Does several calls as one, and returns their results in order."""


async def all_of(calls: Iterable[Coroutine[Any, Any, R]]) -> list[R]:
    """Return the results of concurrent calls once all have ended, or raise the first error."""
    waiting = list(calls)
    if len(waiting) <= 1:  # the usual case needs no task of its own
        return [await call for call in waiting]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


class Limit:
    """At most so many calls at a time in each event loop; more might be too many for the store."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )

    async def call(
        self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Return what a call returns, once there is room for it."""
        loop = asyncio.get_running_loop()
        semaphore = self._semaphores.get(loop)
        if semaphore is None:
            semaphore = self._semaphores[loop] = asyncio.Semaphore(self._most)
        async with semaphore:
            return await function(*args, **kwargs)


class Together(Generic[V, R]):
    """Joins the calls of tasks that run in the same iteration of an event loop.

    A call that is alone runs in its own task. Joined ones end together; if they fail, each is
    repeated by itself, so that what is wrong with one fails no other.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[asyncio.AbstractEventLoop, Hashable], _Group[V, R]] = {}

    async def call(self, key: Hashable, name: Hashable, value: V, run: Many[V, R]) -> R:
        """Return the result of a call, done by ``run`` with others of the same key.

        A second call of one name is done after the first, not with it.
        """
        place = asyncio.get_running_loop(), key
        before = self._open.get(place)
        if before is not None and before.add(name, value):
            return await before.outcome(name)
        group = _Group(run, before)
        group.add(name, value)
        self._open[place] = group
        try:
            await asyncio.sleep(0)  # the other tasks join in
        except asyncio.CancelledError:
            group.leave(name)
            raise
        finally:
            if self._open.get(place) is group:
                del self._open[place]
            is_alone = group.close()
        return await (group.run_alone(value) if is_alone else group.outcome(name))


class _Group(Generic[V, R]):
    """Calls that are done together, after those of another group."""

    def __init__(self, run: Many[V, R], before: _Group[V, R] | None) -> None:
        self._run = run
        self.ended: asyncio.Event = asyncio.Event()
        self._before: asyncio.Event | None = None if before is None else before.ended
        self._values: dict[Hashable, V] = {}
        self._futures: dict[Hashable, asyncio.Future[R]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, name: Hashable, value: V) -> bool:
        """Add a call; return whether there was none of that name."""
        if name in self._values:
            return False
        self._values[name] = value
        self._futures[name] = asyncio.get_running_loop().create_future()
        return True

    def leave(self, name: Hashable) -> None:
        """Forget a call whose task was cancelled; what nobody waits for any more is cancelled."""
        self._futures.pop(name, None)
        if self._task is None:
            self._values.pop(name, None)
        elif not self._futures:
            self._task.cancel()

    def close(self) -> bool:
        """Begin the calls, unless there is only one, and return whether that is so."""
        if len(self._values) > 1:
            self._task = asyncio.ensure_future(self._run_all())
        elif not self._values:
            self.ended.set()
        return len(self._values) == 1

    async def run_alone(self, value: V) -> R:
        """Do the only call."""
        try:
            await self._wait()
            [result] = await self._run([value])
            return result
        finally:
            self.ended.set()

    async def outcome(self, name: Hashable) -> R:
        """Wait for the result of a call."""
        try:
            return await self._futures[name]
        except asyncio.CancelledError:
            self.leave(name)
            raise

    async def _wait(self) -> None:
        if self._before is not None:
            await self._before.wait()

    async def _run_all(self) -> None:
        try:
            await self._wait()
            names, values = list(self._values), list(self._values.values())
            for name, outcome in zip(names, await self._outcomes(values), strict=True):
                self._settle(name, outcome)
        finally:
            self.ended.set()
            for future in self._futures.values():
                future.cancel()  # without effect on those that are done

    async def _outcomes(self, values: list[V]) -> Sequence[R | BaseException]:
        try:
            return await self._run(values)
        except (OverloadedError, StorageUnavailableError) as error:
            return [error] * len(values)
        except Exception:  # noqa: BLE001 - raised in the tasks whose calls fail again
            return await asyncio.gather(*map(self._one, values), return_exceptions=True)

    async def _one(self, value: V) -> R:
        [result] = await self._run([value])
        return result

    def _settle(self, name: Hashable, outcome: R | BaseException) -> None:
        future = self._futures.get(name)
        if future is None or future.done():
            return
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
