"""The entry point: ``SessionManager``, and ``get_session_manager``, which shares one per process.

``get_session_manager`` can also return a client of the HTTP service, so this module lies above both
the manager and the client.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, overload

from agent_cores.session.errors import ConfigurationError, MissingDependencyError
from agent_cores.session.manager import SessionManager, Storage, choose_storage
from agent_cores.session.settings import SessionSettings

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from agent_cores.session.access.groups import GroupsOf
    from agent_cores.session.client.session_client import SessionClient

__all__ = ["SessionManager", "Storage", "get_session_manager"]

_managers: list[tuple[tuple[Any, ...], SessionManager]] = []
_lock = threading.Lock()


def _unlock() -> None:
    """Replace the lock in a forked child: a thread of the parent may have held it."""
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
    any_loop: bool = False,
) -> SessionClient: ...


@overload
def get_session_manager(
    storage_type: Storage | None = None,
    *,
    storage: Storage | None = None,
    settings: SessionSettings | None = None,
    **options: Any,  # noqa: ANN401 - the manager's options
) -> SessionManager: ...


def get_session_manager(
    storage_type: Storage | None = None,
    *,
    storage: Storage | None = None,
    settings: SessionSettings | None = None,
    **options: Any,
) -> SessionManager:
    """Return the process-wide manager for these arguments; equal arguments give the same one.

    It lasts until its last ``shutdown()``, or until its event loop is closed. A forked process gets
    a manager of its own. ``storage`` is another name for ``storage_type``. ``options`` are those of
    :class:`SessionManager`. If the storage, given or configured, is an ``https://`` address, the
    result is a ``SessionClient``, and ``options`` are the client's: ``api_key`` and others.
    """
    if storage_type is not None and storage is not None:
        detail = "storage_type and storage are two names for one thing; give one"
        raise ConfigurationError(detail)
    chosen = storage if storage_type is None else storage_type
    settings = settings or SessionSettings.load()
    arguments = (chosen, settings, options)
    with _lock:
        _managers[:] = [entry for entry in _managers if not entry[1].is_over]
        for known, manager in _managers:
            if known == arguments:
                return manager
        manager = _new(chosen, settings, options)
        _managers.append((arguments, manager))
        return manager


def _new(
    chosen: Storage | None, settings: SessionSettings, options: dict[str, Any]
) -> SessionManager:
    """Make a manager or, for the address of a service, a client."""
    storage, _ = choose_storage(chosen, settings)
    if not isinstance(storage, str) or not storage.lower().startswith(("https://", "http://")):
        return SessionManager(chosen, settings=settings, **options)
    try:
        from agent_cores.session.client.session_client import SessionClient  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise MissingDependencyError("aiohttp", "client") from error
    try:
        return SessionClient(storage, **options)
    except TypeError as error:
        detail = f"SessionClient: {error}"
        raise ConfigurationError(detail) from error
