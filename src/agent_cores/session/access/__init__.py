"""Who may do what with a session. This is the only place that decides it."""

from __future__ import annotations

from agent_cores.session.access.access_control import AccessController, Action, Caller

__all__ = ["AccessController", "Action", "Caller"]
