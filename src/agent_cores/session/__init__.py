"""Sessions for AI agents: created, continued, shared, listed, expired, on the storage you run.

The names below are imported on first use, so that importing this package loads no driver.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent_cores.session.inputs import DEFAULT_TTL_HOURS
    from agent_cores.session.lifecycle import LifecycleManager, SessionEvent
    from agent_cores.session.manager import SessionOperator
    from agent_cores.session.models import (
        AccessRole,
        Grant,
        ImportedMessage,
        Message,
        NewMessage,
        NewSession,
        Page,
        RenewOn,
        Session,
        SessionCount,
        SessionMetadata,
        SessionStatus,
        Turn,
        Visibility,
    )
    from agent_cores.session.session_manager import SessionManager, get_session_manager
    from agent_cores.session.settings import SessionSettings
    from agent_cores.session.storage import StorageFactory, StorageProvider
    from agent_cores.session.sync_manager import SyncSessionManager, SyncSessionOperator
    from agent_cores.session.verbs.upkeep import ErasureReceipt

    __version__: str

_PACKAGE = "agent_cores.session"
_HOMES = {
    "AccessRole": "models",
    "DEFAULT_TTL_HOURS": "inputs",
    "ErasureReceipt": "verbs.upkeep",
    "Grant": "models",
    "ImportedMessage": "models",
    "LifecycleManager": "lifecycle",
    "Message": "models",
    "NewMessage": "models",
    "NewSession": "models",
    "Page": "models",
    "RenewOn": "models",
    "Session": "models",
    "SessionCount": "models",
    "SessionEvent": "lifecycle",
    "SessionManager": "session_manager",
    "SessionMetadata": "models",
    "SessionOperator": "manager",
    "SessionSettings": "settings",
    "SessionStatus": "models",
    "StorageFactory": "storage",
    "StorageProvider": "storage",
    "SyncSessionManager": "sync_manager",
    "SyncSessionOperator": "sync_manager",
    "Turn": "models",
    "Visibility": "models",
    "get_session_manager": "session_manager",
}

__all__ = [
    "DEFAULT_TTL_HOURS",
    "AccessRole",
    "ErasureReceipt",
    "Grant",
    "ImportedMessage",
    "LifecycleManager",
    "Message",
    "NewMessage",
    "NewSession",
    "Page",
    "RenewOn",
    "Session",
    "SessionCount",
    "SessionEvent",
    "SessionManager",
    "SessionMetadata",
    "SessionOperator",
    "SessionSettings",
    "SessionStatus",
    "StorageFactory",
    "StorageProvider",
    "SyncSessionManager",
    "SyncSessionOperator",
    "Turn",
    "Visibility",
    "get_session_manager",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name == "__version__":
        return str(importlib.import_module(f"{_PACKAGE}.version").distribution_version())
    home = _HOMES.get(name)
    if home is None:
        detail = f"module {_PACKAGE!r} has no attribute {name!r}"
        raise AttributeError(detail)
    value = getattr(importlib.import_module(f"{_PACKAGE}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
