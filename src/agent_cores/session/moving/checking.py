"""What is wrong with a session of an export, which anybody may have written.

The checksums of a file say that it arrived as it was written, not that a store of ours wrote it. A
session that no store can hold is found here, before anything of it is written.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from agent_cores.session.codec import raw_context, raw_messages
from agent_cores.session.errors import CorruptRecordError, InvalidInputError
from agent_cores.session.inputs import LARGEST_NUMBER, LONGEST_SECONDS, Inputs
from agent_cores.session.models.limits import Limits
from agent_cores.session.models.session import AccessRole

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent_cores.session.models.message import StoredMessage
    from agent_cores.session.models.session import SessionMetadata
    from agent_cores.session.moving.walking import Part

_NAMES = Inputs(Limits(name_bytes=65_536, tags=65_536))
"""How long a name may be is for the store to say that takes it."""
_NAMESPACE = re.compile(r"[a-z0-9_][a-z0-9_-]{0,62}")


def check_header(header: SessionMetadata) -> None:
    """Raise ``CorruptRecordError`` if no session of a store can have this header."""
    problem = _problem_of_names(header) or _problem_of_numbers(header)
    if problem is not None:
        raise CorruptRecordError(header.namespace, header.session_id, problem)


def check_part(part: Part) -> None:
    """Raise ``CorruptRecordError`` if the messages or the context of a part cannot be read."""
    header = part.header
    name = header.namespace, header.session_id
    raw_context(part.context, *name)
    raw_messages(part.messages, *name)
    problem = _problem_of_messages(part)
    if problem is not None:
        raise CorruptRecordError(*name, problem)


def check_count(header: SessionMetadata, messages: int) -> None:
    """Raise ``CorruptRecordError`` if a session has not as many messages as its header says."""
    if messages != header.message_count:
        problem = f"has {messages} messages, and its header counts {header.message_count}"
        raise CorruptRecordError(header.namespace, header.session_id, problem)


def _problem_of_names(header: SessionMetadata) -> str | None:
    try:
        _NAMES.new_identifier(header.session_id, "session_id")
        _NAMES.user_id(header.owner_id, "owner_id")
        _NAMES.tags(header.tags)
        for subject, grant in header.grants.items():
            _NAMES.subject(subject, "grants")
            if subject != grant.subject or grant.role is AccessRole.OWNER:
                return "a grant is not one that can be given"
    except InvalidInputError as error:
        return str(error)
    if _NAMESPACE.fullmatch(header.namespace) is None:
        return "its namespace is none"
    return None


def _problem_of_numbers(header: SessionMetadata) -> str | None:
    bounds: Iterable[tuple[str, int | None, int]] = (
        ("incarnation", header.incarnation, 0),
        ("access_revision", header.access_revision, 0),
        ("revision", header.revision, 1),
        ("last_seq", header.last_seq, 0),
        ("message_count", header.message_count, 0),
    )
    for name, number, least in bounds:
        if number is not None and not least <= number <= LARGEST_NUMBER + 1:
            return f"{name} is out of range"
    for name, seconds in (
        ("ttl_seconds", header.ttl_seconds),
        ("max_lifetime_seconds", header.max_lifetime_seconds),
    ):
        if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= LONGEST_SECONDS):
            return f"{name} is out of range"
    return None


def _problem_of_messages(part: Part) -> str | None:
    """Return what is wrong with the seqs and ids of a part; with those of several, a store says."""
    messages: tuple[StoredMessage, ...] = part.messages
    seqs = [message.seq for message in messages]
    if seqs != sorted(set(seqs)) or (seqs and not 1 <= seqs[0] <= seqs[-1] <= part.header.last_seq):
        return "the seqs of its messages do not rise up to its last one"
    if len({message.id for message in messages}) < len(messages):
        return "a message id is there twice"
    return None
