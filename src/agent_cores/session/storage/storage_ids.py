"""The ids under which the seven methods know sessions.

The seven methods have no namespace argument. In the default namespace they get the session id
itself, in any other ``<namespace>/<session id>``, percent-encoded: no session id contains a ``/``.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

from agent_cores.session.models.session import DEFAULT_NAMESPACE


def storage_id(namespace: str, session_id: str) -> str:
    """Return the id under which the seven methods know a session."""
    if namespace == DEFAULT_NAMESPACE:
        return session_id
    return f"{namespace}/{quote(session_id, safe='')}"


def split_storage_id(stored_id: str) -> tuple[str, str]:
    """Return the namespace and the session id that ``storage_id`` was made from."""
    namespace, slash, quoted = stored_id.partition("/")
    return (namespace, unquote(quoted)) if slash else (DEFAULT_NAMESPACE, stored_id)
