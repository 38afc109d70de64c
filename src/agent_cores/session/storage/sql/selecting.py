"""The steps that find messages by name, and those that a change removes. No SQL and no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.models.selection import NamedMessages, OldestMessages
from agent_cores.session.storage.sql.dialect import Statement, Step
from agent_cores.session.storage.sql.rows import message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.models import StoredMessage, Window
    from agent_cores.session.models.change import Change
    from agent_cores.session.storage.sql.dialect import Plan
    from agent_cores.session.storage.sql.rows import Loaded

LARGEST = 2**63 - 1


def removable_step(held: Loaded, change: Change) -> Step | None:
    """Return the step that reads ``State.removable``: rows that begin with a seq and an id.

    ``None``: no message can be removed.
    """
    remove, key, most = change.remove, held.session_key, change.limits.rewind_messages
    if remove is None:
        return None
    if isinstance(remove, NamedMessages):
        return named_step(key, remove)
    if isinstance(remove, OldestMessages):
        before = LARGEST if remove.before_seq is None else remove.before_seq
        most = remove.most(held.header.message_count, most)
        return Step(Statement.OLDEST, [(key, before, most)]) if most else None
    return Step(Statement.REMOVABLE, [(key, remove.first, remove.last, most)])


def named_step(session_key: int, named: NamedMessages) -> Step | None:
    """Return the step that finds named messages; ``None`` if none is named."""
    if named.ids:
        return Step(Statement.BY_ID, [(session_key, message_id) for message_id in named.ids])
    if named.seqs:
        return Step(Statement.BY_SEQ, [(session_key, seq) for seq in named.seqs])
    return None


def read_named(
    session_key: int, named: NamedMessages, window: Window, part: int
) -> Plan[tuple[list[StoredMessage], bool]]:
    """Read named messages, by rising seq.

    Their sizes are read first, so that no more bodies are read than belong to the page, about
    ``part`` bytes with one statement.
    """
    step = named_step(session_key, named)
    found = [] if step is None else sorted([tuple(row) for row in (yield step)])
    fitting = _fitting([size for _, _, size in found], window.max_bytes)
    messages: list[StoredMessage] = []
    for ids in _parts(found[:fitting], part):
        rows = yield Step(Statement.KNOWN, [(session_key, message_id) for message_id in ids])
        messages += sorted([message_of(row[1:]) for row in rows], key=lambda m: m.seq)
    return messages, fitting < len(found)


def _fitting(sizes: Sequence[int], room: int) -> int:
    """Return how many messages of these sizes belong to a page: at least one."""
    for index, size in enumerate(sizes):
        room -= size
        if room < 0:
            return max(index, 1)
    return len(sizes)


def _parts(found: Sequence[tuple[int, str, int]], most: int) -> list[list[str]]:
    """Split messages into parts of at most so many bytes, or of one message; return their ids."""
    parts: list[list[str]] = []
    room = 0
    for _, message_id, size in found:
        if not parts or size > room:
            parts.append([])
            room = most
        parts[-1].append(message_id)
        room -= size
    return parts
