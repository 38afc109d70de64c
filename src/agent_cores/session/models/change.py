"""The meaning of one write: ``apply_change(state, change)``, a pure function, and nowhere else.

A :class:`Change` names one session, what must still stand, and effects. Every provider carries
out what ``apply_change`` answers; a provider's fast path may only do what it would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    LastSeqMismatchError,
    ReplacementError,
    RevisionMismatchError,
    SessionArchivedError,
    SessionExistsError,
    SessionExpiredError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
    TurnLostError,
)
from agent_cores.session.models.effects import (
    AccessEffect,
    HoldEffect,
    RenewEffect,
    SeqRange,
    TurnEffect,
)
from agent_cores.session.models.expiry import (
    LISTING_LAG,
    earlier,
    end_after_write,
    fresh_end,
    renewed_end,
)
from agent_cores.session.models.header_changes import (
    ACCESS_FIELDS,
    Fields,
    access_fields,
    check_metadata_size,
    context_bytes_after,
    metadata_fields,
    next_access_revision,
    overwritten_access_revision,
    ttl_fields,
    turn_after,
)
from agent_cores.session.models.limits import DEFAULT_LIMITS, Limits
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.values import encode_json, same_value

_NOTHING: Mapping[str, Any] = {}
_NOT_REVISED = frozenset({"hold", "turn", "access_revision"})
"""Fields that change without raising ``revision``."""


@hides("turn", "metadata", "context_set")
class Change(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One write to one session, all or nothing.

    Guards are compared only if given. ``expected_hold`` is the hold that the change names; a
    session with another one refuses it. ``basis`` is the header the change was decided on, for
    fast paths. ``expected_incarnation`` is what the caller saw, beside ``expected_revision``;
    ``incarnation`` is what the change was decided on. ``whole_append``: an append of which only
    some messages are known is refused.

    ``at`` is the instant of the decision, and ``clock`` tells how late it is by now: a provider
    judges a change that waited in a queue or for a lock as of :meth:`applied_at`. The decision
    holds before ``valid_until``, the end of the caller's grant; ``None`` is no end. A create
    may take the place of an ended session if ``replaces`` is set.
    """

    namespace: str
    session_id: str
    at: datetime
    clock: Callable[[], datetime] | None = None
    limits: Limits = DEFAULT_LIMITS
    basis: SessionMetadata | None = None
    valid_until: datetime | None = None

    incarnation: int | None = None
    access_revision: int | None = None
    expected_incarnation: int | None = None
    expected_revision: int | None = None
    expected_last_seq: int | None = None
    turn: str | None = None
    whole_append: bool = False
    expected_hold: Hold | None = None
    must_be_expired: bool = False

    create: SessionMetadata | None = None
    overwrite: bool = False
    replaces: bool = True
    append: tuple[StoredMessage, ...] = ()
    remove: SeqRange | None = None
    metadata: Mapping[str, Any] = _NOTHING
    context_set: Mapping[str, bytes] = _NOTHING
    context_drop: tuple[str, ...] = ()
    access: AccessEffect | None = None
    turn_effect: TurnEffect | None = None
    hold: HoldEffect | None = None
    renew: RenewEffect | None = None
    delete: bool = False

    def applied_at(self) -> datetime:
        """Return the instant at which the change is judged if it is applied now."""
        at, clock = self.at, self.clock
        if clock is None:
            return at
        now = clock()
        return now if now is not at and now > at else at

    def as_of(self, at: datetime) -> Change:
        """Return the change as decided at that instant."""
        return self if at is self.at else msgspec.structs.replace(self, at=at)

    @property
    def context_keys(self) -> tuple[str, ...]:
        """The context keys that the change names."""
        return (*self.context_set, *self.context_drop)

    @property
    def is_plain_append(self) -> bool:
        """Whether nothing but messages is written: what a fast path may carry out."""
        return bool(self.append) and not (
            self.create
            or self.remove
            or self.metadata
            or self.context_set
            or self.context_drop
            or self.access
            or self.turn_effect
            or self.hold
            or self.renew
            or self.delete
        )


