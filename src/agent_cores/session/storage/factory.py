"""``StorageFactory``: makes a provider from a name, a URL, a class or an instance.

This is the only module that names concrete providers, as strings, so that a driver is imported on
first use. Other providers register with ``register_provider``, or with an entry point in the group
``agent_cores.session.storage``; its name is the provider's name and its URL scheme.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar

from agent_cores.session.errors import ConfigurationError, UnknownStorageError
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.storage.options import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from agent_cores.session.settings import SessionSettings

ENTRY_POINTS = "agent_cores.session.storage"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_FILE = re.compile(r"\.(db|db3|sqlite|sqlite3)$", re.IGNORECASE)

_BUILT_IN = {
    "memory": "agent_cores.session.storage.memory.provider:MemoryProvider",
    "mysql": "agent_cores.session.storage.mysql.provider:MysqlProvider",
    "postgres": "agent_cores.session.storage.postgres.provider:PostgresProvider",
    "redis": "agent_cores.session.storage.redis.provider:RedisProvider",
    "sqlite": "agent_cores.session.storage.sqlite.provider:SQLiteProvider",
}
_SCHEMES: dict[str, str] = {
    **dict.fromkeys(("mariadb", "mysql+asyncmy", "mariadb+asyncmy"), "mysql"),
    **dict.fromkeys(
        (
            "rediss",
            "redis+sentinel",
            "rediss+sentinel",
            "redis+cluster",
            "rediss+cluster",
            "valkey",
            "valkeys",
            "valkey+sentinel",
            "valkeys+sentinel",
            "valkey+cluster",
            "valkeys+cluster",
            "unix",
        ),
        "redis",
    ),
    **dict.fromkeys(
        (
            "postgresql",
            "postgresql+asyncpg",
            "postgres+asyncpg",
            "postgresql+psycopg",
            "postgresql+psycopg2",
            "postgresql+psycopg_async",
        ),
        "postgres",
    ),
}


class StorageFactory:
    """Names and URL schemes of storage providers."""

    _registered: ClassVar[dict[str, type[StorageProvider]]] = {}

    @classmethod
    def register_provider(
        cls, name: str, provider: type[StorageProvider], *, override: bool = False
    ) -> None:
        """Make a provider class known by a name, which is also its URL scheme.

        Raises ``ConfigurationError`` if another class has that name, unless ``override`` is set.
        """
        if not (isinstance(provider, type) and issubclass(provider, StorageProvider)):
            detail = f"{provider!r} is not a subclass of StorageProvider"
            raise ConfigurationError(detail)
        name = name.lower()
        taken = cls._registered.get(name)
        built_in = name in _BUILT_IN or name in _SCHEMES
        if not override and (built_in or taken not in {None, provider}):
            detail = f"storage {name!r} is registered already; pass override=True to replace it"
            raise ConfigurationError(detail)
        cls._registered[name] = provider

    @classmethod
    def names(cls) -> list[str]:
        """Return every known provider name."""
        return sorted({*_BUILT_IN, *cls._registered, *(point.name for point in _entry_points())})

    @classmethod
    def provider_class(cls, name: str) -> type[StorageProvider]:
        """Return the class behind a name; ``UnknownStorageError`` lists the known ones."""
        registered = cls._registered.get(name)
        if registered is not None:
            return registered
        name = _SCHEMES.get(name, name)
        if name in _BUILT_IN:
            module, _, attribute = _BUILT_IN[name].partition(":")
            found = getattr(importlib.import_module(module), attribute)
        else:
            found = next((point.load() for point in _entry_points() if point.name == name), None)
        if found is None:
            known = cls.names()
            detail = f"no storage is known as {name!r}; known are {', '.join(known)}"
            raise UnknownStorageError(detail + nearest(name, {*known, *_SCHEMES}))
        if not (isinstance(found, type) and issubclass(found, StorageProvider)):
            detail = f"storage {name!r} is {found!r}, not a subclass of StorageProvider"
            raise ConfigurationError(detail)
        return found

    @classmethod
    def create(
        cls,
        storage: str | type[StorageProvider] | StorageProvider,
        *,
        settings: SessionSettings | None = None,
        **options: Any,  # noqa: ANN401 - checked by the provider
    ) -> StorageProvider:
        """Make a provider from a name, a URL or a class; return an instance unchanged.

        ``options`` go to the constructor and take precedence over the settings; options in the URL
        take precedence over both. Unknown options raise ``ConfigurationError``.
        """
        if isinstance(storage, StorageProvider):
            if options:
                detail = f"options {sorted(options)} were given with a provider instance"
                raise ConfigurationError(detail)
            return storage
        url = storage if isinstance(storage, str) and ":" in storage else None
        _refuse_path(storage, cls.names)
        if isinstance(storage, str):
            provider = cls.provider_class(storage.partition(":")[0].lower())
        elif isinstance(storage, type) and issubclass(storage, StorageProvider):
            provider = storage
        else:
            detail = (
                f"storage is a name, a URL, a StorageProvider or its class, not {type(storage)}"
            )
            raise ConfigurationError(detail)
        given = {**({} if settings is None else provider.options_from(settings)), **options}
        try:
            return provider(**given) if url is None else provider.from_url(url, **given)
        except TypeError as error:
            detail = _unknown_option(provider, given) or f"{provider.__name__}: {error}"
            raise ConfigurationError(detail) from error


def _entry_points() -> Any:  # noqa: ANN401 - importlib.metadata's own type
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow, and seldom needed

    return entry_points(group=ENTRY_POINTS)


def _unknown_option(provider: type[StorageProvider], given: Collection[str]) -> str | None:
    """Return the error message for an option that the constructor does not have."""
    parameters = inspect.signature(provider).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    for name in given:
        if name not in parameters:
            return f"{provider.__name__} has no option {name!r}{nearest(name, parameters)}"
    return None


def _refuse_path(storage: object, names: Callable[[], Collection[str]]) -> None:
    """Raise ``UnknownStorageError`` for a path given in place of a URL; it says what to write.

    ``names()`` is asked only where it matters: it reads what every installed package declares.
    """
    if isinstance(storage, PurePath):
        storage = str(storage)
    elif (
        not isinstance(storage, str)
        or "://" in storage
        or storage.lower() in _BUILT_IN
        or storage.lower() in names()
    ):
        return
    if not storage or storage.isspace():
        known = ", ".join(sorted(names()))
        raise UnknownStorageError(f"storage is empty: give a name or a URL; known are {known}")
    if storage.endswith(":memory:"):
        raise UnknownStorageError("to keep sessions in memory only, write memory://")
    if _DRIVE.match(storage):
        path = storage.replace("\\", "/")
    elif "@" not in storage and storage.startswith("sqlite:"):
        raise UnknownStorageError("the URL of an SQLite file begins with sqlite:///")
    elif "@" not in storage and (_FILE.search(storage) or storage.startswith(("/", ".", "~"))):
        path = storage
    else:
        return  # not clearly a path, and it may contain a password
    raise UnknownStorageError(f"{storage} is a path; for an SQLite file write sqlite:///{path}")
