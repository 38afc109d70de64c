"""What a saver knows of threads, so that it need not read it again before each write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_cores.session.adapters.langgraph_layout import Record

_MOST = 10_000
_MOST_NAMESPACES = 1_000


class _Log:
    """A stretch of a log in which this saver alone has written."""

    def __init__(self, seq: int) -> None:
        self.last_seq = seq
        self.is_whole = seq == 1
        self.tips: dict[str, str] = {}


class Known:
    """Bounded: what is forgotten is read again. Whatever it says is compared by the store."""

    def __init__(self) -> None:
        self._opened: set[str] = set()
        self._logs: dict[str, _Log] = {}
        self._slots: dict[str, int] = {}

    def is_open(self, session_id: str) -> bool:
        """Return whether a session has been opened."""
        return session_id in self._opened

    def opened(self, session_id: str) -> None:
        """Note a session that has been opened."""
        if len(self._opened) >= _MOST:
            self._opened.clear()
        self._opened.add(session_id)

    def followed_by(self, log: str, record: Record) -> int | None:
        """Return the last seq of a log, if only this saver has put into it since the parent.

        The parent must also be the greatest of its namespace; ``None`` if that is not known.
        """
        known = self._logs.get(log)
        if known is None:
            return None
        tip = known.tips.get(record.namespace)
        if tip is None:
            return known.last_seq if known.is_whole and record.parent_id is None else None
        return known.last_seq if tip == record.parent_id and tip < record.checkpoint_id else None

    def put(self, log: str, record: Record, seq: int) -> None:
        """Note a checkpoint of this saver that is the greatest of its namespace."""
        known = self._logs.get(log)
        if known is None or known.last_seq != seq - 1 or len(known.tips) >= _MOST_NAMESPACES:
            if len(self._logs) >= _MOST:
                self._logs.clear()
            known = self._logs[log] = _Log(seq)
        known.last_seq = seq
        known.tips[record.namespace] = record.checkpoint_id

    def slot(self, of: str) -> int:
        """Return a slot of a checkpoint after those that this saver has used."""
        return self._slots.get(of, 0)

    def used(self, of: str, slot: int) -> None:
        """Note that a slot and those before it are used."""
        if len(self._slots) >= _MOST:
            self._slots.clear()
        self._slots[of] = max(self._slots.get(of, 0), slot + 1)

    def forget_log(self, log: str) -> None:
        """Forget what was put into a log."""
        self._logs.pop(log, None)

    def forget(self, *session_ids: str) -> None:
        """Forget a thread that is gone."""
        self._opened.difference_update(session_ids)
        for session_id in session_ids:
            self._logs.pop(session_id, None)