@hides("context")
class State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What ``apply_change`` needs to know of the stored session.

    ``context``: the entries of the keys that the change names. ``known``: the stored messages
    whose ids the change appends. ``removable``: ``(seq, id)`` of the messages in
    ``change.remove``, the highest seq first, at most ``limits.rewind_messages`` of them.
    """

    header: SessionMetadata | None = None
    context: Mapping[str, bytes] = _NOTHING
    known: Mapping[str, StoredMessage] = _NOTHING
    removable: tuple[tuple[int, str], ...] = ()


@hides("context_set")
class Applied(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a change did, and so what a provider writes.

    ``header`` is the new header, or the last one of a deleted session. ``messages`` answers the
    append, in its order, with stored ones where they were known; ``added`` are those to write.
    ``replaced`` is the ended session whose records a create removes first. A replay writes
    nothing.
    """

    before: SessionMetadata | None
    header: SessionMetadata
    messages: tuple[StoredMessage, ...] = ()
    added: tuple[StoredMessage, ...] = ()
    removed: tuple[tuple[int, str], ...] = ()
    context_set: Mapping[str, bytes] = _NOTHING
    context_drop: tuple[str, ...] = ()
    replaced: SessionMetadata | None = None
    deleted: bool = False
    replayed: bool = False

    @property
    def writes(self) -> bool:
        """Whether there is anything to write."""
        return self.deleted or self.header != self.before or bool(self.replaced)


class HotAppend(msgspec.Struct, frozen=True, gc=False):
    """What a fast path writes beside the messages. It keeps the later of these and what is stored.

    ``listed_at`` is ``None`` where the stored one is recent enough.
    """

    expires_at: datetime | None
    listed_at: datetime | None


def apply_change(state: State, change: Change) -> Applied:
    """Return what the change does to the stored session, or raise the named refusal.

    The order of checks is part of the meaning: exists and incarnation; ``access_revision`` and
    ``valid_until``; hold; expired; replay; archived; turn; ``expected_revision``;
    ``expected_last_seq``; limits.
    """
    if change.create is not None:
        return _create(state.header, change, change.create)
    header = _check_still_holds(state.header, change)
    if change.append and change.remove is not None:
        state = _without_replaced(state, change.remove)
    replay = _replay(header, state, change)
    if replay is not None:
        return replay
    _check_preconditions(header, change)
    if change.delete:
        return Applied(before=header, header=header, deleted=True)
    if change.is_plain_append and header.hold is None:
        return _append(header, state, change)
    return _write(header, state, change)


def hot_append(change: Change, at: datetime | None = None) -> HotAppend | None:
    """Return what a fast path may write for this change, or ``None`` if it must look first.

    It holds while the basis still has the stored ``incarnation`` and ``access_revision``, no
    hold, and no id of the append is known: the storage checks these, and that ``at <
    expires_at``. ``at`` is when it is applied, ``change.at`` if left out.
    """
    header = change.basis
    if header is None or change.expected_revision is not None or change.expected_hold is not None:
        return None
    if header.archived or header.hold is not None or not change.is_plain_append:
        return None
    if at is None:
        at = change.at
    if change.valid_until is not None and at >= change.valid_until:
        return None
    active_at = max(header.last_active_at, at)
    return HotAppend(end_after_write(header, at), _later_listed_at(header, active_at))


def _later_listed_at(header: SessionMetadata, active_at: datetime) -> datetime | None:
    listed_at = header.listed_at
    return active_at if listed_at is None or active_at - listed_at >= LISTING_LAG else None


def _create(stored: SessionMetadata | None, change: Change, given: SessionMetadata) -> Applied:
    access_revision = given.access_revision or given.incarnation
    if stored is not None and change.overwrite:
        access_revision = overwritten_access_revision(stored, given)
    elif stored is not None and not stored.is_expired(change.at):
        if stored.incarnation == given.incarnation:
            return Applied(before=stored, header=stored, replayed=True)
        raise SessionMovedError if stored.hold is not None else SessionExistsError
    elif stored is not None and not change.replaces:
        raise ReplacementError
    check_metadata_size(len(encode_json(given.attributes)), change.limits)
    added = _numbered(change.append, {}, 0, own_seq=True)
    header = msgspec.structs.replace(
        given,
        access_revision=access_revision,
        context_bytes=context_bytes_after(0, {}, change.context_set, change.limits),
        last_seq=max(given.last_seq, added[-1].seq if added else 0),
        message_count=len(added),
        listed_at=given.listed_at or given.last_active_at,
        due_at=earlier(given.due_at, given.expires_at),
    )
    return Applied(
        before=None,
        header=header,
        messages=added,
        added=added,
        context_set=change.context_set,
        replaced=stored,
    )


