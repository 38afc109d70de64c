"""Writing a session: the arguments and the reply of ``apply.lua``."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agent_cores.session.codec import (
    Field,
    Fields,
    encode_changes,
    encode_header,
)
from agent_cores.session.models.change import Applied, Change, HotAppend
from agent_cores.session.models.message import StoredMessage, numbered
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import END, SeqRange
from agent_cores.session.models.session import Hold, SessionMetadata
from agent_cores.session.models.times import EPOCH, to_millis
from agent_cores.session.storage.redis.keys import CONTEXT_PREFIX
from agent_cores.session.storage.redis.records import end_text, instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_COUNTED = frozenset({"last_seq", "message_count", "last_active_at", "listed_at", "expires_at"})
"""Fields that ``apply.lua`` computes, since concurrent appends may have changed them."""

_decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


@hides("append", "update", "set", "guard_values")
class Write(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What ``apply.lua`` checks and writes.

    ``at``: the write is refused if the session, or ``valid_until``, ends by then; the time since
    ``sent``, by the server's clock, is added to it. ``absent``: the session must not exist;
    ``erased``: its header must be gone. ``append`` has ``(seq or 0, id, record)``, ``update``
    ``(seq, record)``, ``remove`` ``(seq, id)``, ``set`` alternating names and values. ``later`` are
    the first and last entry of what may have been appended since, and is removed too. ``ends``
    replaces the stored end if it is later, or always if ``exactly``; ``""`` means never.
    ``active_at`` updates the times of activity; ``revised`` updates ``listed_at`` even if it is
    recent. ``last_seq`` replaces the stored one if it is higher.
    """

    at: int | None = None
    sent: int | None = None
    valid_until: int | None = None
    guard_fields: tuple[str, ...] = ()
    guard_values: tuple[str, ...] = ()
    absent: bool = False
    create: bool = False
    delete: bool = False
    erased: bool = False
    append: tuple[tuple[int, str, str], ...] = ()
    update: tuple[int, str] | None = None
    remove: tuple[tuple[int, str], ...] = ()
    later: tuple[str, str] | None = None
    set: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    active_at: str | None = None
    revised: bool = False
    ends: str | None = None
    exactly: bool = False
    last_seq: int = 0


class Written(msgspec.Struct, frozen=True):
    """The reply of ``apply.lua``. ``tags`` is ``None`` unless ``listed_at`` has changed."""

    last_seq: int
    message_count: int
    expires_at: datetime | None
    last_active_at: datetime
    listed_at: datetime
    revision: int
    tags: tuple[str, ...] | None

    @classmethod
    def of(cls, answer: Sequence[Any]) -> Written:
        """Decode the reply, which is empty for a deleted session."""
        if not answer:
            return _NOTHING_LEFT
        seq, count, ends, active_at, listed_at, revision, tags = answer
        return cls(
            int(seq),
            int(count),
            instant(ends) if ends else None,
            instant(active_at),
            instant(listed_at),
            int(revision),
            None if tags is None else _decode_tags(tags),
        )


_NOTHING_LEFT = Written(0, 0, None, EPOCH, EPOCH, 0, None)


def hot_write(
    change: Change, basis: SessionMetadata, hot: HotAppend, sent: int | None = None
) -> Write:
    """Return the write of a plain append that was decided on a cached header.

    As long as ``access_revision`` is that of the basis, so are ``hold`` and ``archived``.
    """
    fields: tuple[str, ...] = ("incarnation", "access_revision")
    values: tuple[str, ...] = (str(basis.incarnation), str(basis.access_revision))
    if change.turn is not None:
        fields, values = (*fields, "turn_token"), (*values, change.turn)
    if change.expected_revision is not None:
        fields, values = (*fields, "revision"), (*values, str(change.expected_revision))
    if change.expected_last_seq is not None:
        fields, values = (*fields, "last_seq"), (*values, str(change.expected_last_seq))
    at = to_millis(change.at)
    return Write(
        at=at,
        sent=sent,
        valid_until=_until(change),
        guard_fields=fields,
        guard_values=values,
        append=_entries(change.append),
        active_at=str(at),
        ends=end_text(hot.expires_at),
    )


def create_write(applied: Applied) -> Write:
    """Return the write that creates a session, or replaces an ended or overwritten one."""
    replaced = applied.replaced
    guards = {} if replaced is None else _guards(replaced, "expires_at")
    fields = encode_header(applied.header)
    return Write(
        absent=replaced is None,
        create=True,
        guard_fields=tuple(guards),
        guard_values=tuple(guards.values()),
        append=_entries(applied.added),
        set=(*_texts(fields), *_context_texts(applied)),
        ends=end_text(applied.header.expires_at),
        exactly=True,
    )


def delete_write(before: SessionMetadata, change: Change, sent: int | None) -> Write:
    """Return the write that removes a session if it has not changed since it was read."""
    ended = change.must_be_expired
    guards = _guards(before, *(["expires_at"] if ended else []), *_seq_guard(change))
    return Write(
        at=None if ended else to_millis(change.at),
        sent=sent,
        valid_until=_until(change),
        guard_fields=tuple(guards),
        guard_values=tuple(guards.values()),
        delete=True,
    )


