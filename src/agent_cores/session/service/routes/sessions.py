"""Whole sessions: create, list, read, change, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from msgspec import UNSET, UnsetType

from agent_cores.session import models
from agent_cores.session.access.access_control import Action
from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    SessionError,
    SessionExistsError,
)
from agent_cores.session.inputs import DEFAULT_TTL_HOURS
from agent_cores.session.service.request.idempotency import mismatch
from agent_cores.session.service.responses import Response
from agent_cores.session.service.routing import Route
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import session_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.service.openai.items import NewItem
    from agent_cores.session.service.request.call import Call
    from agent_cores.session.service.request.idempotency import IdempotencyKey
    from agent_cores.session.service.request.view import CreatedSession

S = "/v1/sessions/{id}"
REPLAYED = {"Idempotent-Replayed": "true"}


async def create_session(call: Call) -> Response:
    """Create a session, or return the existing one."""
    body: shapes.CreateSession = call.body()
    if not may_choose_id(call, body.id):
        raise cannot_choose_id()
    check_roles(call, body.messages)
    derived = body.id is None and call.key is not None
    session_id = call.key.derived_id() if derived and call.key is not None else body.id
    call.session_id = session_id or ""  # for the audit log
    digest = await call.digest()
    if digest is None and session_id is not None and body.if_exists != "error":
        return await _open_session(call, body, session_id)
    # With an idempotency key, an existing session may be the result of this very request.
    if_exists = body.if_exists if digest is None else "error"
    try:
        created = await _create(call, body, session_id, digest, if_exists)
    except SessionExistsError as exists:
        if session_id is None or digest is None:
            raise
        if await is_replay(call, session_id, digest, exists, derived=derived):
            return await created_answer(call, session_id, REPLAYED)
        created = await _create(call, body, session_id, digest, body.if_exists)
    call.session_id = created.session_id
    if created.session is None:
        return call.session(await call.view.header(created.session_id, call.user_id))
    return call.session(created.session, 201, location(call, created.session_id))


async def _open_session(call: Call, body: shapes.CreateSession, session_id: str) -> Response:
    """Return the existing session, or create it."""
    opened = await call.view.open(
        session_id,
        call.user_id,
        new_session(body),
        context=body.context,
        messages=new_messages(body.messages),
        shared=body.if_exists == "return_shared",
    )
    if opened.is_new:
        return call.session(opened.session, 201, location(call, session_id))
    return call.session(opened.session)


async def _create(
    call: Call,
    body: shapes.CreateSession,
    session_id: str | None,
    digest: str | None,
    if_exists: str,
) -> CreatedSession:
    return await call.view.create(
        call.user_id,
        session_id,
        new_session(body),
        context=body.context,
        messages=new_messages(body.messages),
        if_exists=if_exists,
        request_digest=digest,
    )


def new_session(body: shapes.CreateSession | shapes.NewSession) -> models.NewSession:
    """Return what a new session begins with, as the manager takes it."""
    metadata = dict(body.metadata)
    if body.tags is not UNSET:
        if "tags" in metadata:
            raise InvalidInputError("tags", "given twice, in metadata too")
        metadata["tags"] = body.tags
    return {
        "title": body.title,
        "metadata": metadata,
        "ttl_hours": hours(body.ttl_seconds),
        "public": body.public,
        "max_lifetime_hours": hours(body.max_lifetime_seconds),
        "renew_on": body.renew_on,
    }


def new_messages(
    given: Sequence[shapes.NewMessage], key: IdempotencyKey | None = None
) -> list[models.NewMessage]:
    """Return messages to append; ids that are left out are derived from the key."""
    return [_new_message(message, key, index) for index, message in enumerate(given)]


def _new_message(
    given: shapes.NewMessage, key: IdempotencyKey | None, index: int
) -> models.NewMessage:
    message_id = key.derived_id(index) if given.id is None and key is not None else given.id
    if given.created_at is None and given.author_id is None:
        return models.NewMessage(given.role, given.content, message_id, given.metadata)
    return models.ImportedMessage(
        given.role, given.content, message_id, given.metadata, given.created_at, given.author_id
    )


def check_roles(
    call: Call, given: Sequence[shapes.NewMessage] | Sequence[NewItem], what: str = "messages"
) -> None:
    """Refuse messages, or OpenAI's items, of roles that the credential may not append."""
    allowed = call.principal.roles
    if allowed is not None and not all(each.role in allowed for each in given):
        raise AccessDeniedError(f"this credential may not append {what} of that role")


def may_choose_id(call: Call, session_id: str | None) -> bool:
    """Whether the service chooses the id, or the caller may choose it."""
    who = call.principal
    may = "act-as" in who.rights or who.operator is not None or call.settings.client_ids
    return session_id is None or may


