"""OpenAI's Conversations: a conversation is a session, and its items are the messages.

Paths, bodies and errors are OpenAI's, so that its clients work unchanged. What a caller may do, how
long a session lives and what a write means are the same as on all other routes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from agent_cores.session.access.access_control import Action
from agent_cores.session.backoff import Backoff
from agent_cores.session.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    MessageNotFoundError,
    OverloadedError,
    RevisionMismatchError,
    SessionExistsError,
)
from agent_cores.session.inputs import new_id
from agent_cores.session.service.openai.errors import PATH
from agent_cores.session.service.openai.items import new_items, shown_item
from agent_cores.session.service.openai.metadata import replacing, shown, stored
from agent_cores.session.service.problems import ShapeError
from agent_cores.session.service.request.idempotency import mismatch
from agent_cores.session.service.routes.sessions import check_roles, is_replay
from agent_cores.session.service.routing import Route
from agent_cores.session.verbs.appending import AppendOptions
from agent_cores.session.wire import openai

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from agent_cores.session.models import Message, SessionMetadata
    from agent_cores.session.models.session import Page
    from agent_cores.session.service.openai.items import NewItem
    from agent_cores.session.service.request.call import Call
    from agent_cores.session.service.responses import Response

C = f"{PATH}/{{id}}"
_PREFIX = "conv_"
_REPLAYED = (b"idempotent-replayed", b"true")
_MOST_LISTED = 100
_RETRY_SECONDS = 5.0
"""For how many seconds a replacement of metadata is attempted while others change the session."""


async def create_conversation(call: Call) -> Response:
    """Create a conversation: a session with an id of the service's."""
    body: openai.CreateConversation = call.body()
    items = _items(call, body.items or ())
    check_roles(call, items, "items")
    key = call.key
    session_id = _PREFIX + (new_id() if key is None else key.derived_id())
    call.session_id, digest = session_id, await call.digest()
    call.is_repeatable = key is not None
    try:
        created = await call.view.create(
            call.user_id,
            session_id,
            {"metadata": stored(body.metadata)},
            context={},
            messages=[item.message() for item in items],
            if_exists="error",
            request_digest=digest,
        )
    except SessionExistsError as exists:
        if digest is None or not await is_replay(call, session_id, digest, exists, derived=True):
            raise
        answer = await _read(call)
        answer.headers.append(_REPLAYED)
        return answer
    if created.session is not None:
        return call.json(_conversation(created.session.metadata))
    return await _read(call)


async def get_conversation(call: Call) -> Response:
    """Read a conversation."""
    return await _read(call)


async def update_conversation(call: Call) -> Response:
    """Replace a conversation's metadata."""
    body: openai.UpdateConversation = call.body()
    view, backoff = call.view, Backoff(until=time.monotonic() + _RETRY_SECONDS)
    while True:
        look = await view.look_at(call.session_id, call.user_id, Action.UPDATE)
        header = look.snapshot.header
        try:
            session = await view.update_session(
                call.session_id,
                call.user_id,
                metadata_updates=replacing(header.attributes, body.metadata),
                expected_version=header.version,
            )
        except RevisionMismatchError as error:
            if not await backoff.pause():
                raise OverloadedError("others keep changing this conversation") from error
        else:
            return call.json(_conversation(session.metadata))


async def delete_conversation(call: Call) -> Response:
    """Delete a conversation: the session, with all that belongs to it."""
    await call.view.delete_session(call.session_id, call.user_id)
    return call.json(openai.DeletedConversation(id=call.session_id))


async def create_conversation_items(call: Call) -> Response:
    """Add items, all in one write; those that are stored already are not added again."""
    call.query()  # what to include is accepted: nothing is ever left out
    body: openai.CreateItems = call.body()
    items = _items(call, body.items)
    try:
        check_roles(call, items, "items")
    except AccessDeniedError:
        await call.view.check(call.session_id, call.user_id, Action.APPEND)
        raise
    call.is_repeatable = call.key is not None or all(item.has_own_id for item in items)
    try:
        done = await call.view.append(
            call.session_id,
            call.user_id,
            [item.message() for item in items],
            AppendOptions(),
            create=False,
            whole=True,
        )
    except ConflictError as error:
        if call.key is not None and type(error) is ConflictError:
            raise mismatch() from error
        raise
    answer = call.json(_list_of([item.shown() for item in items], [item.id for item in items]))
    if done.replayed and call.key is not None:
        answer.headers.append(_REPLAYED)
    return answer


async def list_conversation_items(call: Call) -> Response:
    """Read a page of items, the latest first unless asked otherwise."""
    query = call.query()
    limit, order = query.get("limit", 20), query.get("order", "desc")
    if not 1 <= limit <= _MOST_LISTED:
        raise ShapeError("limit", f"from 1 to {_MOST_LISTED}")
    if order not in {"asc", "desc"}:
        raise ShapeError("order", "asc or desc")
    ascending = order == "asc"
    window: dict[str, int] = {"after_seq": 0} if ascending else {}
    if "after" in query:
        window = {"after_seq" if ascending else "before_seq": await _seq_of(call, query["after"])}
    page = await call.view.get_session_messages(call.session_id, call.user_id, limit, **window)
    messages = list(page) if ascending else list(reversed(page))
    data = await call.slices.run(_shown(messages))
    ids = [message.id for message in messages]
    return call.json(_list_of(data, ids, has_more=page.has_more))


