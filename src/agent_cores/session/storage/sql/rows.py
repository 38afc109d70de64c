"""Which rows a batch of changes writes, and how rows become records. No SQL and no I/O."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import HEADER_FIELDS, Field, encode_changes, encode_header
from agent_cores.session.codec import decode_header as decode_fields
from agent_cores.session.models import SessionMetadata, StoredMessage
from agent_cores.session.models.change import State
from agent_cores.session.models.representation import hides
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.storage.sql.dialect import Statement, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_cores.session.models import Applied, Change
    from agent_cores.session.storage.headers import HeaderReader
    from agent_cores.session.storage.sql.dialect import Plan, Row

SessionName = tuple[str, str]
"""Namespace and session id."""
EVERY_SESSION = ""
"""The mark of every session's index entry; ``tag_mark`` returns those of its tags."""

_NAMESPACE = 1 + HEADER_FIELDS.index("namespace")
_in_order = itemgetter(*HEADER_FIELDS)
_SESSION_ID = 1 + HEADER_FIELDS.index("session_id")


class Loaded(msgspec.Struct, frozen=True):
    """A stored header, locked, and the key of its row."""

    session_key: int
    header: SessionMetadata


@hides("context")
class Contents(msgspec.Struct):
    """What a batch read besides the headers, by session key."""

    context: dict[int, dict[str, bytes]] = {}
    known: dict[int, dict[str, StoredMessage]] = {}
    removable: dict[int, tuple[tuple[int, str], ...]] = {}

    def state(self, loaded: Loaded | None, change: Change) -> State:
        """Return what ``apply_change`` needs to know of one session for that change."""
        if loaded is None:
            return State()
        key = loaded.session_key
        known = self.known.get(key, {})
        return State(
            header=loaded.header,
            context=self.context.get(key, {}),
            known={name: known[name] for name in change.message_ids if name in known},
            removable=self.removable.get(key, ()),
        )

    def add(self, loaded: Loaded, messages: Iterable[StoredMessage]) -> None:
        """Count messages as stored from here on."""
        known = self.known.setdefault(loaded.session_key, {})
        known.update((message.id, message) for message in messages)


@hides("updated", "messages", "rewritten", "context")
class Written(msgspec.Struct):
    """What a batch writes: a list per table and kind of write. ``Statement`` describes the rows.

    ``changed`` are stored headers, before and after all changes to them; ``finish`` turns them into
    rows.
    """

    changed: dict[int, tuple[SessionMetadata, SessionMetadata]] = {}
    updated: dict[tuple[str, ...], list[tuple[Field, ...]]] = {}
    """Names of fields -> rows of (session_key, a value for each of them)."""
    deleted: list[tuple[int]] = []
    messages: list[tuple[int, int, str, int, bytes]] = []
    rewritten: list[tuple[int, int, bytes]] = []
    removed: list[tuple[int, int]] = []
    context: list[tuple[int, str, bytes]] = []
    dropped: list[tuple[int, str]] = []
    owned: list[tuple[int, str, str, str, int, int, str]] = []
    unowned: list[tuple[int, str]] = []
    listed: list[tuple[int, int]] = []
    shared: list[tuple[int, str, str, int, str]] = []
    unshared: list[tuple[int, str]] = []
    counts: Counter[str] = msgspec.field(default_factory=Counter)

    def delete(self, loaded: Loaded) -> None:
        """Remove a header; its messages and context are queued for purging."""
        self.deleted.append((loaded.session_key,))
        self.counts[loaded.header.namespace] -= 1

    def create(self, session_key: int, applied: Applied) -> None:
        """Add what belongs to a header that was inserted under this key."""
        header = applied.header
        self.counts[header.namespace] += 1
        self._add_contents(session_key, applied)
        self.owned += owned_rows(session_key, header)
        self.shared += shared_rows(session_key, header)

    def update(self, session_key: int, before: SessionMetadata, applied: Applied) -> None:
        """Add what a change alters of a stored session."""
        first, _ = self.changed.get(session_key, (before, before))
        self.changed[session_key] = first, applied.header
        if applied.updated is not None:
            self.rewritten.append((session_key, applied.updated.seq, applied.updated.body))
        self.removed += [(session_key, seq) for seq, _ in applied.removed]
        self.dropped += [(session_key, key) for key in applied.context_drop]
        self._add_contents(session_key, applied)

    def finish(self) -> None:
        """Add the rows of the changed headers and of their index entries."""
        for session_key, (before, after) in self.changed.items():
            fields = encode_changes(before, after)
            if fields:
                self.updated.setdefault(tuple(fields), []).append((session_key, *fields.values()))
            self._update_indexes(session_key, before, after)

    def _add_contents(self, session_key: int, applied: Applied) -> None:
        self.messages += [message_row(session_key, message) for message in applied.added]
        self.context += [(session_key, *entry) for entry in applied.context_set.items()]

    def _update_indexes(
        self, session_key: int, before: SessionMetadata, after: SessionMetadata
    ) -> None:
        if (before.owner_id, before.archived, before.tags) != (
            after.owner_id,
            after.archived,
            after.tags,
        ):
            self.unowned += [(session_key, row[1]) for row in owned_rows(session_key, before)]
            self.owned += owned_rows(session_key, after)
        elif before.listed_at != after.listed_at:
            self.listed.append((session_key, listing_time(after)))
        if before.grants != after.grants:
            old, new = shared_rows(session_key, before), shared_rows(session_key, after)
            self.unshared += [(session_key, row[1]) for row in old - new]
            self.shared += new - old


