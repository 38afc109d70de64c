"""One valid request for every route."""

from __future__ import annotations

from typing import Any

import msgspec

from agent_cores.session.service.routes import ROUTES
from agent_cores.session.service.routing import Route

OF_SESSION = [route for route in ROUTES if "{id}" in route.path]
OTHERS = [route for route in ROUTES if "{id}" not in route.path]

FIRST_ID = "first"
"""The id of the first message of a session."""

_BODIES: dict[str, Any] = {
    "update_session": {"metadata_updates": {"a": 1}},
    "add_messages": {"messages": [{"role": "user", "content": "x"}]},
    "rewind_session": {"to_seq": 0},
    "replace_messages": {"after_seq": 0, "messages": [{"role": "user", "content": "y"}]},
    "update_message": {"content": "z"},
    "delete_messages": {"seqs": [1]},
    "share_session": {"subject": "zoe", "role": "viewer"},
    "set_visibility": {"visibility": "shared"},
    "take_turn": {"turn": "t"},
    "transfer_ownership": {"owner_id": "zoe"},
    "erase_user": {"user_id": "zoe"},
    "update_conversation": {"metadata": {"a": "b"}},
    "create_conversation_items": {"items": [{"role": "user", "content": "x"}]},
}


class Ready(msgspec.Struct, frozen=True):
    """A request that can be sent for any session."""

    route: Route
    body: Any

    def path(self, session_id: str, *, seq: object = 1, turn: str = "t") -> str:
        """Return the path for a session."""
        path = self.route.path.replace("{id}", session_id)
        path = path.replace("{item_id}", FIRST_ID).replace("{file}", "page.js")
        return path.replace("{seq}", str(seq)).replace("{turn}", turn)

    @property
    def name(self) -> str:
        """The name of the route."""
        return self.route.name


def requests_of(user_id: str) -> list[Ready]:
    """Return a valid request for every route of a session; ``user_id`` sends it."""
    return [_ready(route, user_id) for route in OF_SESSION]


def other_requests_of(user_id: str) -> list[Ready]:
    """Return a valid request for every route that names no session."""
    return [_ready(route, user_id) for route in OTHERS]


def _ready(route: Route, user_id: str) -> Ready:
    bodies = {**_BODIES, "revoke_access": {"subject": user_id}}
    return Ready(route, bodies.get(route.handler.__name__, {} if route.request else None))
