"""Who may do what with a session. Decided here and nowhere else."""

from __future__ import annotations

from agent_cores.session.access.access_control import AccessController, Action, Caller

__all__ = ["AccessController", "Action", "Caller"]
