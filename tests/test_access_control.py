"""Who may do what: the table, for every role and every action."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_cores.session.access.access_control import AccessController, Action, Caller
from agent_cores.session.errors import (
    AccessDeniedError,
    SessionError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
)
from agent_cores.session.models import AccessRole, Grant, Hold, SessionMetadata, Turn
from agent_cores.session.testing.samples import new_header

AT = datetime(2030, 1, 1, tzinfo=UTC)
LATER = AT + timedelta(seconds=10)

TABLE = {
    AccessRole.VIEWER: {Action.READ, Action.FORK, Action.LEAVE},
    AccessRole.EDITOR: {
        Action.READ_CONTEXT,
        Action.APPEND,
        Action.UPDATE,
        Action.TAKE_TURN,
        Action.UPDATE_OWN_MESSAGE,
        Action.DELETE_OWN_MESSAGE,
    },
    AccessRole.OWNER: {
        Action.UPDATE_MESSAGE,
        Action.DELETE_MESSAGE,
        Action.SHARE,
        Action.REVOKE,
        Action.SET_VISIBILITY,
        Action.TRANSFER,
        Action.ARCHIVE,
        Action.RENEW,
        Action.REWIND,
        Action.REPLACE,
        Action.POP,
        Action.TRIM,
        Action.DELETE,
    },
}
"""What each role adds to the one before it."""
ROLES = (None, *TABLE)
access = AccessController()


def grants(**roles: str) -> dict[str, Grant]:
    return {
        subject: Grant(
            subject=subject, role=AccessRole(role), granted_by="ann", granted_at=AT, expires_at=None
        )
        for subject, role in roles.items()
    }


def session(**fields: Any) -> SessionMetadata:  # noqa: ANN401
    everyone = grants(editor="editor", viewer="viewer")
    return new_header(at=AT, **{"grants": everyone, "owner_id": "owner", **fields})


def test_the_table_names_every_action() -> None:
    assert {action for actions in TABLE.values() for action in actions} == set(Action)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_the_table_says(role: AccessRole | None, action: Action) -> None:
    caller = Caller("stranger" if role is None else str(role), ())
    known = ROLES[1 : ROLES.index(role) + 1]
    allowed = any(action in TABLE[each] for each in known if each is not None)
    assert access.allows(session(), caller, action, AT) is allowed
    if allowed:
        assert access.check(session(), caller, action, AT) is role
    else:
        with pytest.raises(SessionNotFoundError if role is None else AccessDeniedError):
            access.check(session(), caller, action, AT)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize(
    ("fields", "refusals"),
    [
        ({"expires_at": AT}, (SessionNotFoundError, SessionNotFoundError, SessionExpiredError)),
        ({"hold": Hold.OPENING}, (SessionNotFoundError,) * 3),
        ({"hold": Hold.MOVED}, (SessionNotFoundError, SessionMovedError, SessionMovedError)),
    ],
)
def test_a_session_that_is_not_there_is_refused_to_stranger_editor_and_owner(
    fields: dict[str, Any], refusals: tuple[type[SessionError], ...], action: Action
) -> None:
    for user_id, refusal in zip(("stranger", "editor", "owner"), refusals, strict=True):
        caller = Caller(user_id, ())
        assert not access.allows(session(**fields), caller, action, AT)
        with pytest.raises(SessionError) as caught:
            access.check(session(**fields), caller, action, AT)
        assert type(caught.value) is refusal


@pytest.mark.parametrize(
    ("fields", "groups", "role"),
    [
        ({}, (), None),
        ({"public": True}, (), AccessRole.VIEWER),
        ({"grants": grants(bob="editor"), "public": True}, (), AccessRole.EDITOR),
        ({"grants": grants(**{"group:a": "editor"})}, ("a",), AccessRole.EDITOR),
        ({"grants": grants(**{"group:a": "editor"})}, ("group:a", "b"), None),
        ({"grants": grants(**{"group:a": "editor"})}, None, None),
        ({"grants": grants(**{"group:a": "editor", "bob": "viewer"})}, ("a",), AccessRole.EDITOR),
        ({"grants": grants(**{"group:a": "viewer", "bob": "editor"})}, ("a",), AccessRole.EDITOR),
        ({"owner_id": "bob", "grants": grants(bob="viewer")}, (), AccessRole.OWNER),
    ],
)
def test_the_strongest_of_owner_grants_groups_and_public_counts(
    fields: dict[str, Any], groups: tuple[str, ...] | None, role: AccessRole | None
) -> None:
    assert access.role(session(**fields), Caller("bob", groups), AT) is role


def test_a_grant_counts_until_the_instant_of_its_end() -> None:
    ending = Grant(
        subject="bob",
        role=AccessRole.EDITOR,
        granted_by="ann",
        granted_at=AT,
        expires_at=LATER,
    )
    header = session(grants={"bob": ending})
    before = LATER - timedelta(milliseconds=1)
    assert access.role(header, Caller("bob", ()), before) is AccessRole.EDITOR
    assert access.role(header, Caller("bob", ()), LATER) is None


@pytest.mark.parametrize(
    ("user_id", "fields", "needed"),
    [
        ("owner", {}, False),
        ("editor", {}, False),
        ("viewer", {}, True),
        ("bob", {}, True),
        ("bob", {"grants": {}}, False),
        ("bob", {"grants": grants(eve="editor")}, False),
        ("bob", {"public": True}, True),
    ],
)
def test_groups_are_needed_only_where_they_could_help(
    user_id: str, fields: dict[str, Any], needed: bool
) -> None:
    everyone = grants(editor="editor", viewer="viewer", **{"group:a": "editor"})
    header = session(**{"grants": everyone, **fields})
    assert access.needs_groups(header, Caller(user_id), Action.APPEND, AT) is needed
    assert not access.needs_groups(header, Caller(user_id, ()), Action.APPEND, AT)


def test_a_view_holds_ones_own_grants_and_nothing_for_providers() -> None:
    header = session(
        grants=grants(bob="viewer", eve="editor", **{"group:a": "viewer"}),
        attributes={"list": [1]},
        turn=Turn("secret", LATER),
        access_revision=3,
        request_digest="d",
        context_bytes=4,
        listed_at=AT,
        due_at=AT,
        hold=Hold.FROZEN,
    )
    seen = access.view(header, Caller("bob", ("a",)), AccessRole.VIEWER, AT)
    assert set(seen.grants) == {"bob", "group:a"}
    assert seen.turn == Turn(None, LATER)
    for name in (
        "access_revision",
        "request_digest",
        "context_bytes",
        "listed_at",
        "due_at",
        "hold",
    ):
        assert getattr(seen, name) is None
    seen.attributes["list"].append(2)
    assert header.attributes == {"list": [1]}
    owned = access.view(header, Caller("owner", ()), AccessRole.OWNER, LATER)
    assert set(owned.grants) == set(header.grants)
    assert owned.turn is None
