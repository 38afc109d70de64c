"""Managers and clients that any event loop and thread may call: the effect of ``any_loop=True``.

The verbs are those of the manager's class. Called in the manager's own loop they run directly;
called elsewhere they run in that loop while the caller awaits them: see
:mod:`agent_cores.session.portal`.
"""

# ruff: noqa: ANN401 - the verbs' own types

from __future__ import annotations

import inspect
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from agent_cores.session.errors import ConfigurationError
from agent_cores.session.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    Verb = Callable[..., Coroutine[Any, Any, Any]]
    BlockVerb = Callable[..., AbstractAsyncContextManager[Any]]


T = TypeVar("T")
R = TypeVar("R", bound="Shared")


class Shared(Protocol):
    """What a manager or a client shares with its views; it counts its users."""

    async def acquire(self) -> None:
        """Count one more user; the first one starts it."""

    async def release(self) -> None:
        """Count one user less; the last one stops it."""


class AnyLoop:
    """What such a manager and its views have beyond their own class."""

    _home: Home[Any]

    @property
    def _runtime(self) -> Any:
        return self._home.runtime

    @property
    def is_over(self) -> bool:
        """Whether this was shut down and not called since."""
        return self._home.portal.is_over

    async def initialize(self) -> None:
        """Connect to the storage and start sweeping. Calls are counted; see ``shutdown()``."""
        await self._home.portal.await_initialize()

    async def shutdown(self) -> None:
        """Finish accepted work and close, once for every ``initialize()``.

        The last call also ends the thread; if a hook makes it, the thread ends after the hook's
        verb.
        """
        await self._home.portal.await_shutdown()


class Home(Generic[R]):
    """What a manager and its views share: the thread, and the runtime that works in it.

    ``renewed`` returns the runtime of a child process, which shares no connections with the one
    that it is given.
    """

    def __init__(self, runtime: R, renewed: Callable[[R], R]) -> None:
        self.runtime: R = runtime
        self._renewed = renewed
        self.portal: Portal = Portal(self, after_fork=self._renew)

    async def initialize(self) -> None:
        """Start the runtime."""
        await self.runtime.acquire()

    async def shutdown(self) -> None:
        """Stop the runtime."""
        await self.runtime.release()

    def _renew(self) -> None:
        self.runtime = self._renewed(self.runtime)


def use_from_any_loop(manager: object, attribute: str, renewed: Callable[[R], R]) -> None:
    """Make a newly constructed manager callable from anywhere; see :class:`Home`.

    ``attribute`` is the one that holds its runtime.
    """
    members = vars(manager)
    members["_home"] = Home(members.pop(attribute), renewed)
    manager.__class__ = _any_loop_class(cast("Any", type(manager)))


def portal_of(manager: object) -> Portal:
    """Return a manager's portal; ``ConfigurationError`` if it belongs to one event loop."""
    if not isinstance(manager, AnyLoop):
        detail = "this takes a manager made with any_loop=True; another belongs to one event loop"
        raise ConfigurationError(detail)
    return manager._home.portal  # noqa: SLF001 - see above


def run_near(manager: object, function: Callable[[], Coroutine[Any, Any, T]]) -> Awaitable[T]:
    """Run a function of several verbs where the manager works, so that it goes there only once."""
    if not isinstance(manager, AnyLoop) or manager._home.portal.is_here:  # noqa: SLF001 - see above
        return function()
    return manager._home.portal.await_call(function)  # noqa: SLF001


def class_as_of(manager: object, kind: type[T]) -> type[T]:
    """Return the class of a view of that kind, callable from wherever the manager is."""
    made: type[T] = _any_loop_class(cast("Any", kind)) if isinstance(manager, AnyLoop) else kind
    return made


@cache
def _any_loop_class(kind: Any) -> type[Any]:
    """Return a subclass whose verbs always run in the manager's own loop."""
    base: type[AnyLoop] = kind._from_any_loop  # noqa: SLF001 - what its views have in addition
    members: dict[str, Any] = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") or hasattr(base, name):
            continue
        if inspect.iscoroutinefunction(member):
            members[name] = _from_anywhere(member)
        elif inspect.isasyncgenfunction(inspect.unwrap(member)):
            members[name] = _block_from_anywhere(member)
    return type(kind.__name__, (base, kind), members)


def _from_anywhere(verb: Verb) -> Verb:
    @wraps(verb)
    async def call(self: AnyLoop, *args: Any, **kwargs: Any) -> Any:
        portal = self._home.portal
        if portal.is_here:
            return await verb(self, *args, **kwargs)
        return await portal.await_call(partial(verb, self, *args, **kwargs))

    return call


def _block_from_anywhere(block: BlockVerb) -> BlockVerb:
    @wraps(block)
    def hold(self: AnyLoop, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any]:
        portal = self._home.portal
        if portal.is_here:
            return block(self, *args, **kwargs)
        return portal.hold_for_task(partial(block, self, *args, **kwargs))

    return hold
