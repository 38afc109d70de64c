"""Messages: append, read, update, remove, replace."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.access.access_control import Action
from agent_cores.session.codec import raw_messages
from agent_cores.session.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    MessageNotFoundError,
)
from agent_cores.session.inputs import LARGEST_NUMBER
from agent_cores.session.models.values import EncodedJson
from agent_cores.session.service.problems import ShapeError
from agent_cores.session.service.request.idempotency import mismatch
from agent_cores.session.service.responses import Response
from agent_cores.session.service.routes.sessions import (
    S,
    cannot_choose_id,
    check_roles,
    may_choose_id,
    new_messages,
    new_session,
)
from agent_cores.session.service.routing import Route
from agent_cores.session.verbs.appending import AppendOptions
from agent_cores.session.wire import shapes
from agent_cores.session.wire.conversion import message_shape, wire_time

if TYPE_CHECKING:
    from agent_cores.session import models
    from agent_cores.session.service.request.call import Call
    from agent_cores.session.service.request.view import Append

    _Append = shapes.AppendMessages | shapes.ReplaceMessages

_just_now = lru_cache(maxsize=8)(wire_time)
"""Most messages of the same millisecond share one instant."""
_SEQ = re.compile(r"[1-9][0-9]{0,18}")


async def add_messages(call: Call) -> Response:
    """Append messages, to a new session if that is asked for."""
    body: shapes.AppendMessages = call.body()
    if body.create is not False and not may_choose_id(call, call.session_id):
        raise cannot_choose_id()
    await _check_roles(call, body, Action.APPEND)
    try:
        done = await call.view.append(
            call.session_id,
            call.user_id,
            new_messages(body.messages, call.key),
            _options(call, body),
            create=False if call.must_exist else _create(body),
            whole=call.key is not None,
        )
    except ConflictError as error:
        if call.key is not None and type(error) is ConflictError:
            raise mismatch() from error
        raise
    return _appended(call, body, done)


async def replace_messages(call: Call) -> Response:
    """Replace the messages after a seq."""
    body: shapes.ReplaceMessages = call.body()
    await _check_roles(call, body, Action.REPLACE)
    done = await call.view.replace(
        call.session_id,
        call.user_id,
        new_messages(body.messages),
        _options(call, body),
        after_seq=body.after_seq,
    )
    return _appended(call, body, done, 200)


def _create(body: shapes.AppendMessages) -> bool | models.NewSession:
    """Return what the manager's ``create`` takes."""
    if isinstance(body.create, bool):
        return body.create
    try:
        return new_session(body.create)
    except InvalidInputError as error:
        raise InvalidInputError(f"create/{error.field}", error.problem) from error


def _options(call: Call, body: _Append) -> AppendOptions:
    return AppendOptions(
        body.context_updates or None,
        body.context_removals or (),
        body.metadata_updates or None,
        expected_last_seq=body.expected_last_seq,
        turn=body.turn,
        **call.expected,
    )


async def _check_roles(call: Call, body: _Append, action: Action) -> None:
    """Refuse roles that the credential may not append, after checking the caller's own access."""
    try:
        check_roles(call, body.messages)
    except AccessDeniedError:
        if getattr(body, "create", False) is False:
            await call.view.check(call.session_id, call.user_id, action)
        raise


def _appended(call: Call, body: _Append, done: Append, status: int = 201) -> Response:
    stored = done.messages
    if done.fresh:
        data = [_as_given(call, *pair) for pair in zip(stored, body.messages, strict=True)]
    else:
        key = call.principal.namespace, call.session_id
        data = [message_shape(message) for message in raw_messages(stored, *key)]
    answer = call.json(shapes.Appended(data, done.last_seq, done.revision), status)
    answer.headers.append((b"etag", f'"{done.version}"'.encode()))
    if done.replayed and call.key is not None:
        answer.headers.append((b"idempotent-replayed", b"true"))
    return answer


def _as_given(call: Call, stored: models.StoredMessage, given: shapes.NewMessage) -> shapes.Message:
    """Return a message that was just stored, with its values as the request sent them."""
    return shapes.Message(
        stored.seq,
        stored.id,
        given.role,
        _raw(given.content),
        given.author_id or call.user_id,
        _just_now(stored.created_at),
        _raw(given.metadata or {}),
    )


def _raw(value: Any) -> Any:  # noqa: ANN401 - JSON in, JSON out
    return msgspec.Raw(value.json) if type(value) is EncodedJson else value


async def get_session_messages(call: Call) -> Response:
    """Read a page of messages, or those with some ids."""
    query = call.query()
    ids = query.pop("id", None)
    if ids is not None:
        if query:
            raise ShapeError("id", "it cannot be combined with limit, after_seq or before_seq")
        page = await call.view.get_messages(call.session_id, call.user_id, ids=ids)
    else:
        page = await call.view.get_session_messages(
            call.session_id,
            call.user_id,
            query.get("limit", 50),
            before_seq=query.get("before_seq"),
            after_seq=query.get("after_seq"),
        )
    data = [message_shape(message) for message in page]
    answer = call.json(shapes.MessagePage(data, page.has_more, page.last_seq or 0))
    answer.headers.append((b"etag", f'"{page.version}"'.encode()))
    return answer


async def get_message(call: Call) -> Response:
    """Read a message."""
    seq = await _seq(call, Action.READ)
    page = await call.view.get_session_messages(call.session_id, call.user_id, 1, after_seq=seq - 1)
    if not page or page[0].seq != seq:
        raise MessageNotFoundError(seq)
    return call.json(message_shape(page[0]))