def _check_still_holds(header: SessionMetadata | None, change: Change) -> SessionMetadata:
    if header is None:
        raise SessionNotFoundError
    if change.incarnation is not None and header.incarnation != change.incarnation:
        raise StaleHeaderError
    if change.access_revision is not None and header.access_revision != change.access_revision:
        raise StaleHeaderError
    if change.valid_until is not None and change.at >= change.valid_until:
        raise StaleHeaderError
    if header.hold is not change.expected_hold:
        raise SessionMovedError
    if header.is_expired(change.at) is not change.must_be_expired:
        raise StaleHeaderError if change.must_be_expired else SessionExpiredError
    return header


def _without_replaced(state: State, replaced: SeqRange) -> State:
    """Return the state without the known messages that a change replaces: their ids are free.

    A message known from before them cannot come after them again. One known from behind them was
    appended by this very change, whose response was lost.
    """
    known = {}
    for message_id, message in state.known.items():
        if message.seq < replaced.first:
            detail = f"message id {message_id!r} is known, before the messages to replace"
            raise ConflictError(detail)
        if message.seq > replaced.last:
            known[message_id] = message
    return msgspec.structs.replace(state, known=known)


def _replay(header: SessionMetadata, state: State, change: Change) -> Applied | None:
    if state.known:
        for message in change.append:
            known = state.known.get(message.id)
            if known is not None and not same_value(known.body, message.body):
                detail = f"message id {message.id!r} is known with other content"
                raise ConflictError(detail)
        if all(message.id in state.known for message in change.append):
            messages = tuple(state.known[message.id] for message in change.append)
            return Applied(before=header, header=header, messages=messages, replayed=True)
        if change.whole_append:
            detail = "only some of these messages are known"
            raise ConflictError(detail)
    effect, turn = change.turn_effect, header.turn
    if effect is None or turn is None or not effect.take or turn.token != effect.token:
        return None
    held = turn.expires_at > change.at
    return Applied(before=header, header=header, replayed=True) if held else None


def _check_preconditions(header: SessionMetadata, change: Change) -> None:
    if header.archived and _needs_unarchived(change):
        raise SessionArchivedError
    turn = header.turn
    if change.turn is not None and (turn is None or turn.token != change.turn):
        raise TurnLostError
    expected = change.expected_revision
    if expected is not None and (
        header.revision != expected or change.expected_incarnation not in {None, header.incarnation}
    ):
        raise RevisionMismatchError(expected, header.revision)
    expected = change.expected_last_seq
    if expected is not None and header.last_seq != expected:
        raise LastSeqMismatchError(expected, header.last_seq)


def _needs_unarchived(change: Change) -> bool:
    effect = change.turn_effect
    return bool(
        change.append
        or change.remove
        or change.metadata
        or change.context_set
        or change.context_drop
        or (effect is not None and effect.lease_end is not None)
    )


def _append(header: SessionMetadata, state: State, change: Change) -> Applied:
    """Do what ``_write`` does for a change that only appends, in fewer steps."""
    added = _numbered(change.append, state.known, header.last_seq, own_seq=False)
    active_at = max(header.last_active_at, change.at)
    end = end_after_write(header, change.at)
    return Applied(
        before=header,
        header=msgspec.structs.replace(
            header,
            last_seq=added[-1].seq,
            message_count=header.message_count + len(added),
            last_active_at=active_at,
            listed_at=_later_listed_at(header, active_at) or header.listed_at,
            **_end_fields(header, end),
        ),
        messages=_messages_as_stored(change.append, state.known, added),
        added=added,
    )


def _write(header: SessionMetadata, state: State, change: Change) -> Applied:
    own_seq = header.hold is Hold.OPENING
    removed = _removed(state, change)
    added = _numbered(change.append, state.known, header.last_seq, own_seq=own_seq)
    context_set = {
        key: entry
        for key, entry in change.context_set.items()
        if not same_value(state.context.get(key, b""), entry)
    }
    context_drop = tuple(key for key in change.context_drop if key in state.context)
    fields = _effect_fields(header, state, change, {**context_set, **dict.fromkeys(context_drop)})
    revised = bool(removed or fields.keys() - _NOT_REVISED)
    new = msgspec.structs.replace(header, **fields) if fields else header
    fields = _count_fields(new, added, removed) if added or removed else {}
    if added or revised:
        fields |= _activity_fields(new, change.at, revised=revised)
    fields |= _end_fields(new, _new_end(header, new, change, active=bool(added) or revised))
    return Applied(
        before=header,
        header=msgspec.structs.replace(new, **fields) if fields else new,
        messages=_messages_as_stored(change.append, state.known, added),
        added=added,
        removed=removed,
        context_set=context_set,
        context_drop=context_drop,
    )


