"""The fast create: new sessions, each assumed not to exist, inserted without a read before.

What ``apply_change`` writes for a session that does not exist needs no stored state. The unique
name of a session decides: where it is taken, nothing of that create is written, and the change
falls back to the generic batch, which alone may refuse, replay or replace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.errors import SessionError
from agent_cores.session.models.change import Applied, Change, State, apply_change
from agent_cores.session.models.representation import hides
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.rows import Written, header_row, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agent_cores.session.models import SessionMetadata
    from agent_cores.session.storage.sql.dialect import Plan
    from agent_cores.session.storage.sql.rows import SessionName

_ABSENT = State()


@hides("change")
class PlannedCreate(msgspec.Struct, frozen=True, gc=False):
    """A change that creates a session, and what it writes if the name is free."""

    change: Change
    applied: Applied

    @classmethod
    def of(cls, change: Change) -> PlannedCreate | None:
        """Return the plan of a change; ``None`` if the change must fall back."""
        if change.create is None or change.append or change.overwrite:
            return None
        try:
            applied = apply_change(_ABSENT, change)  # the time decides nothing without a session
        except SessionError:  # the name may be taken, and then that is the refusal
            return None
        return cls(change, applied)

    @property
    def name(self) -> SessionName:
        """Namespace and session id."""
        return self.change.namespace, self.change.session_id

    @property
    def header(self) -> SessionMetadata:
        """The header to insert."""
        return self.applied.header


def in_order(sessions: Iterable[PlannedCreate]) -> dict[SessionName, PlannedCreate]:
    """Return the first session of each name, in the order of names, so that no two deadlock."""
    first: dict[SessionName, PlannedCreate] = {}
    for new in sessions:
        first.setdefault(new.name, new)
    return dict(sorted(first.items()))


def create_plan(sessions: Sequence[PlannedCreate]) -> Plan[set[SessionName]]:
    """Insert new sessions in the order given; return the names of those that did not exist."""
    applied = {new.name: new.applied for new in sessions}
    written = Written()
    created: set[SessionName] = set()
    headers = [header_row(new.header) for new in sessions]
    for namespace, session_id, key in (yield Step(Statement.INSERT_HEADERS, headers)):
        name = namespace, session_id
        created.add(name)
        written.create(key, applied[name])
    yield from write_rows(written)
    if created:
        yield Step(Statement.COUNT_SESSIONS, sorted(written.counts.items()))
    return created
