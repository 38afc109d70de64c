"""The calls of a store that are measured and traced, and the name of its database for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_cores.session.storage.base import StorageProvider

OPERATIONS = ("read", "read_several", "apply", "find", "due", "count")
_SYSTEMS = {"postgres": "postgresql"}
"""Where OpenTelemetry's name is not that of our folder."""


def system_of(storage: StorageProvider) -> str:
    """Return the name of the database, by the folder of its provider."""
    folder = type(storage).__module__.split(".")[-2:-1]
    return _SYSTEMS.get(folder[0], folder[0]) if folder else type(storage).__name__
