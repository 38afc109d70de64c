"""Reading a session: the arguments and the reply of ``read.lua``, and how records are stored.

A header field that is ``None`` is not stored. A message is one record of three lines: its id, the
millisecond of its creation, its body; ids and JSON contain no line break. cmsgpack rejects
msgpack's bytes, so JSON is sent as text; so are instants: Lua's numbers lose digits when printed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.codec import HEADER_FIELDS, decode_header
from agent_cores.session.errors import CorruptRecordError
from agent_cores.session.models.change import Change, State
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import NamedMessages, OldestMessages
from agent_cores.session.models.session import SessionMetadata
from agent_cores.session.models.snapshot import Snapshot, Window
from agent_cores.session.models.times import from_millis, to_millis
from agent_cores.session.storage.redis.keys import CONTEXT_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from agent_cores.session.models.selection import Removal

_LARGEST = 2**53
"""Lua counts in doubles."""

encode_msgpack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


@lru_cache(maxsize=1_024)
def instant(millis: bytes) -> datetime:
    """Decode an instant. The items of a batch or a page share many of them."""
    return from_millis(int(millis))


def end_text(end: datetime | None) -> str:
    """Encode the end of a session; ``""`` means never."""
    return "" if end is None else str(to_millis(end))


class ReadRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What ``read.lua`` reads besides the header.

    ``ids`` are those that a change appends. ``by_id`` and ``by_seq`` name messages: to return them
    in the window if ``bodies`` is set, else as removable. ``before`` asks for the oldest messages
    without the last ``keep``.
    """

    whole_context: bool = False
    context: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    from_: str | None = msgspec.field(default=None, name="from")
    forward: bool = False
    limit: int = 0
    max_bytes: int = 0
    capped: bool = False
    by_id: tuple[str, ...] = ()
    by_seq: tuple[str, ...] = ()
    bodies: bool = False
    first: str | None = None
    last: str | None = None
    before: str | None = None
    keep: int = 0
    at_most: int = 0
    timed: bool = False

    @classmethod
    def of_session(cls, *, context: bool, window: Window | None) -> ReadRequest:
        """Return what a provider's ``read`` needs."""
        if window is None:
            return cls(whole_context=context)
        if window.named is not None:
            return cls(
                whole_context=context,
                **_names(window.named),
                bodies=True,
                max_bytes=min(window.max_bytes, _LARGEST),
            )
        after, before = window.after_seq, window.before_seq
        from_ = f"({max(after, 0)}-0" if after is not None else "+"
        if before is not None and before < _LARGEST:
            from_ = f"({max(before, 1)}-0"  # Redis rejects "before 0-0"
        return cls(
            whole_context=context,
            from_=from_,
            forward=window.forward,
            limit=min(window.limit + (not window.capped), _LARGEST),
            max_bytes=min(window.max_bytes, _LARGEST),
            capped=window.capped,
        )

    @classmethod
    def before_change(cls, change: Change) -> ReadRequest:
        """Return what ``apply_change`` needs."""
        keys = tuple((CONTEXT_PREFIX.decode() + key) for key in change.context_keys)
        ids = change.message_ids
        removed = {} if change.remove is None else _removed(change.remove)
        return cls(
            context=keys, ids=ids, **removed, at_most=change.limits.rewind_messages, timed=True
        )


def _names(named: NamedMessages) -> dict[str, Any]:
    """Return the fields of a request for named messages; no seq is too large for an entry's id."""
    return {"by_id": named.ids, "by_seq": tuple(map(str, named.seqs))}


def _removed(remove: Removal) -> dict[str, Any]:
    """Return the fields of a request for what a change removes."""
    if isinstance(remove, NamedMessages):
        return _names(remove)
    if isinstance(remove, OldestMessages):
        before = remove.before_seq
        below = "+" if before is None or before > _LARGEST else f"({max(before, 1)}-0"
        return {"before": below, "keep": min(remove.keep, _LARGEST)}
    return {"first": f"{remove.first}-0", "last": f"{min(remove.last, _LARGEST)}-0"}


@hides("context", "window", "known")
class StoredSession(msgspec.Struct, frozen=True):
    """The reply of ``read.lua``. ``header`` is ``None`` if the session does not exist."""

    namespace: str
    session_id: str
    header: SessionMetadata | None
    context: list[bytes | None]
    window: list[Any]
    known: list[Any]
    removable: list[Any]
    is_whole: bool
    time: list[bytes] | None = None

    @classmethod
    def of(cls, namespace: str, session_id: str, answer: Sequence[Any]) -> StoredSession:
        """Decode the reply; ``CorruptRecordError`` if the header cannot be read."""
        values, context, window, known, removable, streamed, indexed, now = answer
        header = header_of(namespace, session_id, values)
        count = 0 if header is None else header.message_count
        is_whole = streamed == count == indexed
        return cls(namespace, session_id, header, context, window, known, removable, is_whole, now)

    def snapshot(self, request: ReadRequest, window: Window | None) -> Snapshot | None:
        """Return what a provider's ``read`` returns."""
        if self.header is None:
            self._refuse_if_damaged()
            return None
        context = _context_entries(self.context) if request.whole_context else None
        if window is None:
            return Snapshot(header=self.header, context=context)
        self._refuse_if_damaged()
        messages, has_more = window.fill(_messages(self.window))
        return Snapshot(header=self.header, context=context, messages=messages, has_more=has_more)

    def state(self, change: Change) -> State:
        """Return what ``apply_change`` needs to know."""
        held = zip(change.context_keys, self.context, strict=True)
        if self.header is None:
            if not change.must_be_expired:  # a sweeper removes what is left
                self._refuse_if_damaged()
            return State()
        if change.create is None and (change.message_ids or change.remove is not None):
            self._refuse_if_damaged()
        return State(
            header=self.header,
            context={key: value for key, value in held if value is not None},
            known={message.id: message for message in _messages(self.known)},
            removable=tuple((_seq(entry), name.decode()) for entry, name in self.removable),
        )

    def _refuse_if_damaged(self) -> None:
        """Raise ``CorruptRecordError`` if the session has lost one of its keys."""
        if not self.is_whole:
            problem = "it has lost one of its keys: the header and the messages do not match"
            raise CorruptRecordError(self.namespace, self.session_id, problem)


def header_of(
    namespace: str, session_id: str, values: Sequence[bytes | None] | None
) -> SessionMetadata | None:
    """Decode the header in these fields; ``None`` if all are missing."""
    if values is None or values.count(None) == len(values):
        return None
    try:
        texts = [None if value is None else value.decode() for value in values]
    except UnicodeDecodeError as error:
        problem = "its header is not UTF-8"
        raise CorruptRecordError(namespace, session_id, problem) from error
    return decode_header(dict(zip(HEADER_FIELDS, texts, strict=True)), namespace, session_id)


def _seq(entry_id: bytes) -> int:
    return int(entry_id[:-2])  # without its "-0"


def _messages(entries: Sequence[bytes]) -> Iterator[StoredMessage]:
    """Decode stream entries: ids and records, alternating."""
    for entry_id, record in zip(entries[::2], entries[1::2], strict=True):
        message_id, created_at, body = record.split(b"\n", 2)
        yield StoredMessage(int(entry_id[:-2]), message_id.decode(), instant(created_at), body)


def _context_entries(hash_entries: Sequence[Any]) -> dict[str, bytes]:
    prefix = len(CONTEXT_PREFIX)
    pairs = zip(hash_entries[::2], hash_entries[1::2], strict=True)
    return {
        name[prefix:].decode(): value for name, value in pairs if name.startswith(CONTEXT_PREFIX)
    }
