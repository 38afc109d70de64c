"""``Batch``: many changes in one transaction: lock, reach, decide by ``apply_change``, write.

This road carries out every kind of change. A refusal is the answer of one change; an error of the
transaction is raised, and nothing was written.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from agent_cores.session.codec import HEADER_FIELDS, decode_header
from agent_cores.session.errors import SessionError
from agent_cores.session.models.change import Applied, apply_change
from agent_cores.session.storage.postgres import queries as sql
from agent_cores.session.storage.postgres.errors import ClashError, LockedError
from agent_cores.session.storage.sql.rows import (
    Loaded,
    Reached,
    Rows,
    SessionName,
    columns,
    header_row,
    message_of,
    rounds,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_cores.session.models import Change
    from agent_cores.session.storage.postgres.connection import Transaction

Answer = Applied | Exception


class Batch:
    """One batch of changes inside one transaction. ``deletes``: whether it left rows to purge.

    With ``skip_locked`` a session that another transaction holds is not waited for: the answer to
    its changes is ``LockedError``.
    """

    def __init__(
        self, transaction: Transaction, changes: Sequence[Change], *, skip_locked: bool = False
    ) -> None:
        self._skip_locked = skip_locked
        self._fetch = transaction.fetch
        self._execute = transaction.execute
        self._changes = changes
        self._loaded: dict[SessionName, Loaded | SessionError] = {}
        self._answers: dict[int, Answer] = {}
        self._counts: Counter[str] = Counter()
        self.deletes = False

    async def run(self) -> list[Answer]:
        """Carry out the changes, several to one session in their order; answer each."""
        await self._lock({_name(change) for change in self._changes})
        await self._look_twice()
        for indexes in rounds(self._changes):
            await self._run_round(indexes)
        counts = sorted(entry for entry in self._counts.items() if entry[1])
        await self._write_all((sql.COUNT_SESSIONS, counts))
        return [self._answers[index] for index in range(len(self._changes))]

    async def _lock(self, wanted: Iterable[SessionName]) -> None:
        """Lock and load headers. A lock waited for gives the row as it is after the wait."""
        statement = sql.LOCK_FREE if self._skip_locked else sql.LOCK
        for row in await self._fetch(statement, *columns(wanted, 2)):
            name = row["namespace"], row["session_id"]
            try:
                self._loaded[name] = Loaded(row["session_key"], decode_header(row, *name))
            except SessionError as error:
                self._loaded[name] = error

    async def _look_twice(self) -> None:
        """Look again for what was not there: it may have been replaced while we waited.

        Its row may come before those that are locked: then the changes have to go one by one.
        """
        missing = {_name(change) for change in self._changes if change.create is None}
        missing -= self._loaded.keys()
        if not missing:
            return
        if self._skip_locked:
            for row in await self._fetch(sql.PRESENT, *columns(missing, 2)):
                held = LockedError("another transaction holds this session")
                self._loaded[row["namespace"], row["session_id"]] = held
        elif not self._loaded:
            await self._lock(missing)
        elif await self._fetch(sql.PRESENT, *columns(missing, 2)):
            raise ClashError("a session was replaced while the batch waited")

    async def _run_round(self, indexes: Sequence[int]) -> None:
        reached = await self._reach([self._changes[index] for index in indexes])
        rows = Rows()
        for index in indexes:
            change = self._changes[index]
            loaded = self._loaded.get(_name(change))
            if isinstance(loaded, SessionError):
                self._answers[index] = loaded
                continue
            change = change.as_of(change.applied_at())  # by now its session is locked
            try:
                applied = apply_change(reached.state(loaded), change)
            except SessionError as refusal:
                self._answers[index] = refusal
                continue
            self._answers[index] = applied
            await self._gather(rows, loaded, change, applied)
        await self._write(rows)

    async def _gather(
        self, rows: Rows, loaded: Loaded | None, change: Change, applied: Applied
    ) -> None:
        """Gather what the change writes; keep its header for the next change to that session."""
        if not applied.writes:
            return
        if loaded is not None and (applied.deleted or applied.replaced is not None):
            rows.delete(loaded)
            self._loaded.pop(_name(change))
            self.deletes = True
        if applied.deleted:
            return
        if applied.before is None:
            await self._delete(rows)  # what is replaced goes first: its name is taken
            values = header_row(applied.header, HEADER_FIELDS)
            key = int((await self._fetch(sql.INSERT_HEADER, *values))[0]["session_key"])
            rows.create(key, applied)
        elif loaded is not None:
            key = loaded.session_key
            rows.update(key, loaded.header, applied)
        else:
            return
        self._loaded[_name(change)] = Loaded(key, applied.header)

    async def _reach(self, changes: Sequence[Change]) -> Reached:
        """Read what lies outside the locked rows, by later statements than the one that locked."""
        found = [(change, self._loaded.get(_name(change))) for change in changes]
        pairs = [(change, held.session_key) for change, held in found if isinstance(held, Loaded)]
        reached = Reached()
        ids = [(key, m.id) for change, key in pairs if not change.create for m in change.append]
        if ids:
            for row in await self._fetch(sql.KNOWN, *columns(ids, 2)):
                known = reached.known.setdefault(row["session_key"], {})
                known[row["id"]] = message_of(row)
        keys = [(key, name) for change, key in pairs for name in change.context_keys]
        if keys:
            for row in await self._fetch(sql.CONTEXT, *columns(keys, 2)):
                reached.context.setdefault(row["session_key"], {})[row["key"]] = row["value"]
        for change, key in pairs:
            if change.remove is not None:
                most = change.limits.rewind_messages
                bounds = change.remove.first, change.remove.last
                removable = await self._fetch(sql.REMOVABLE, key, *bounds, most)
                reached.removable[key] = tuple((row["seq"], row["id"]) for row in removable)
        return reached

    async def _delete(self, rows: Rows) -> None:
        if rows.deleted:
            await self._execute(sql.DELETE_HEADERS, rows.deleted)
            rows.deleted.clear()

    async def _write(self, rows: Rows) -> None:
        await self._delete(rows)
        for names, updated in rows.updated.items():
            await self._execute(sql.update_headers(names), *columns(updated, len(names) + 1))
        await self._write_all(
            (sql.DELETE_MESSAGES, rows.removed),
            (sql.INSERT_MESSAGES, rows.messages),
            (sql.DROP_CONTEXT, rows.dropped),
            (sql.SET_CONTEXT, rows.context),
            (sql.UNLIST_OWNED, rows.unowned),
            (sql.LIST_OWNED, rows.owned),
            (sql.MOVE_OWNED, rows.listed),
            (sql.UNLIST_SHARED, rows.unshared),
            (sql.LIST_SHARED, rows.shared),
        )
        self._counts.update(rows.counts)

    async def _write_all(self, *kinds: tuple[str, Sequence[Sequence[Any]]]) -> None:
        for statement, rows in kinds:
            if rows:
                await self._execute(statement, *columns(rows, len(rows[0])))


def _name(change: Change) -> SessionName:
    return change.namespace, change.session_id