def write_rows(written: Written) -> Plan[None]:
    """Write everything but whole headers: those are deleted and inserted before."""
    written.finish()
    for fields, updated in written.updated.items():
        yield Step(Statement.UPDATE_HEADERS, updated, fields)
    for statement, rows in (
        (Statement.DELETE_MESSAGES, written.removed),
        (Statement.UPDATE_MESSAGES, written.rewritten),
        (Statement.INSERT_MESSAGES, written.messages),
        (Statement.DROP_CONTEXT, written.dropped),
        (Statement.SET_CONTEXT, written.context),
        (Statement.REMOVE_OWNED, written.unowned),
        (Statement.ADD_OWNED, written.owned),
        (Statement.MOVE_OWNED, written.listed),
        (Statement.REMOVE_SHARED, written.unshared),
        (Statement.ADD_SHARED, written.shared),
    ):
        if rows:
            yield Step(statement, rows)


def owned_rows(
    session_key: int, header: SessionMetadata
) -> set[tuple[int, str, str, str, int, int, str]]:
    """Return a session's entries in its owner's listings: for the session, and for each tag."""
    marks = {EVERY_SESSION, *map(tag_mark, header.tags)}
    place = header.owner_id, header.namespace, int(header.archived), listing_time(header)
    return {(session_key, mark, *place, header.session_id) for mark in marks}


def shared_rows(session_key: int, header: SessionMetadata) -> set[tuple[int, str, str, int, str]]:
    """Return a session's entries in the listings of the subjects that it is shared with."""
    return {
        (session_key, subject, header.namespace, to_millis(grant.granted_at), header.session_id)
        for subject, grant in header.grants.items()
    }


def tag_mark(tag: str) -> str:
    """Return the mark of the index entry for a tag."""
    return f"={tag}"


def listing_time(header: SessionMetadata) -> int:
    """Return the time that orders a session in listings, in milliseconds."""
    return to_millis(header.listed_at or header.last_active_at)


def message_row(session_key: int, message: StoredMessage) -> tuple[int, int, str, int, bytes]:
    """Return the row of a message."""
    created_at = to_millis(message.created_at)
    return session_key, message.seq, message.id, created_at, message.body


def message_of(row: Row) -> StoredMessage:
    """Return the message in a row of ``seq, id, created_at, body``."""
    seq, message_id, created_at, body = row
    return StoredMessage(seq, message_id, from_millis(created_at), body)


def header_row(header: SessionMetadata) -> tuple[Field, ...]:
    """Return the values of ``HEADER_FIELDS``."""
    row: tuple[Field, ...] = _in_order(encode_header(header))
    return row


def name_of(row: Row) -> SessionName:
    """Return the namespace and the session id in a row of a header."""
    return row[_NAMESPACE], row[_SESSION_ID]


def decode_header(row: Row) -> SessionMetadata:
    """Return the header in a row of it; ``CorruptRecordError`` if it cannot be read."""
    return decode_fields(_fields(row), *name_of(row))


def read_header(row: Row, reader: HeaderReader) -> SessionMetadata | None:
    """Return the header in a row of it, or ``None`` if it cannot be read."""
    return reader.read(_fields(row), *name_of(row))


def _fields(row: Row) -> dict[str, Any]:
    return dict(zip(HEADER_FIELDS, row[1:], strict=False))


def columns(rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Turn rows into columns, for a database that takes one array per column."""
    return [list(column) for column in zip(*rows, strict=True)]


class _Joined:
    """The changes of one session in one round."""

    def __init__(self, change: Change) -> None:
        self._appends = change.is_plain_append
        self._updated: set[str] = set()
        if change.is_plain_update:
            self._updated.update(change.message_ids)

    def add(self, change: Change) -> bool:
        """Return whether a change may join them; a message is not updated twice."""
        if self._appends:
            return change.is_plain_append
        if not self._updated or not change.is_plain_update:
            return False
        [updated] = change.message_ids
        is_new = updated not in self._updated
        self._updated.add(updated)
        return is_new


def rounds(changes: Sequence[Change]) -> list[list[int]]:
    """Split a batch into rounds; each session's order is kept.

    A round has one change per session, or several if they are plain appends, or plain updates of
    different messages.
    """
    turns: Counter[SessionName] = Counter()
    latest: dict[SessionName, _Joined] = {}
    split: list[list[int]] = []
    for index, change in enumerate(changes):
        name = change.namespace, change.session_id
        before = latest.get(name)
        if before is None or not before.add(change):
            latest[name] = _Joined(change)
            turns[name] += 1
        if turns[name] > len(split):
            split.append([])
        split[turns[name] - 1].append(index)
    return split
