"""What a saver knows of threads, so that it need not read it again before each write."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agent_cores.session.adapters.layouts.langgraph import Carried, Record, Version

_MOST = 10_000
_MOST_NAMESPACES = 1_000
_MOST_VALUES = 20_000
"""The most values of checkpoints; each takes about half a KiB. A checkpoint counts as one more."""


class Held(NamedTuple):
    """The values that a checkpoint carries, and the other versions of channels that it names."""

    carried: Carried
    others: frozenset[Version]


NOTHING = Held({}, frozenset())


class Tip(NamedTuple):
    """The greatest checkpoint of a namespace, and what it holds."""

    checkpoint_id: str
    held: Held

    @property
    def size(self) -> int:
        """How much of what may be known it takes."""
        return 1 + len(self.held.carried) + len(self.held.others)


class Followed(NamedTuple):
    """What a checkpoint follows: the log's last seq and version, and what its parent holds."""

    last_seq: int
    version: str
    held: Held


class _Log:
    """A stretch of a log in which this saver alone has written."""

    def __init__(self, seq: int, version: str) -> None:
        self.last_seq = seq
        self.version = version
        self.is_whole = seq == 1
        self.tips: dict[str, Tip] = {}

    @property
    def size(self) -> int:
        """How much of what may be known it takes."""
        return sum(tip.size for tip in self.tips.values())


class Known:
    """Bounded: what is forgotten is read again. Whatever it says is compared by the store."""

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self._logs: dict[str, _Log] = {}
        self._size = 0
        self._slots: dict[str, int] = {}
        self._states: dict[str, str] = {}

    def is_open(self, log: str) -> bool:
        """Return whether the sessions of a thread have been opened."""
        return log in self._opened

    def opened(self, log: str) -> None:
        """Note a thread whose sessions have been opened."""
        if len(self._opened) >= _MOST:
            self._opened.clear()
        self._opened.add(log)

    def followed_by(self, log: str, record: Record) -> Followed | None:
        """Return what a checkpoint comes after.

        Only this saver must have put into it since the parent, and the parent must be the greatest
        of its namespace; ``None`` if that is not known.
        """
        known = self._logs.get(log)
        if known is None:
            return None
        tip = known.tips.get(record.namespace)
        if tip is None:
            if known.is_whole and record.parent_id is None:
                return Followed(known.last_seq, known.version, NOTHING)
            return None
        if tip.checkpoint_id == record.parent_id and record.parent_id < record.checkpoint_id:
            return Followed(known.last_seq, known.version, tip.held)
        return None

    def put(self, log: str, record: Record, held: Held, seq: int, version: str) -> None:
        """Note a checkpoint of this saver that is the greatest of its namespace.

        The log had that version before, which an append does not change.
        """
        known = self._logs.get(log)
        if known is None or known.last_seq != seq - 1 or len(known.tips) >= _MOST_NAMESPACES:
            self.forget_log(log)
            known = self._logs[log] = _Log(seq, version)
        known.last_seq, known.version = seq, version
        before, tip = known.tips.get(record.namespace), Tip(record.checkpoint_id, held)
        known.tips[record.namespace] = tip
        self._size += tip.size - (0 if before is None else before.size)
        if self._size > _MOST_VALUES:
            self._logs.clear()
            self._size = 0

    def slot(self, of: str) -> int:
        """Return a slot of a checkpoint after those that this saver has used."""
        return self._slots.get(of, 0)

    def used(self, of: str, slot: int) -> None:
        """Note that a slot and those before it are used."""
        if len(self._slots) >= _MOST:
            self._slots.clear()
        self._slots[of] = max(self._slots.get(of, 0), slot + 1)

    def state(self, data: str) -> str | None:
        """Return the state of a thread's data in which it was seen last, ``None`` if never.

        As long as the data is in the same state, nothing has been removed from it.
        """
        return self._states.get(data)

    def seen(self, data: str, state: str) -> None:
        """Note the state in which data was seen."""
        if len(self._states) >= _MOST:
            self._states.clear()
        self._states[data] = state

    def forget_log(self, log: str) -> None:
        """Forget what was put into a log."""
        known = self._logs.pop(log, None)
        self._size -= known.size if known is not None else 0

    def forget(self, log: str) -> None:
        """Forget a thread that is gone."""
        self._opened.discard(log)
        self.forget_log(log)
