"""``SessionManager``: the verbs on the sessions of one namespace in one storage.

The verbs are defined in :mod:`agent_cores.session.verbs`, one module per topic. Each reads, decides
and applies through :mod:`agent_cores.session.engine`. Users import the class from
:mod:`agent_cores.session.session_manager`.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import msgspec

from agent_cores.session.any_loop import AnyLoop, class_as_of, use_from_any_loop
from agent_cores.session.decision import Scope
from agent_cores.session.errors import UnsupportedError, WrongContextError
from agent_cores.session.inputs import checked_namespace
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.models.times import utc_now, whole_millis
from agent_cores.session.runtime import Runtime
from agent_cores.session.settings import SessionSettings, source_of
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.verbs.audit import audited
from agent_cores.session.verbs.operators import OperatorVerbs
from agent_cores.session.verbs.session_verbs import SessionVerbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from types import TracebackType

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager

M = TypeVar("M", bound="SessionManager")
Storage = str | type[StorageProvider] | StorageProvider


class SessionManager(SessionVerbs):
    """Sessions of one namespace in one storage.

    ``storage`` is a name, a URL, a provider class or an instance. The default is
    ``SESSION_STORAGE_URL``, else ``REDIS_URL``, else embedded SQLite. ``options`` go to the
    provider. ``clock`` returns aware UTC datetimes. ``groups_of(user_id)`` returns a user's groups
    as bare names; it may be async.

    A manager belongs to one event loop. It starts with the first verb, with ``initialize()`` or
    with ``async with``, and stops with the ``shutdown()`` that matches the last ``initialize()``.

    With ``any_loop=True`` it may be called from any event loop and thread, and after a fork. It
    then works in its own loop, in a thread that runs until the manager stops or the program ends.
    Hooks and ``groups_of`` run there. A call from another loop takes about 0.1 ms longer.
    """

    _from_any_loop: ClassVar[type[AnyLoop]] = AnyLoop

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        settings: SessionSettings | None = None,
        clock: Callable[[], datetime] = utc_now,
        groups_of: GroupsOf | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        any_loop: bool = False,
        **options: Any,  # noqa: ANN401 - checked by the provider
    ) -> None:
        settings = settings or SessionSettings.load()
        new_runtime = partial(_new_runtime, storage, settings, clock, options)
        super().__init__(
            new_runtime(),
            Scope(checked_namespace(namespace), groups_of, settings.max_groups, settings.timeout),
        )
        if any_loop:
            use_from_any_loop(self, "_runtime", partial(_renewed, new_runtime))

    @property
    def namespace(self) -> str:
        """The namespace of this manager or view."""
        return self._scope.namespace

    @property
    def lifecycle(self) -> LifecycleManager:
        """The hooks: ``manager.lifecycle.on("session.created", handler)``. Views share them."""
        return self._runtime.lifecycle

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> SessionManager:
        """Return a view of another namespace that shares storage and hooks.

        It is cheap enough to make one per request.
        """
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        scope = self._scope
        groups_of = groups_of or scope.groups_of
        view._scope = msgspec.structs.replace(
            scope, namespace=checked_namespace(name), groups_of=groups_of
        )
        return view

    def as_operator(self, name: str) -> SessionOperator:
        """Return a view for the program itself: adapters, support, a console.

        It has the owner's rights in every session of the namespace. ``name`` is who operates, as
        the audit log (``agent_cores.session.audit``) has it, one line a call.
        """
        view: SessionOperator = object.__new__(class_as_of(self, SessionOperator))
        view.__dict__.update(self.__dict__)
        name = self._inputs.user_id(name, "name")
        view.__dict__["_scope"] = msgspec.structs.replace(self._scope, operator=name)
        return view

    @property
    def is_over(self) -> bool:
        """Whether this was shut down, its event loop is closed, or another process started it."""
        return self._runtime.is_over

    async def initialize(self) -> None:
        """Connect to the storage and start sweeping. Calls are counted; see ``shutdown()``."""
        await self._runtime.acquire()

    async def shutdown(self) -> None:
        """Finish accepted work and close what was opened, once for every ``initialize()``."""
        await self._runtime.release()

    def lifespan(self, app: object = None) -> AbstractAsyncContextManager[dict[str, Self]]:
        """Start and stop with a Starlette or FastAPI application.

        ``FastAPI(lifespan=manager.lifespan)``; a request then has it as ``request.state.sessions``.
        """
        del app  # the application, which is not needed
        return _running(self)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()


@audited
class SessionOperator(OperatorVerbs, SessionManager):
    """A view of a manager for the program itself, made by ``manager.as_operator(name)``.

    It has the verbs of ``SessionManager`` and the owner's rights in every session of the namespace.
    ``user_id`` says in whose name it acts: the author of messages, the owner of what it creates.
    Each call is one line in the log ``agent_cores.session.audit``.
    """

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> SessionManager:
        """Raise ``UnsupportedError`` for another namespace: an operator belongs to one."""
        if name != self.namespace:
            detail = "an operator works in one namespace; make another from a manager of that one"
            raise UnsupportedError(detail)
        return super().for_namespace(name, groups_of=groups_of)


@asynccontextmanager
async def _running(manager: M) -> AsyncIterator[dict[str, M]]:
    async with manager:
        yield {"sessions": manager}


def _new_runtime(
    storage: Storage | None,
    settings: SessionSettings,
    clock: Callable[[], datetime],
    options: Mapping[str, Any],
) -> Runtime:
    chosen, reason = choose_storage(storage, settings)
    provider = StorageFactory.create(chosen, settings=settings, **options)
    return Runtime(provider, settings, _in_millis(clock), reason)


def _renewed(new_runtime: Callable[[], Runtime], before: Runtime) -> Runtime:
    """Return a runtime for a child process, with the same hooks and no shared connections."""
    runtime = new_runtime()
    if runtime.storage is before.storage:
        detail = (
            "this manager was given a provider, which another process has opened; after a fork"
            " make a new one, or give the storage as a URL or a class"
        )
        raise WrongContextError(detail)
    runtime.lifecycle.share_hooks(before.lifecycle)
    return runtime


def choose_storage(storage: Storage | None, settings: SessionSettings) -> tuple[Storage, str]:
    """Return the storage to use, and the reason for the log."""
    reason = "given as argument"
    if storage is None and settings.storage_url:
        storage = settings.storage_url
        reason = f"by {source_of('SESSION_STORAGE_URL', storage)}"
    if storage == "redis" and settings.redis_url:
        url = settings.redis_url
        return url, f"storage 'redis', at {source_of('REDIS_URL', url)}"
    if storage is not None:
        return storage, reason
    if settings.redis_url:
        return settings.redis_url, f"by {source_of('REDIS_URL', settings.redis_url)}"
    return "sqlite", "the default; set SESSION_STORAGE_URL or REDIS_URL for another"


def _in_millis(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """Return the clock truncated to milliseconds, which is what stores keep."""
    return clock if clock is utc_now else lambda: whole_millis(clock())
