"""``ChangeWriter``: carries out changes, one after the other, inside an open transaction.

A run of plain appends is one statement, and needs no open transaction. By itself, a plain
append goes the hot way: one guarded statement, then its messages. All else, and every append that
the guards do not let through, goes by ``apply_change``: look, decide, write.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import apsw
import msgspec

from agent_cores.session.codec import (
    HEADER_FIELDS,
    decode_header,
    encode_changes,
    encode_header,
)
from agent_cores.session.models import StoredMessage
from agent_cores.session.models.change import Applied, State, apply_change, hot_append
from agent_cores.session.models.message import numbered
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.models.values import encode_json
from agent_cores.session.storage.sqlite.runs import Remembered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from agent_cores.session.models import Change, SessionMetadata
    from agent_cores.session.models.change import HotAppend
    from agent_cores.session.storage.sqlite.connection import Row
    from agent_cores.session.storage.sqlite.queries import Statements
    from agent_cores.session.storage.sqlite.runs import Key, Run


Share = tuple[str, str, int, str]
"""Subject, namespace, time of sharing and session id."""


class ChangeWriter:
    """Writes on one connection. It raises refusals before it has written anything.

    ``seen`` has the sessions to which it appended, as they are since.
    ``left_behind`` is set once a session was removed whose messages and context are still there.
    """

    def __init__(
        self, connection: apsw.Connection, statements: Statements, *, fast_path: bool
    ) -> None:
        self._connection = connection
        self._execute: Callable[..., Any] = connection.cursor().execute  # rows of any columns
        self._sql = statements
        self._fast_path = fast_path
        self.seen: dict[Key, Remembered] = {}
        self.left_behind = True
        connection.execute(statements.prepare_runs)

    def carry_out(self, change: Change) -> Applied:
        """Write one change, all or nothing, as ``apply_change`` says; raise what it raises.

        It is judged as of now: it may have waited for the transaction.
        """
        at = change.applied_at()
        hot = hot_append(change, at) if self._fast_path else None
        applied = None if hot is None else self._append(change, hot, at)
        return self._look_and_write(change.as_of(at)) if applied is None else applied

    def write_run(self, run: Run) -> bool:
        """Write a run; false: nothing was written, a session or a message is not as expected."""
        try:
            self._execute(run.statement, run.bindings)
        except apsw.ConstraintError:
            return False
        return True

    def _append(self, change: Change, hot: HotAppend, applied_at: datetime) -> Applied | None:
        """Append if every guard holds; ``None``: nothing was written, look."""
        basis, messages = change.basis, change.append
        if basis is None or not _agree(change, basis):
            return None
        count = len(messages)
        at, decided_at = to_millis(applied_at), to_millis(change.at)
        end = None if hot.expires_at is None else to_millis(hot.expires_at)
        guards = (
            count,
            at,
            end,
            change.namespace,
            change.session_id,
            basis.incarnation,
            basis.access_revision,
            change.turn,
            change.expected_last_seq,
            messages[0].id if count == 1 else _as_json_list(messages),
        )
        statement = self._sql.hot_append[count > 1, hot.listed_at is not None]
        rows = self._execute(statement, guards).fetchall()
        if not rows:
            return None
        key, last_seq, message_count, active_at, expires_at, listed_at, revision = rows[0]
        added = numbered(messages, last_seq - count)
        for message in added:
            own = message.created_at
            created_at = decided_at if own is change.at else to_millis(own)
            row = key, message.seq, message.id, created_at, message.body
            self._execute(self._sql.add_message, row)
        header = msgspec.structs.replace(
            basis,
            last_seq=last_seq,
            message_count=message_count,
            revision=revision,
            last_active_at=applied_at if active_at == at else from_millis(active_at),
            expires_at=hot.expires_at if expires_at == end else _instant(expires_at),
            listed_at=_instant(listed_at),
        )
        self.seen[change.namespace, change.session_id] = Remembered(key, header)
        return Applied(before=basis, header=header, messages=added, added=added)

    def _look_and_write(self, change: Change) -> Applied:
        self.seen.pop((change.namespace, change.session_id), None)
        session_key, header = self.load(change.namespace, change.session_id)
        state = State() if header is None else self._state(session_key, header, change)
        applied = apply_change(state, change)
        if applied.replayed:
            return applied
        if applied.deleted:
            self._remove(session_key)
        elif header is None or applied.before is None:
            if header is not None:
                self._remove(session_key)
            self._create(applied)
        else:
            self._update(session_key, header, applied)
        return applied

    def load(self, namespace: str, session_id: str) -> tuple[int, SessionMetadata | None]:
        """Return the key and the header of a stored session; ``(0, None)`` if there is none."""
        rows = self._execute(self._sql.header, (namespace, session_id)).fetchall()
        if not rows:
            return 0, None
        return rows[0][0], decode_row(rows[0])

    def _state(self, session_key: int, header: SessionMetadata, change: Change) -> State:
        execute, sql = self._execute, self._sql
        context: dict[str, bytes] = {}
        for key in change.context_keys:
            context.update(execute(sql.context_entry, (session_key, key)).fetchall())
        known: dict[str, StoredMessage] = {}
        for message in change.append:
            for row in execute(sql.known_message, (session_key, message.id)).fetchall():
                known[message.id] = stored_message(row)
        removable: list[tuple[int, str]] = []
        if change.remove is not None:
            reach = change.remove.first, change.remove.last, change.limits.rewind_messages
            removable = execute(sql.removable, (session_key, *reach)).fetchall()
        return State(header=header, context=context, known=known, removable=tuple(removable))

    def _remove(self, session_key: int) -> None:
        self._execute(self._sql.remove_session, (session_key,))
        self.left_behind = True

    def _create(self, applied: Applied) -> None:
        header = applied.header
        fields = encode_header(header)
        row = tuple(fields[name] for name in HEADER_FIELDS)
        [(session_key,)] = self._execute(self._sql.add_session, row).fetchall()
        self._add_contents(session_key, applied)
        self._update_tags(session_key, (), header)
        self._update_shares(session_key, set(), _shares_of(header))

    def _update(self, session_key: int, before: SessionMetadata, applied: Applied) -> None:
        after = applied.header
        fields = encode_changes(before, after)
        if fields:
            statement = self._sql.update_session(tuple(fields))
            self._execute(statement, (*fields.values(), session_key))
        for seq, _ in applied.removed:
            self._execute(self._sql.remove_message, (session_key, seq))
        for key in applied.context_drop:
            self._execute(self._sql.drop_context, (session_key, key))
        self._add_contents(session_key, applied)
        if before.tags != after.tags:
            self._update_tags(session_key, before.tags, after)
        if before.grants != after.grants:
            self._update_shares(session_key, _shares_of(before), _shares_of(after))

    def _add_contents(self, session_key: int, applied: Applied) -> None:
        for message in applied.added:
            created_at = to_millis(message.created_at)
            row = session_key, message.seq, message.id, created_at, message.body
            self._execute(self._sql.add_message, row)
        for key, value in applied.context_set.items():
            self._execute(self._sql.set_context, (session_key, key, value))

    def _update_tags(
        self, session_key: int, before: Iterable[str], header: SessionMetadata
    ) -> None:
        """Replace the rows of a session's tags; a trigger moves the rows of those that stay."""
        old, new = set(before), set(header.tags)
        listed_at = to_millis(header.listed_at or header.last_active_at)
        place = header.namespace, header.owner_id, int(header.archived), listed_at
        for tag in old - new:
            self._execute(self._sql.remove_tag, (session_key, tag))
        for tag in new - old:
            row = session_key, tag, *place, header.session_id
            self._execute(self._sql.add_tag, row)

    def _update_shares(self, session_key: int, old: set[Share], new: set[Share]) -> None:
        for subject, *_ in old - new:
            self._execute(self._sql.remove_share, (session_key, subject))
        for row in new - old:
            self._execute(self._sql.add_share, (session_key, *row))

    def purge(self, budget: int) -> bool:
        """Remove up to ``budget`` rows that removed sessions left; ``False``: nothing is left."""
        while budget > 0:
            rows = self._execute(self._sql.next_deleted).fetchall()
            if not rows:
                self.left_behind = False
                return False
            [key] = rows[0]
            for statement in self._sql.purge:
                budget -= self._changed(statement, (key, max(budget, 0)))
            if budget > 0:
                budget -= self._changed(self._sql.purged, (key,))
        return True

    def _changed(self, statement: str, bindings: tuple[int, ...]) -> int:
        self._execute(statement, bindings)
        return self._connection.changes()


