"""The seqs of the messages of an append, in the order in which they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.errors import ConflictError, InvalidInputError
from agent_cores.session.models.message import StoredMessage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent_cores.session.models.selection import SeqRange


def numbered_after(
    append: tuple[StoredMessage, ...],
    known: Mapping[str, StoredMessage],
    last_seq: int,
    *,
    own_seq: bool,
) -> tuple[StoredMessage, ...]:
    """Return the messages that are not known, numbered after ``last_seq``."""
    added: list[StoredMessage] = []
    for message in append:
        if message.id in known:
            continue
        if message.seq == 0:
            last_seq += 1
        elif own_seq and message.seq > last_seq:
            last_seq = message.seq
        else:
            problem = "only a session that is being built takes seqs, in rising order; leave it out"
            raise InvalidInputError("seq", problem)
        added.append(StoredMessage(last_seq, message.id, message.created_at, message.body))
    return tuple(added)


def as_stored(
    append: tuple[StoredMessage, ...],
    known: Mapping[str, StoredMessage],
    added: tuple[StoredMessage, ...],
) -> tuple[StoredMessage, ...]:
    """Return all messages of the append as stored: the known ones, and those that are added."""
    if len(added) == len(append):
        return added
    new = iter(added)
    return tuple(known[message.id] if message.id in known else next(new) for message in append)


def known_beside(
    replaced: SeqRange,
    known: Mapping[str, StoredMessage],
    count: int,
    stored_after: int | None,
) -> dict[str, StoredMessage]:
    """Return the known messages that stay when a range is replaced by ``count`` messages.

    One from before the range cannot come after it again: ``ConflictError``. One from behind it
    stays, and so do those that the same change appended after the seq ``stored_after``, if it was
    applied before.
    """
    for message_id, message in known.items():
        if message.seq < replaced.first:
            detail = f"message id {message_id!r} is stored before the messages to replace"
            raise ConflictError(detail)
    stays_after = replaced.last
    if stored_after is not None and len(known) == count:
        first = min([message.seq for message in known.values()])
        stays_after = stored_after if first > stored_after else stays_after
    return {name: message for name, message in known.items() if message.seq > stays_after}
