"""``apply_change(state, change)``: the meaning of a write, as a pure function.

A :class:`Change` names one session, the guards that must hold, and effects. Every provider writes
what ``apply_change`` returns; a provider's fast path may only do what it would have done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from agent_cores.session.errors import (
    ConflictError,
    InvalidInputError,
    MessageNotFoundError,
    ReplacementError,
    SessionArchivedError,
    SessionExistsError,
    SessionMovedError,
)
from agent_cores.session.models.effects import (
    AccessEffect,
    HoldEffect,
    MessageUpdate,
    RenewEffect,
    SettleEffect,
    TurnEffect,
)
from agent_cores.session.models.expiry import earlier, end_after_change, end_after_write
from agent_cores.session.models.guards import Guards
from agent_cores.session.models.header_changes import (
    ACCESS_FIELDS,
    Fields,
    access_fields,
    activity_fields,
    check_metadata_size,
    context_bytes_after,
    count_fields,
    end_fields,
    metadata_fields,
    moved_listed_at,
    next_access_revision,
    overwritten_access_revision,
    settled_fields,
    ttl_fields,
    turn_after,
)
from agent_cores.session.models.limits import DEFAULT_LIMITS, Limits
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.message_update import (
    check_updated_size,
    same_message,
    updated_message,
)
from agent_cores.session.models.numbering import as_stored, known_beside, numbered_after
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import Removal, SeqRange
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.state import Applied, State
from agent_cores.session.models.values import encode_json, same_value

__all__ = [
    "Applied",
    "Change",
    "HotAppend",
    "State",
    "apply_change",
    "hot_append",
    "hot_times",
    "may_append_hot",
]

_NOTHING: Mapping[str, Any] = {}
_NOT_REVISED = frozenset({"hold", "turn", "access_revision"})
"""Fields that change without raising ``revision``."""


@hides("turn", "metadata", "context_set")
class Change(Guards, frozen=True, kw_only=True, gc=False):
    """One write to one session, all or nothing: guards, and effects.

    ``at`` is the instant of the decision, and ``clock`` gives the time now: a change that waited in
    a queue or for a lock is judged as of :meth:`applied_at`. ``basis`` is the header of the
    decision, for fast paths. ``removable`` are seq and id of each message to remove, as read with
    ``basis``: they hold while the revision does. A create replaces an expired session under its id
    only if ``replaces`` is set; with ``overwrite``, any; with ``overwrite`` and ``incarnation``,
    that one, if it has the ``expected_hold``, and then the new one keeps the ``access_revision``
    that it is given. Only a ``SeqRange`` can be removed together with an append, which then
    replaces it; if that may have been applied before, ``stored_after`` is set, and its messages
    have higher seqs. An ``update`` neither appends nor removes. ``settle`` comes alone, on a
    session that is opening.
    """

    namespace: str
    session_id: str
    clock: Callable[[], datetime] | None = None
    limits: Limits = DEFAULT_LIMITS
    basis: SessionMetadata | None = None
    removable: tuple[tuple[int, str], ...] | None = None

    create: SessionMetadata | None = None
    overwrite: bool = False
    replaces: bool = True
    stored_after: int | None = None
    append: tuple[StoredMessage, ...] = ()
    remove: Removal | None = None
    update: MessageUpdate | None = None
    metadata: Mapping[str, Any] = _NOTHING
    context_set: Mapping[str, bytes] = _NOTHING
    context_drop: tuple[str, ...] = ()
    access: AccessEffect | None = None
    turn_effect: TurnEffect | None = None
    hold: HoldEffect | None = None
    renew: RenewEffect | None = None
    settle: SettleEffect | None = None
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
    def message_ids(self) -> tuple[str, ...]:
        """The ids of the messages that the change appends or updates."""
        ids = tuple([message.id for message in self.append])
        return ids if self.update is None else (*ids, self.update.id)

    @property
    def is_plain_append(self) -> bool:
        """Whether nothing but messages is written: what a fast path may carry out."""
        return bool(self.append) and not (self.update or self._has_other_effects)

    @property
    def is_plain_update(self) -> bool:
        """Whether nothing but one stored message is changed."""
        return self.update is not None and not (self.append or self._has_other_effects)

    @property
    def _has_other_effects(self) -> bool:
        return bool(
            self.create
            or self.remove
            or self.metadata
            or self.context_set
            or self.context_drop
            or self.access
            or self.turn_effect
            or self.hold
            or self.renew
            or self.settle
            or self.delete
        )

    @property
    def needs_unarchived(self) -> bool:
        """Whether an archived session refuses this change."""
        effect = self.turn_effect
        return bool(
            self.append
            or self.remove
            or self.update
            or self.metadata
            or self.context_set
            or self.context_drop
            or (effect is not None and effect.lease_end is not None)
        )


class HotAppend(msgspec.Struct, frozen=True, gc=False):
    """What a fast path writes besides the messages.

    For each of the two, the store keeps the later of this value and the stored one. ``listed_at``
    is ``None`` where the stored one is recent enough.
    """

    expires_at: datetime | None
    listed_at: datetime | None


def apply_change(state: State, change: Change) -> Applied:
    """Return what the change does to the stored session, or raise why it is refused.

    The order of checks is part of the meaning: exists and incarnation; ``access_revision`` and
    ``valid_until``; hold; expired; replay; archived; turn; ``expected_revision``;
    ``expected_last_seq``; limits.
    """
    if change.create is not None:
        return _create(state.header, change, change.create)
    header = change.check_decision(state.header)
    if change.append and change.remove is not None:
        state = _without_replaced(state, change, change.remove)
    updated = None
    if change.update is not None:
        updated = updated_message(header, state.known, change.update, change.at)
        if updated is not None and updated is state.known[updated.id]:
            return Applied(before=header, header=header, messages=(updated,), replayed=True)
    replay = _replay(header, state, change)
    if replay is not None:
        return replay
    if change.settle is not None:
        fields = settled_fields(header, change.settle)
        return Applied(before=header, header=msgspec.structs.replace(header, **fields))
    if header.archived and change.needs_unarchived and header.hold is not Hold.OPENING:
        raise SessionArchivedError
    change.check_expectations(header)
    if change.delete:
        return Applied(before=header, header=header, deleted=True)
    if change.is_plain_append and header.hold is None:
        return _append(header, state, change)
    return _write(header, state, change, updated)


def may_append_hot(change: Change) -> bool:
    """Whether a fast path may carry out this change, until the decision behind it ends."""
    header = change.basis
    return (
        header is not None
        and header.hold is None
        and not header.archived
        and change.expected_hold is None
        and change.expects_revision_of(header)
        and change.is_plain_append
    )


def hot_times(header: SessionMetadata, at: datetime) -> HotAppend:
    """Return what a fast path writes besides the messages, for an append at that instant."""
    active_at = max(header.last_active_at, at)
    return HotAppend(end_after_write(header, at), moved_listed_at(header, active_at))


def hot_append(change: Change) -> HotAppend | None:
    """Return what a fast path may write for this change, or ``None`` if there is no fast path.

    The store must check that the stored ``incarnation`` and ``access_revision`` are those of the
    basis, that there is no hold, that ``at < expires_at`` and that no message id of the append is
    known; and what the change expects: ``expected_revision``, ``expected_last_seq`` and ``turn``.
    """
    header = change.basis
    if header is None or not may_append_hot(change):
        return None
    if change.valid_until is not None and change.at >= change.valid_until:
        return None
    return hot_times(header, change.at)


def _create(stored: SessionMetadata | None, change: Change, given: SessionMetadata) -> Applied:
    access_revision = given.access_revision or given.incarnation
    if change.overwrite and change.incarnation is not None:
        change.check_identity(stored)
    elif stored is not None and change.overwrite:
        access_revision = overwritten_access_revision(stored, given)
    elif stored is not None and not stored.is_expired(change.at):
        if stored.incarnation == given.incarnation:
            messages = numbered_after(change.append, {}, 0, own_seq=True)
            return Applied(before=stored, header=stored, messages=messages, replayed=True)
        raise SessionMovedError if stored.hold is not None else SessionExistsError
    elif stored is not None and not change.replaces:
        raise ReplacementError
    check_metadata_size(len(encode_json(given.attributes)), change.limits)
    added = numbered_after(change.append, {}, 0, own_seq=True)
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


def _without_replaced(state: State, change: Change, replaced: Removal) -> State:
    """Return the state without the known messages that a change replaces: their ids are free."""
    if not isinstance(replaced, SeqRange):
        raise InvalidInputError("remove", "is not a range of seqs; only that can be replaced")
    known = known_beside(replaced, state.known, len(change.append), change.stored_after)
    return msgspec.structs.replace(state, known=known)


def _replay(header: SessionMetadata, state: State, change: Change) -> Applied | None:
    if state.known and change.append:
        for message in change.append:
            known = state.known.get(message.id)
            if known is not None and not same_message(known.body, message.body):
                detail = f"message id {message.id!r} is stored with other content; use a new id"
                raise ConflictError(detail)
        if all(message.id in state.known for message in change.append):
            messages = tuple(state.known[message.id] for message in change.append)
            return Applied(before=header, header=header, messages=messages, replayed=True)
        if change.whole_append:
            detail = (
                "some of these messages are stored already and others are not; send all or none"
            )
            raise ConflictError(detail)
    effect, turn = change.turn_effect, header.turn
    if effect is None or turn is None or not effect.take or turn.token != effect.token:
        return None
    held = turn.expires_at > change.at
    return Applied(before=header, header=header, replayed=True) if held else None


def _append(header: SessionMetadata, state: State, change: Change) -> Applied:
    """Do what ``_write`` does, in fewer steps, for a change that only appends."""
    added = numbered_after(change.append, state.known, header.last_seq, own_seq=False)
    active_at = max(header.last_active_at, change.at)
    end = end_after_write(header, change.at)
    return Applied(
        before=header,
        header=msgspec.structs.replace(
            header,
            last_seq=added[-1].seq,
            message_count=header.message_count + len(added),
            last_active_at=active_at,
            listed_at=moved_listed_at(header, active_at) or header.listed_at,
            **end_fields(header, end),
        ),
        messages=as_stored(change.append, state.known, added),
        added=added,
    )


def _write(
    header: SessionMetadata,
    state: State,
    change: Change,
    updated: StoredMessage | None = None,
) -> Applied:
    own_seq = header.hold is Hold.OPENING
    removed = _removed(header, state, change)
    added = numbered_after(change.append, state.known, header.last_seq, own_seq=own_seq)
    context_set = {
        key: entry
        for key, entry in change.context_set.items()
        if not same_value(state.context.get(key, b""), entry)
    }
    context_drop = tuple(key for key in change.context_drop if key in state.context)
    fields = _effect_fields(header, state, change, {**context_set, **dict.fromkeys(context_drop)})
    if change.update is not None:
        if updated is None:
            raise MessageNotFoundError(change.update.seq)
        check_updated_size(state.known[updated.id], updated, change.limits)
    revised = bool(removed or updated or fields.keys() - _NOT_REVISED)
    new = msgspec.structs.replace(header, **fields) if fields else header
    fields = count_fields(new, added, removed) if added or removed else {}
    if revised or (added and not own_seq):  # messages of another session are no activity
        fields |= activity_fields(new, change.at, revised=revised)
    active = bool(added) or revised
    fields |= end_fields(new, end_after_change(header, new, change.renew, change.at, active=active))
    return Applied(
        before=header,
        header=msgspec.structs.replace(new, **fields) if fields else new,
        messages=as_stored(change.append, state.known, added) if updated is None else (updated,),
        added=added,
        updated=updated,
        removed=removed,
        context_set=context_set,
        context_drop=context_drop,
    )


def _removed(header: SessionMetadata, state: State, change: Change) -> tuple[tuple[int, str], ...]:
    """Return the messages that go; a replacement removes all of its range or is refused."""
    remove, most = change.remove, change.limits.rewind_messages
    if remove is None:
        return ()
    removed = remove.chosen(state.removable, header.message_count, most)
    if not change.append or not isinstance(remove, SeqRange):
        return removed
    if len(removed) >= most and removed[-1][0] > remove.first:
        raise InvalidInputError("after_seq", f"{most} messages or more come after it: rewind first")
    return removed


def _effect_fields(
    header: SessionMetadata, state: State, change: Change, context: Mapping[str, bytes | None]
) -> Fields:
    """Return the fields that the effects alter, except counts, times and the end."""
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
