"""What the service adds to the audit log: who, by which credential, from where, what, the outcome.

Recorded are every request of an operator, whatever changes who may see a session or removes it,
reads of sessions that belong to somebody else, and failed logins. Never a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.verbs import audit

if TYPE_CHECKING:
    from agent_cores.session.service.request.call import Call

CHANGES = frozenset(
    {
        "delete_conversation",
        "delete_session",
        "erase_user",
        "revoke_access",
        "set_visibility",
        "share_session",
        "transfer_ownership",
    }
)
"""Operations that are recorded whoever calls them."""

READS = frozenset(
    {
        "create_session",
        "fork_session",
        "get_conversation",
        "get_conversation_item",
        "get_message",
        "get_session",
        "get_session_messages",
        "list_conversation_items",
        "list_grants",
        "list_user_sessions",
    }
)
"""Operations that are recorded if they read somebody else's session.

A create reads one if it returns the session that exists. A listing is one line for all of them.
"""

LOGIN = "login"


def is_always_recorded(call: Call) -> bool:
    """Whether this request is recorded, however it ends."""
    return call.principal.operator is not None or call.route.handler.__name__ in CHANGES


def read_anothers(call: Call) -> bool:
    """Whether this request, which succeeded, has read a session of which the caller is no owner."""
    if call.route.handler.__name__ not in READS:
        return False
    owner_id = call.view.read_owner_id
    return owner_id is not None and owner_id != call.principal.user_id


def record_call(call: Call, failure: BaseException | None) -> None:
    """Record a request of a known caller."""
    who = call.principal
    audit.record(
        who.operator,
        who.namespace,
        call.route.handler.__name__,
        call.session_id or None,
        failure,
        key=who.source,
        user=who.user_id,
        address=call.address or None,
        request_id=call.request_id,
        erased_user=call.erased_user,
        is_complete=call.is_complete,
    )


def record_failed_login(call: Call, failure: BaseException) -> None:
    """Record a credential that the service does not know. It is not repeated."""
    audit.record(
        None,
        None,
        LOGIN,
        None,
        failure,
        address=call.address or None,
        request_id=call.request_id,
    )
