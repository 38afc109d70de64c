"""The sessions of Google's Agent Development Kit: ``ADKSessionService``.

``service`` is what ADK calls, ``uri`` what its command line says. ``events`` and ``state`` convert
what ADK keeps, and ``turns`` has appends wait for one another.
"""

from __future__ import annotations

from agent_cores.session.adapters.google_adk.service import ADKSessionService, register, service_of

__all__ = ["ADKSessionService", "register", "service_of"]
