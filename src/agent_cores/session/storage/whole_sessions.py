"""Conversions between a whole ``Session`` and the parts that changes and reads work with.

The seven methods load and save a session as one object; ``apply_change``, ``Snapshot`` and stored
records work with its header, context entries and messages. Nothing here does I/O.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.codec import (
    decode_context,
    decode_message,
    encode_message,
    encode_value,
)
from agent_cores.session.errors import InvalidInputError
from agent_cores.session.models import Session, StoredMessage
from agent_cores.session.models.change import State
from agent_cores.session.models.selection import removable_among
from agent_cores.session.models.session import without
from agent_cores.session.models.snapshot import Snapshot
from agent_cores.session.models.values import encode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.models.snapshot import Window


def messages_of(session: Session) -> list[StoredMessage]:
    """Return all messages, encoded; raise ``InvalidInputError`` if some are missing."""
    messages = session.messages
    if messages is None:
        raise InvalidInputError("session.messages", "is None; save_session needs the whole session")
    if len(messages) != session.metadata.message_count:
        problem = f"{len(messages)}, but message_count is {session.metadata.message_count}"
        raise InvalidInputError("session.messages", problem)
    return [encode_message(message) for message in messages]


def context_of(session: Session) -> dict[str, bytes]:
    """Return all context entries, encoded; raise ``InvalidInputError`` if it is ``None``."""
    if session.context is None:
        raise InvalidInputError("session.context", "is None; save_session needs the whole session")
    return {key: encode_value(encode_json(value)) for key, value in session.context.items()}


def session_of(snapshot: Snapshot) -> Session:
    """Return a snapshot as a session; parts that the snapshot does not have are ``None``."""
    header = snapshot.header
    names = header.namespace, header.session_id
    context, messages = snapshot.context, snapshot.messages
    return Session(
        metadata=header,
        context=None if context is None else decode_context(context, *names),
        messages=None if messages is None else [decode_message(m, *names) for m in messages],
    )


def snapshot_of(session: Session, *, context: bool, window: Window | None) -> Snapshot:
    """Return what ``read`` returns of a whole session."""
    messages, has_more = None, False
    if window is not None:
        messages, has_more = window.select(messages_of(session))
    return Snapshot(
        header=session.metadata,
        context=context_of(session) if context else None,
        messages=messages,
        has_more=has_more,
    )


def state_of(session: Session | None, change: Change) -> State:
    """Return what ``apply_change`` needs to know of a whole session."""
    if session is None:
        return State()
    messages = messages_of(session)
    context = context_of(session)
    wanted = set(change.message_ids)
    removable: tuple[tuple[int, str], ...] = ()
    if change.remove is not None:
        removable = removable_among(change.remove, messages, change.limits.rewind_messages)
    return State(
        header=session.metadata,
        context={key: context[key] for key in change.context_keys if key in context},
        known={message.id: message for message in messages if message.id in wanted},
        removable=removable,
    )


def session_after(session: Session | None, applied: Applied) -> Session:
    """Return the whole session after a change that has not deleted it."""
    header = applied.header
    names = header.namespace, header.session_id
    started_anew = session is None or applied.before is None
    messages = [] if started_anew or session is None else session.messages or []
    context: Mapping[str, object] = {} if started_anew or session is None else session.context or {}
    gone = {seq for seq, _ in applied.removed}
    added = [decode_message(message, *names) for message in applied.added]
    kept = [message for message in messages if message.seq not in gone]
    if applied.updated is not None:
        updated = decode_message(applied.updated, *names)
        kept = [updated if message.seq == updated.seq else message for message in kept]
    return Session(
        metadata=header,
        context={
            **without(context, applied.context_drop),
            **decode_context(applied.context_set, *names),
        },
        messages=kept + added,
    )
