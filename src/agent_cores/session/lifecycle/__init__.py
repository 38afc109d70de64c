"""Hooks, and the sweeping of expired sessions."""

from __future__ import annotations

from agent_cores.session.lifecycle.events import EVENT_NAMES, Handler, SessionEvent
from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager

__all__ = ["EVENT_NAMES", "Handler", "LifecycleManager", "SessionEvent"]
