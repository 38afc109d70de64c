"""In whose name an adapter acts, and on which manager.

Most interfaces of frameworks name no user. The adapter then takes one at construction: as a user
id, as a function of the framework's own context, or as the name of an operator. An operator reads
and writes the sessions of every owner; what it creates belongs to the user of that name, and each
call is a line in the audit log.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agent_cores.session.adapters.ids import user_id_of
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.session_manager import SessionManager, get_session_manager

UserId = str | Callable[[Any], str]
"""A user id, or a function that returns one for a context of the framework."""
Store = SessionManager | str | None
"""A manager, a client of the service, the URL of a storage, or ``None`` for the configured one."""


class Acting(NamedTuple):
    """The verbs to call, and the ``user_id`` to call them with."""

    verbs: SessionManager
    user_id: str


def manager_of(store: Store) -> SessionManager:
    """Return the manager; for a URL the one that this process shares, for any event loop."""
    if isinstance(store, SessionManager):
        return store
    return get_session_manager(store, any_loop=True)


class Owner:
    """Whose sessions an adapter keeps: give ``user_id`` or ``operator``."""

    def __init__(
        self, store: Store, user_id: UserId | None = None, *, operator: str | None = None
    ) -> None:
        if (user_id is None) == (operator is None):
            raise ConfigurationError("give user_id= or operator=, to say whose sessions these are")
        manager = manager_of(store)
        self.verbs: SessionManager = manager
        if operator is not None:
            self.verbs = manager.as_operator(user_id_of(operator))
        self._user_id: UserId | None = user_id if operator is None else operator
        self._encoded = user_id_of(self._user_id) if isinstance(self._user_id, str) else None

    def acting(self, context: object = None) -> Acting:
        """Return the verbs and the user id for a context of the framework."""
        if self._encoded is not None:
            return Acting(self.verbs, self._encoded)
        user_id = self._user_id(context) if callable(self._user_id) else self._user_id
        if not isinstance(user_id, str):
            raise ConfigurationError(f"user_id must be text, not {type(user_id).__name__}")
        return Acting(self.verbs, user_id_of(user_id))
