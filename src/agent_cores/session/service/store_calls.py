"""The calls of a store that are measured and traced, and the name of its database for them."""

from __future__ import annotations

from agent_cores.session.storage.base import StorageProvider

_OPERATIONS = ("read", "apply", "find", "due", "count")
_SYSTEMS = {"postgres": "postgresql"}
"""Where OpenTelemetry's name is not that of our folder."""


def operations_of(storage: StorageProvider) -> tuple[str, ...]:
    """Return the methods to measure; by default, ``read_several`` is a ``read`` of each session."""
    if type(storage).read_several is StorageProvider.read_several:
        return _OPERATIONS
    return (*_OPERATIONS, "read_several")


def system_of(storage: StorageProvider) -> str:
    """Return the name of the database, by the folder of its provider."""
    folder = type(storage).__module__.split(".")[-2:-1]
    return _SYSTEMS.get(folder[0], folder[0]) if folder else type(storage).__name__