def _removed(state: State, change: Change) -> tuple[tuple[int, str], ...]:
    """Return the messages that go, the highest seq first; all of them, where they are replaced."""
    if change.remove is None:
        return ()
    removed, most = state.removable, change.limits.rewind_messages
    if change.append and len(removed) >= most and removed[-1][0] > change.remove.first:
        raise InvalidInputError("after_seq", f"{most} messages or more come after it: rewind first")
    return removed


def _numbered(
    append: tuple[StoredMessage, ...],
    known: Mapping[str, StoredMessage],
    last_seq: int,
    *,
    own_seq: bool,
) -> tuple[StoredMessage, ...]:
    """Return the messages that are new, numbered after ``last_seq``."""
    added: list[StoredMessage] = []
    for message in append:
        if message.id in known:
            continue
        if message.seq == 0:
            last_seq += 1
        elif own_seq and message.seq > last_seq:
            last_seq = message.seq
        else:
            raise InvalidInputError("seq", "given only while a session is built, and rising")
        added.append(StoredMessage(last_seq, message.id, message.created_at, message.body))
    return tuple(added)


def _messages_as_stored(
    append: tuple[StoredMessage, ...],
    known: Mapping[str, StoredMessage],
    added: tuple[StoredMessage, ...],
) -> tuple[StoredMessage, ...]:
    if len(added) == len(append):
        return added
    new = iter(added)
    return tuple(known[message.id] if message.id in known else next(new) for message in append)


def _effect_fields(
    header: SessionMetadata, state: State, change: Change, context: Mapping[str, bytes | None]
) -> Fields:
    """Return the fields that the effects alter, but for counts, times and the end."""
    fields: Fields = {}
    if change.metadata:
        fields |= metadata_fields(header, change.metadata, change.limits)
    if context:
        replaced = {key: state.context[key] for key in context if key in state.context}
        added = {key: value for key, value in context.items() if value is not None}
        held = header.context_bytes or 0
        fields["context_bytes"] = context_bytes_after(held, replaced, added, change.limits)
    if change.access is not None:
        fields |= access_fields(header, change.access, change.at, change.limits)
    if change.renew is not None:
        fields |= ttl_fields(header, change.renew)
    if change.hold is not None and change.hold.hold is not header.hold:
        fields["hold"] = change.hold.hold
    if not ACCESS_FIELDS.isdisjoint(fields):
        fields["access_revision"] = next_access_revision(
            header, change.access, change.renew, change.hold
        )
    if change.turn_effect is not None:
        fields["turn"] = turn_after(header.turn, change.turn_effect, change.at)
    return fields


def _count_fields(
    header: SessionMetadata,
    added: tuple[StoredMessage, ...],
    removed: tuple[tuple[int, str], ...],
) -> Fields:
    return {
        "last_seq": added[-1].seq if added else header.last_seq,
        "message_count": header.message_count + len(added) - len(removed),
    }


def _activity_fields(header: SessionMetadata, at: datetime, *, revised: bool) -> Fields:
    """Move the times of activity; ``listed_at`` follows an append only once it is behind."""
    active_at = max(header.last_active_at, at)
    if not revised:
        return {
            "last_active_at": active_at,
            "listed_at": _later_listed_at(header, active_at) or header.listed_at,
        }
    return {
        "last_active_at": active_at,
        "listed_at": active_at,
        "revision": header.revision + 1,
        "updated_at": max(header.updated_at, at),
    }


def _new_end(
    before: SessionMetadata, header: SessionMetadata, change: Change, *, active: bool
) -> datetime | None:
    """Return the end after the change; ``header`` has all else that the change altered."""
    renew = change.renew
    if before.hold is Hold.OPENING or (renew is not None and renew.ttl_seconds is not UNSET):
        return fresh_end(header, change.at)
    if renew is not None:
        return renewed_end(header, change.at)
    return end_after_write(header, change.at) if active else header.expires_at


def _end_fields(header: SessionMetadata, end: datetime | None) -> Fields:
    """Move the end; ``due_at`` follows only if it would be later than the end."""
    if end == header.expires_at:
        return {}
    return {"expires_at": end, "due_at": earlier(header.due_at, end)}
