"""Stores of sessions: the provider interface, and the factory that knows them by name."""

from __future__ import annotations

from agent_cores.session.storage.base import Capabilities, Counts, StorageProvider
from agent_cores.session.storage.factory import StorageFactory
from agent_cores.session.storage.native import NativeProvider

__all__ = ["Capabilities", "Counts", "NativeProvider", "StorageFactory", "StorageProvider"]
