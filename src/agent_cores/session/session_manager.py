"""``SessionManager``, the one entrance, and ``get_session_manager``, the process-wide way to one.

The verbs stand in :mod:`agent_cores.session.verbs`, one module a topic. Each reads, decides and
applies through :mod:`agent_cores.session.engine`.
"""

from __future__ import annotations

import importlib
import os
import threading
from typing import TYPE_CHECKING, Any, Self, overload

import msgspec

from agent_cores.session.decision import Scope
from agent_cores.session.errors import ConfigurationError, MissingDependencyError
from agent_cores.session.inputs import checked_namespace
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.models.times import utc_now, whole_millis
from agent_cores.session.runtime import Runtime
from agent_cores.session.settings import SessionSettings, source_of
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.verbs.conversations import ConversationVerbs
from agent_cores.session.verbs.forking import ForkVerbs
from agent_cores.session.verbs.messages import MessageVerbs
from agent_cores.session.verbs.sharing import SharingVerbs
from agent_cores.session.verbs.tail import TailVerbs
from agent_cores.session.verbs.turns import TurnVerbs
from agent_cores.session.verbs.upkeep import UpkeepVerbs

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from types import TracebackType

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.client.session_client import SessionClient
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager

Storage = str | type[StorageProvider] | StorageProvider


class SessionManager(
    ConversationVerbs, MessageVerbs, TailVerbs, SharingVerbs, TurnVerbs, ForkVerbs, UpkeepVerbs
):
    """Sessions of one namespace in one storage.

    ``storage`` is a name, a URL, a provider class or an instance; left out,
    ``SESSION_STORAGE_URL``, ``REDIS_URL`` or embedded SQLite is used, in that order. ``options``
    go to the provider. ``clock`` gives aware UTC datetimes. ``groups_of(user_id)`` gives a user's
    groups, bare names, async or not.

    A manager belongs to one event loop. It starts with the first verb, with ``initialize()`` or
    with ``async with``, and stops with the ``shutdown()`` that matches the last ``initialize()``.
    """

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        settings: SessionSettings | None = None,
        clock: Callable[[], datetime] = utc_now,
        groups_of: GroupsOf | None = None,
        namespace: str = DEFAULT_NAMESPACE,
        **options: Any,  # noqa: ANN401 - checked by the provider
    ) -> None:
        settings = settings or SessionSettings.load()
        chosen, reason = _choose(storage, settings)
        provider = StorageFactory.create(chosen, settings=settings, **options)
        self._runtime = Runtime(provider, settings, _in_millis(clock), reason)
        self._scope = Scope(
            checked_namespace(namespace), groups_of, settings.max_groups, settings.timeout
        )

    @property
    def namespace(self) -> str:
        """The namespace that this manager, or view, works in."""
        return self._scope.namespace

    @property
    def lifecycle(self) -> LifecycleManager:
        """Hooks: ``manager.lifecycle.on("session.created", handler)``. Views share them."""
        return self._runtime.lifecycle

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> SessionManager:
        """Return a view of another namespace that shares storage and hooks.

        Cheap: one a request.
        """
        view = object.__new__(type(self))
        view._runtime = self._runtime
        scope = self._scope
        groups_of = groups_of or scope.groups_of
        view._scope = msgspec.structs.replace(
            scope, namespace=checked_namespace(name), groups_of=groups_of
        )
        return view

    @property
    def _is_over(self) -> bool:
        return self._runtime.is_over

    async def initialize(self) -> None:
        """Connect to the storage and start sweeping. May be called again, and counts."""
        await self._runtime.acquire()

    async def shutdown(self) -> None:
        """Finish what was accepted and close what was opened, once for every ``initialize()``."""
        await self._runtime.release()

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


_managers: list[tuple[tuple[Any, ...], SessionManager]] = []
_lock = threading.Lock()


def _unlock() -> None:
    """Forget a lock that another thread held while this process was forked."""
    global _lock  # noqa: PLW0603 - there is one list
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@overload
def get_session_manager(
    storage_type: str | None = None,
    *,
    api_key: str,
    storage: str | None = None,
    settings: SessionSettings | None = None,
    groups_of: GroupsOf | None = None,
    timeout: float = ...,
    retries: int = ...,
    pool_size: int = ...,
    ssl_context: ssl.SSLContext | None = None,
    proxy: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> SessionClient: ...


@overload
def get_session_manager(
    storage_type: Storage | None = None,
    *,
    storage: Storage | None = None,
    settings: SessionSettings | None = None,
    **options: Any,  # noqa: ANN401 - the manager's, see there
) -> SessionManager: ...


def get_session_manager(
    storage_type: Storage | None = None,
    *,
    storage: Storage | None = None,
    settings: SessionSettings | None = None,
    **options: Any,
) -> SessionManager:
    """Return the process's manager for these arguments: equal arguments, the same manager.

    It lasts until its last ``shutdown()``, or until its event loop is closed. A forked process gets
    one of its own. ``storage`` is
    another name for ``storage_type``; ``options`` are those of :class:`SessionManager`. An address
    that begins with ``https://``, given or set, is a ``SessionClient``'s, with ``options`` of its
    own: ``api_key`` and others.
    """
    if storage_type is not None and storage is not None:
        detail = "storage_type and storage are two names for one thing; give one"
        raise ConfigurationError(detail)
    chosen = storage if storage_type is None else storage_type
    settings = settings or SessionSettings.load()
    arguments = (chosen, settings, options)
    with _lock:
        _managers[:] = [entry for entry in _managers if not entry[1]._is_over]  # noqa: SLF001
        for known, manager in _managers:
            if known == arguments:
                return manager
        manager = _made(chosen, settings, options)
        _managers.append((arguments, manager))
        return manager


def _made(
    chosen: Storage | None, settings: SessionSettings, options: dict[str, Any]
) -> SessionManager:
    """Make a manager, or the client of a service, which lies in a layer above."""
    storage, _ = _choose(chosen, settings)
    if not isinstance(storage, str) or not storage.lower().startswith(("https://", "http://")):
        return SessionManager(chosen, settings=settings, **options)
    try:
        client = importlib.import_module("agent_cores.session.client")
    except ImportError as error:
        raise MissingDependencyError("aiohttp", "client") from error
    try:
        made: SessionManager = client.SessionClient(storage, **options)
    except TypeError as error:
        detail = f"SessionClient: {error}"
        raise ConfigurationError(detail) from error
    return made


def _choose(storage: Storage | None, settings: SessionSettings) -> tuple[Storage, str]:
    """Return the storage to use, and why, for the log."""
    reason = "given as argument"
    if storage is None and settings.storage_url:
        storage = settings.storage_url
        reason = f"by {source_of('SESSION_STORAGE_URL', storage)}"
    if storage == "redis" and settings.redis_url:
        return settings.redis_url, f"storage 'redis', at {_redis_url(settings.redis_url)}"
    if storage is not None:
        return storage, reason
    if settings.redis_url:
        return settings.redis_url, f"by {source_of('REDIS_URL', settings.redis_url)}"
    return "sqlite", "the default; set SESSION_STORAGE_URL or REDIS_URL for another"


def _redis_url(url: str) -> str:
    return source_of("REDIS_URL", url)


def _in_millis(clock: Callable[[], datetime]) -> Callable[[], datetime]:
    """Return the clock cut to milliseconds, which is what stores keep."""
    return clock if clock is utc_now else lambda: whole_millis(clock())