async def get_conversation_item(call: Call) -> Response:
    """Read an item."""
    call.query()
    found = await _named(call, call.path[1])
    if not found:
        raise MessageNotFoundError(0)
    [item] = await call.slices.run(_shown(found))
    return call.json(item)


async def delete_conversation_item(call: Call) -> Response:
    """Delete an item, and return the conversation."""
    try:
        deleted = await call.view.delete_messages(call.session_id, call.user_id, ids=[call.path[1]])
    except InvalidInputError as error:  # no item has such an id
        raise MessageNotFoundError(0) from error
    if not deleted:
        raise MessageNotFoundError(0)
    return await _read(call)


def _items(call: Call, given: Sequence[Any]) -> list[NewItem]:
    key = call.key
    # The first id that is derived from the key is the conversation's.
    return new_items(given, None if key is None else lambda index: key.derived_id(index + 1))


async def _read(call: Call) -> Response:
    session = await call.view.header(call.session_id, call.user_id)
    return call.json(_conversation(session.metadata))


def _conversation(header: SessionMetadata) -> openai.Conversation:
    return openai.Conversation(
        id=header.session_id,
        created_at=int(header.created_at.timestamp()),
        metadata=shown(header.attributes),
    )


def _list_of(data: list[Any], ids: list[str], *, has_more: bool = False) -> openai.ItemList:
    first, last = (ids[0], ids[-1]) if ids else ("", "")
    return openai.ItemList(data=data, first_id=first, last_id=last, has_more=has_more)


def _shown(messages: Sequence[Message]) -> Generator[None, None, list[Any]]:
    """Return messages as items, with a pause after each."""
    items = []
    for message in messages:
        items.append(shown_item(message))
        yield
    return items


async def _named(call: Call, item_id: str) -> Page[Message] | None:
    """Return the message with an id, as a page; ``None`` if no message can have that id."""
    try:
        return await call.view.get_messages(call.session_id, call.user_id, ids=[item_id])
    except InvalidInputError:
        return None


async def _seq_of(call: Call, item_id: str) -> int:
    """Return where the item stands after which a page begins."""
    found = await _named(call, item_id)
    if not found:
        raise InvalidInputError("after", "the id of an item of this conversation")
    return found[0].seq


_INCLUDE = {"include": "includes", "include[]": "includes"}

ROUTES = (
    Route(
        method="POST",
        path=PATH,
        handler=create_conversation,
        right="write",
        summary="Create a conversation",
        request=openai.CreateConversation,
        responses={200: openai.Conversation},
        names={"messages": "items"},
        idempotent=True,
    ),
    Route(
        method="GET",
        path=C,
        handler=get_conversation,
        right="read",
        role="viewer",
        action=Action.READ,
        summary="Read a conversation",
        responses={200: openai.Conversation},
    ),
    Route(
        method="POST",
        path=C,
        handler=update_conversation,
        right="write",
        role="editor",
        action=Action.UPDATE,
        summary="Replace a conversation's metadata",
        request=openai.UpdateConversation,
        responses={200: openai.Conversation},
        names={"metadata_updates": "metadata"},
    ),
    Route(
        method="DELETE",
        path=C,
        handler=delete_conversation,
        right="write",
        role="owner",
        action=Action.DELETE,
        summary="Delete a conversation",
        responses={200: openai.DeletedConversation},
    ),
    Route(
        method="POST",
        path=f"{C}/items",
        handler=create_conversation_items,
        right="write",
        role="editor",
        action=Action.APPEND,
        summary="Add items to a conversation",
        request=openai.CreateItems,
        query=_INCLUDE,
        responses={200: openai.ItemList},
        names={"messages": "items"},
        idempotent=True,
    ),
    Route(
        method="GET",
        path=f"{C}/items",
        handler=list_conversation_items,
        right="read",
        role="viewer",
        action=Action.READ,
        summary="List the items of a conversation",
        query={"after": "text", "limit": "few", "order": "order", **_INCLUDE},
        responses={200: openai.ItemList},
    ),
    Route(
        method="GET",
        path=f"{C}/items/{{item_id}}",
        handler=get_conversation_item,
        right="read",
        role="viewer",
        action=Action.READ,
        summary="Read an item of a conversation",
        query=_INCLUDE,
        responses={200: openai.ConversationItem},
    ),
    Route(
        method="DELETE",
        path=f"{C}/items/{{item_id}}",
        handler=delete_conversation_item,
        right="write",
        role="owner, or the editor who wrote it",
        action=Action.DELETE_OWN_MESSAGE,
        summary="Delete an item of a conversation",
        responses={200: openai.Conversation},
    ),
)