def decode_row(row: Row) -> SessionMetadata:
    """Return the header in a row of the session key and ``HEADER_FIELDS``."""
    return decode_header(*fields_of(row))


def fields_of(row: Row) -> tuple[dict[str, Any], str, str]:
    """Return the fields of a header in such a row, its namespace and its session id."""
    fields = dict(zip(HEADER_FIELDS, row[1:], strict=False))
    return fields, fields["namespace"], fields["session_id"]


def stored_message(row: Row) -> StoredMessage:
    """Return the message in a row of ``seq, id, created_at, body``."""
    seq, message_id, created_at, body = row
    return StoredMessage(seq, message_id, from_millis(created_at), body)


def _shares_of(header: SessionMetadata) -> set[Share]:
    """Return the rows of shares of a session, but for its key."""
    return {
        (subject, header.namespace, to_millis(grant.granted_at), header.session_id)
        for subject, grant in header.grants.items()
    }


def _agree(change: Change, basis: SessionMetadata) -> bool:
    """Whether the guards of the change are those of its basis, and the store is to number it."""
    return (
        (change.incarnation is None or change.incarnation == basis.incarnation)
        and (change.access_revision is None or change.access_revision == basis.access_revision)
        and all([message.seq == 0 for message in change.append])  # noqa: C419 - a list is faster
    )


def _as_json_list(messages: tuple[StoredMessage, ...]) -> str:
    return encode_json([message.id for message in messages]).decode()


@lru_cache(maxsize=10_000)
def _instant(millis: int | None) -> datetime | None:
    """Return an instant that comes again and again: sessions keep ``listed_at`` for a second."""
    return None if millis is None else from_millis(millis)