def cannot_choose_id() -> AccessDeniedError:
    """Return the refusal of an id that the caller may not choose."""
    return AccessDeniedError("this credential may not choose the id of a session")


async def is_replay(
    call: Call, session_id: str, digest: str, exists: SessionExistsError, *, derived: bool
) -> bool:
    """Whether this request made the session before, and the caller may still read it."""
    try:
        look = await call.view.look_at(session_id, call.user_id, Action.READ)
    except SessionError:
        raise exists from None
    if look.snapshot.header.request_digest == digest:
        return True
    if derived:
        raise mismatch()
    return False


async def created_answer(
    call: Call, session_id: str, headers: dict[str, str] | None = None
) -> Response:
    """Return 201 with the session in its current state."""
    session = await call.view.header(session_id, call.user_id)
    return call.session(session, 201, {**location(call, session_id), **(headers or {})})


def location(call: Call, session_id: str) -> dict[str, str]:
    """Return the ``Location`` header of the new session."""
    root = call.scope.get("root_path", "")
    return {"Location": f"{root}/v1/sessions/{quote(session_id, safe='')}"}


def hours(seconds: float | UnsetType | None) -> Any:  # noqa: ANN401 - or the default's object
    """Return seconds as the manager takes them; an omitted value stays omitted."""
    if seconds is UNSET:
        return DEFAULT_TTL_HOURS
    return None if seconds is None else seconds / 3600


async def list_user_sessions(call: Call) -> Response:
    """List the caller's sessions, or those shared with them."""
    query = call.query()
    page = await call.view.list_user_sessions(
        call.user_id,
        query.get("status"),
        query.get("limit", 10),
        query.get("offset", 0),
        tags=query.get("tag"),
        shared=query.get("shared", False),
        metadata=query.get("metadata"),
        include=query.get("include", ()),
        cursor=query.get("cursor"),
    )
    data = [session_shape(session) for session in page]
    return call.json(shapes.SessionPage(data, page.has_more, page.next_cursor))


async def get_session(call: Call) -> Response:
    """Read a session, with its latest messages if requested."""
    limit = call.query().get("message_limit", 0)
    return call.session(
        await call.view.get_session(call.session_id, call.user_id, message_limit=limit)
    )


async def update_session(call: Call) -> Response:
    """Change a session's metadata and context."""
    body: shapes.UpdateSession = call.body()
    session = await call.view.update_session(
        call.session_id,
        call.user_id,
        body.context_updates,
        body.metadata_updates,
        context_removals=body.context_removals,
        **call.expected,
    )
    return call.session(session)


async def delete_session(call: Call) -> Response:
    """Delete a session."""
    query = call.query()
    await call.view.delete_session(
        call.session_id,
        call.user_id,
        **call.expected,
        expected_last_seq=query.get("expected_last_seq"),
        turn=query.get("turn"),
    )
    return Response(204)


ROUTES = (
    Route(
        method="POST",
        path="/v1/sessions",
        handler=create_session,
        right="write",
        summary="Create a session",
        request=shapes.CreateSession,
        responses={201: shapes.Session, 200: shapes.Session},
        names={
            "session_id": "id",
            "ttl_hours": "ttl_seconds",
            "max_lifetime_hours": "max_lifetime_seconds",
        },
        idempotent=True,
    ),
    Route(
        method="GET",
        path="/v1/sessions",
        handler=list_user_sessions,
        right="read",
        summary="List your own sessions, or those shared with you",
        query={
            "status": "status",
            "tag": "texts",
            "shared": "flag",
            "metadata": "object",
            "include": "texts",
            "limit": "integer",
            "cursor": "text",
            "offset": "integer",
        },
        responses={200: shapes.SessionPage},
        names={"tags": "tag"},
    ),
    Route(
        method="GET",
        path=S,
        handler=get_session,
        right="read",
        role="viewer",
        action=Action.READ,
        summary="Read a session",
        query={"message_limit": "integer"},
        responses={200: shapes.Session},
    ),
    Route(
        method="PATCH",
        path=S,
        handler=update_session,
        right="write",
        role="editor",
        action=Action.UPDATE,
        summary="Change metadata and context",
        request=shapes.UpdateSession,
        responses={200: shapes.Session},
        if_match=True,
    ),
    Route(
        method="DELETE",
        path=S,
        handler=delete_session,
        right="write",
        role="owner",
        action=Action.DELETE,
        summary="Delete a session",
        query={"expected_last_seq": "integer", "turn": "text"},
        responses={204: None},
        if_match=True,
    ),
)
