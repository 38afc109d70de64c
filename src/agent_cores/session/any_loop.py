"""Managers that can be called from any event loop and thread: the effect of ``any_loop=True``.

The verbs are those of the manager's class. Called in the manager's own loop they run directly;
called elsewhere they run in that loop while the caller awaits them: see
:mod:`agent_cores.session.portal`.
"""

# ruff: noqa: ANN401 - the verbs' own types

from __future__ import annotations

import inspect
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from agent_cores.session.errors import ConfigurationError, WrongContextError
from agent_cores.session.portal import Portal

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from agent_cores.session.runtime import Runtime

    Verb = Callable[..., Coroutine[Any, Any, Any]]
    BlockVerb = Callable[..., AbstractAsyncContextManager[Any]]


T = TypeVar("T")


class AnyLoop:
    """What such a manager and its views have beyond their own class."""

    _home: Home

    @property
    def _runtime(self) -> Runtime:
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


class Home:
    """What a manager and its views share: the thread, and the runtime that works in it."""

    def __init__(self, runtime: Runtime, make: Callable[[], Runtime]) -> None:
        self.runtime: Runtime = runtime
        self._make = make
        self.portal: Portal = Portal(self, after_fork=self._renew)

    async def initialize(self) -> None:
        """Start the runtime."""
        await self.runtime.acquire()

    async def shutdown(self) -> None:
        """Stop the runtime."""
        await self.runtime.release()

    def _renew(self) -> None:
        """Make a runtime for a child process, with the same hooks and no shared connections."""
        runtime = self._make()
        if runtime.storage is self.runtime.storage:
            detail = (
                "this manager was given a provider, which another process has opened; after a fork"
                " make a new one, or give the storage as a URL or a class"
            )
            raise WrongContextError(detail)
        runtime.lifecycle.share_hooks(self.runtime.lifecycle)
        self.runtime = runtime


def use_from_any_loop(manager: object, make: Callable[[], Runtime]) -> None:
    """Make a newly constructed manager callable from anywhere.

    ``make`` returns a runtime that has not started yet, a new one each time.
    """
    members = vars(manager)
    members["_home"] = Home(members.pop("_runtime"), make)
    kind: Any = type(manager)
    manager.__class__ = _any_loop_class(kind)


def portal_of(manager: object) -> Portal:
    """Return a manager's portal; ``ConfigurationError`` if it belongs to one event loop."""
    if not isinstance(manager, AnyLoop):
        detail = "this takes a manager made with any_loop=True; another belongs to one event loop"
        raise ConfigurationError(detail)
    return manager._home.portal  # noqa: SLF001 - see above


def class_as_of(manager: object, kind: type[T]) -> type[T]:
    """Return the class of a view of that kind, callable from wherever the manager is."""
    made: type[T] = _any_loop_class(cast("Any", kind)) if isinstance(manager, AnyLoop) else kind
    return made


@cache
def _any_loop_class(kind: Any) -> type[Any]:
    """Return a subclass whose verbs always run in the manager's own loop."""
    members: dict[str, Any] = {"__doc__": kind.__doc__, "__module__": kind.__module__}
    for name in dir(kind):
        member = inspect.getattr_static(kind, name)
        if name.startswith("_") or name in vars(AnyLoop):
            continue
        if inspect.iscoroutinefunction(member):
            members[name] = _from_anywhere(member)
        elif inspect.isasyncgenfunction(inspect.unwrap(member)):
            members[name] = _block_from_anywhere(member)
    return type(kind.__name__, (AnyLoop, kind), members)


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