async def update_message(call: Call) -> Response:
    """Update a message in place."""
    body: shapes.UpdateMessage = call.body()
    done = await call.view.update(
        call.session_id,
        call.user_id,
        await _seq(call, Action.UPDATE_OWN_MESSAGE),
        expected=call.expected,
        roles=call.principal.roles,
        content=body.content,
        metadata_updates=body.metadata_updates,
        metadata_removals=body.metadata_removals,
        expected_last_seq=body.expected_last_seq,
        turn=body.turn,
    )
    answer = call.json(message_shape(done.message))
    answer.headers.append((b"etag", f'"{done.version}"'.encode()))
    return answer


async def delete_message(call: Call) -> Response:
    """Remove a message."""
    query = call.query()
    seq = await _seq(call, Action.DELETE_OWN_MESSAGE)
    await call.view.delete_message(
        call.session_id,
        call.user_id,
        seq,
        expected_last_seq=query.get("expected_last_seq"),
        turn=query.get("turn"),
    )
    return Response(204)


async def delete_messages(call: Call) -> Response:
    """Remove messages by id, by seq, or the oldest ones."""
    body: shapes.DeleteMessages = call.body()
    deleted = await call.view.delete_messages(
        call.session_id,
        call.user_id,
        ids=body.ids,
        seqs=body.seqs,
        before_seq=body.before_seq,
        keep_last=body.keep_last,
        **call.expected,
        expected_last_seq=body.expected_last_seq,
        turn=body.turn,
    )
    return call.json(shapes.Deleted(deleted))


async def _seq(call: Call, action: Action) -> int:
    """Return the seq in the path; a number that no message can have is reported as not found."""
    text = call.path[1]
    if _SEQ.fullmatch(text) is not None and int(text) <= LARGEST_NUMBER:
        return int(text)
    await call.view.check(call.session_id, call.user_id, action)
    raise MessageNotFoundError(0)


async def rewind_session(call: Call) -> Response:
    """Remove every message after a seq."""
    body: shapes.RewindSession = call.body()
    return call.session(
        await call.view.rewind_session(
            call.session_id,
            call.user_id,
            body.to_seq,
            **call.expected,
            expected_last_seq=body.expected_last_seq,
            turn=body.turn,
        )
    )


async def pop_messages(call: Call) -> Response:
    """Remove and return the last messages."""
    body: shapes.PopMessages = call.body()
    popped = await call.view.pop_messages(
        call.session_id,
        call.user_id,
        body.count,
        expected_last_seq=body.expected_last_seq,
        turn=body.turn,
    )
    return call.json(shapes.Popped([message_shape(message) for message in popped]))


ROUTES = (
    Route(
        method="POST",
        path=f"{S}/messages",
        handler=add_messages,
        right="write",
        role="editor",
        action=Action.APPEND,
        summary="Append messages",
        request=shapes.AppendMessages,
        responses={201: shapes.Appended},
        if_match=True,
        idempotent=True,
        creates=True,
    ),
    Route(
        method="GET",
        path=f"{S}/messages",
        handler=get_session_messages,
        right="read",
        role="viewer",
        action=Action.READ,
        summary="Read messages: the latest, those next to a seq, or those with these ids",
        query={
            "limit": "integer",
            "after_seq": "integer",
            "before_seq": "integer",
            "id": "texts",
        },
        names={"ids": "id"},
        responses={200: shapes.MessagePage},
    ),
    Route(
        method="GET",
        path=f"{S}/messages/{{seq}}",
        handler=get_message,
        right="read",
        role="viewer",
        action=Action.READ,
        summary="Read one message",
        responses={200: shapes.Message},
    ),
    Route(
        method="PATCH",
        path=f"{S}/messages/{{seq}}",
        handler=update_message,
        right="write",
        role="owner, or the editor who wrote it",
        action=Action.UPDATE_OWN_MESSAGE,
        summary="Change what a message says",
        request=shapes.UpdateMessage,
        responses={200: shapes.Message},
        if_match=True,
    ),
    Route(
        method="DELETE",
        path=f"{S}/messages/{{seq}}",
        handler=delete_message,
        right="write",
        role="owner, or the editor who wrote it",
        action=Action.DELETE_OWN_MESSAGE,
        summary="Delete a message",
        query={"expected_last_seq": "integer", "turn": "text"},
        responses={204: None},
    ),
    Route(
        method="POST",
        path=f"{S}/messages/delete",
        handler=delete_messages,
        right="write",
        role="owner, or the editor who wrote those named",
        action=Action.DELETE_OWN_MESSAGE,
        summary="Delete messages by id or seq, or the oldest ones",
        request=shapes.DeleteMessages,
        responses={200: shapes.Deleted},
        if_match=True,
    ),
    Route(
        method="POST",
        path=f"{S}/rewind",
        handler=rewind_session,
        right="write",
        role="owner",
        action=Action.REWIND,
        summary="Remove every message after a seq",
        request=shapes.RewindSession,
        responses={200: shapes.Session},
        if_match=True,
    ),
    Route(
        method="POST",
        path=f"{S}/replace",
        handler=replace_messages,
        right="write",
        role="owner",
        action=Action.REPLACE,
        summary="Replace every message after a seq",
        request=shapes.ReplaceMessages,
        responses={200: shapes.Appended},
        if_match=True,
    ),
    Route(
        method="POST",
        path=f"{S}/pop",
        handler=pop_messages,
        right="write",
        role="owner",
        action=Action.POP,
        summary="Remove the last messages and return them",
        request=shapes.PopMessages,
        responses={200: shapes.Popped},
    ),
)
