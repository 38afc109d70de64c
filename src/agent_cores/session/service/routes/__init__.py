"""The table of routes: every request that the service handles."""

from __future__ import annotations

from agent_cores.session.service.routes.conversations import ROUTES as CONVERSATIONS
from agent_cores.session.service.routes.description import described
from agent_cores.session.service.routes.lifecycle import ROUTES as LIFECYCLE
from agent_cores.session.service.routes.messages import ROUTES as MESSAGES
from agent_cores.session.service.routes.operations import ROUTES as OPERATIONS
from agent_cores.session.service.routes.operators import ROUTES as OPERATORS
from agent_cores.session.service.routes.sessions import ROUTES as SESSIONS
from agent_cores.session.service.routes.sharing import ROUTES as SHARING
from agent_cores.session.service.routes.turns import ROUTES as TURNS

ROUTES = described(
    (
        *SESSIONS,
        *MESSAGES,
        *SHARING,
        *LIFECYCLE,
        *TURNS,
        *CONVERSATIONS,
        *OPERATORS,
        *OPERATIONS,
    )
)

__all__ = ["ROUTES"]
