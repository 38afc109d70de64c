"""The Python client of the HTTP service: the manager's verbs, types and errors."""

from __future__ import annotations

from agent_cores.session.client.session_client import SessionClient
from agent_cores.session.client.sync_client import SyncSessionClient

__all__ = ["SessionClient", "SyncSessionClient"]
