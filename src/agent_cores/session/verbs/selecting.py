"""The arguments that select messages, checked: ``ids``, ``seqs``, ``before_seq``, ``keep_last``."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from agent_cores.session.errors import InvalidInputError
from agent_cores.session.inputs import whole_number
from agent_cores.session.models.selection import NamedMessages, OldestMessages

if TYPE_CHECKING:
    from agent_cores.session.inputs import Inputs


def named_ids(inputs: Inputs, ids: object, most: int) -> NamedMessages:
    """Return the messages with these ids, each named once."""
    names = [inputs.name(one, "ids") for one in _listed(ids, "ids", most)]
    return NamedMessages(ids=tuple(dict.fromkeys(names)))


def named_seqs(seqs: object, most: int) -> NamedMessages:
    """Return the messages with these seqs, each named once."""
    given = _listed(seqs, "seqs", most)
    return NamedMessages(seqs=tuple(dict.fromkeys(whole_number(one, "seqs", 1) for one in given)))


def removal(
    inputs: Inputs,
    most: int,
    *,
    ids: object,
    seqs: object,
    before_seq: object,
    keep_last: object,
) -> NamedMessages | OldestMessages:
    """Return what to remove; exactly one of the four is given."""
    given = {"ids": ids, "seqs": seqs, "before_seq": before_seq, "keep_last": keep_last}
    chosen = [field for field, value in given.items() if value is not None]
    if len(chosen) != 1:
        field = chosen[1] if chosen else "ids"
        raise InvalidInputError(field, "give exactly one of ids, seqs, before_seq and keep_last")
    if ids is not None:
        return named_ids(inputs, ids, most)
    if seqs is not None:
        return named_seqs(seqs, most)
    if before_seq is not None:
        return OldestMessages(before_seq=whole_number(before_seq, "before_seq", 0))
    return OldestMessages(keep=whole_number(keep_last, "keep_last", 0))


def _listed(value: object, field: str, most: int) -> list[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInputError(field, f"must be a list, not {type(value).__name__}")
    given = list(islice(value, most + 1))
    if len(given) > most:
        raise InvalidInputError(field, f"names more than {most} messages; split the call")
    return given