def change_write(
    before: SessionMetadata, applied: Applied, change: Change, sent: int | None
) -> Write:
    """Return the write of any other change."""
    after = applied.header
    fields = {k: v for k, v in encode_changes(before, after).items() if k not in _COUNTED}
    guards = _guards(before, *_seq_guard(change))
    revised = after.revision != before.revision
    at = to_millis(change.at)
    added, builds = applied.added, before.hold is Hold.OPENING
    if not builds:  # the script numbers them after concurrent appends
        added = tuple(StoredMessage(0, m.id, m.created_at, m.body) for m in added)
    return Write(
        at=at,
        sent=sent,
        valid_until=_until(change),
        guard_fields=tuple(guards),
        guard_values=tuple(guards.values()),
        append=_entries(added),
        update=None if applied.updated is None else (applied.updated.seq, _record(applied.updated)),
        remove=applied.removed,
        later=_later(before, change),
        set=(*_texts(fields), *_context_texts(applied)),
        drop=(
            *(name for name, value in fields.items() if value is None),
            *(CONTEXT_PREFIX.decode() + key for key in applied.context_drop),
        ),
        active_at=str(at) if revised or (added and not builds) else None,
        revised=revised,
        ends=None if after.expires_at == before.expires_at else end_text(after.expires_at),
        exactly=builds or _sets_ttl(change),
        last_seq=0 if change.settle is None else after.last_seq,
    )


def hot_applied(change: Change, basis: SessionMetadata, written: Written) -> Applied:
    """Return the result of a plain append: the basis, updated by the script's reply."""
    messages = numbered(change.append, written.last_seq - len(change.append))
    tags = basis.tags if written.tags is None else written.tags
    header = _as_written(basis, written, revision=written.revision, tags=tags)
    return Applied(before=basis, header=header, messages=messages, added=messages)


def applied_as_written(applied: Applied, written: Written) -> Applied:
    """Return the result of a change, with the numbers that the script gave to its messages."""
    shift = written.last_seq - applied.header.last_seq
    header = _as_written(applied.header, written)
    if not shift:
        return msgspec.structs.replace(applied, header=header)
    moved = {
        message.id: StoredMessage(message.seq + shift, message.id, message.created_at, message.body)
        for message in applied.added
    }
    return msgspec.structs.replace(
        applied,
        header=header,
        added=tuple(moved.values()),
        messages=tuple(moved.get(message.id, message) for message in applied.messages),
    )


def _as_written(
    header: SessionMetadata, written: Written, **fields: int | tuple[str, ...]
) -> SessionMetadata:
    return msgspec.structs.replace(
        header,
        **fields,
        last_seq=written.last_seq,
        message_count=written.message_count,
        expires_at=written.expires_at,
        last_active_at=written.last_active_at,
        listed_at=written.listed_at,
    )


def _guards(before: SessionMetadata, *more: str) -> dict[str, str]:
    """Return the fields that the decision relied on and that must not have changed."""
    fields = encode_header(before)
    names = ("incarnation", "access_revision", "revision", "turn_token", "turn_expires_at", *more)
    return {name: _text(fields[name]) for name in names}


def _seq_guard(change: Change) -> list[str]:
    return [] if change.expected_last_seq is None else ["last_seq"]


def _later(before: SessionMetadata, change: Change) -> tuple[str, str] | None:
    """Return the range of entries that are replaced too, if others append them first."""
    remove = change.remove
    if not change.append or not isinstance(remove, SeqRange):
        return None
    if change.expected_last_seq is not None or remove.last <= before.last_seq:
        return None
    return f"{max(remove.first, before.last_seq + 1)}-0", f"{min(remove.last, END)}-0"


def _sets_ttl(change: Change) -> bool:
    return change.renew is not None and change.renew.ttl_seconds is not UNSET


def _until(change: Change) -> int | None:
    return None if change.valid_until is None else to_millis(change.valid_until)


def _text(value: Field) -> str:
    return "" if value is None else value.decode() if isinstance(value, bytes) else str(value)


def _texts(fields: Fields) -> list[str]:
    texts: list[str] = []
    for name, value in fields.items():
        if value is not None:  # without a call: every create encodes some twenty
            texts += (name, value.decode() if type(value) is bytes else str(value))
    return texts


def _context_texts(applied: Applied) -> Iterable[str]:
    for key, value in applied.context_set.items():
        yield CONTEXT_PREFIX.decode() + key
        yield value.decode()


def _entries(messages: Iterable[StoredMessage]) -> tuple[tuple[int, str, str], ...]:
    return tuple([(m.seq, m.id, _record(m)) for m in messages])


def _record(message: StoredMessage) -> str:
    return f"{message.id}\n{to_millis(message.created_at)}\n{message.body.decode()}"
