"""What ``OpenAIResponsesCompactionSession`` of the Agents SDK calls on the session that it wraps.

These hooks are private to the SDK: newer releases look for them by name, and older ones never call
them. Nothing else of the adapter depends on them. They replace messages only if no other message
has come since those that the summary was made from, so a compaction loses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.adapters.layouts.openai_agents import item_of, message_of
from agent_cores.session.adapters.reading import messages_after
from agent_cores.session.errors import (
    AccessDeniedError,
    ConflictError,
    SessionError,
    SessionNotFoundError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agent_cores.session.adapters.owner import Acting
    from agent_cores.session.models.message import Message


class History(NamedTuple):
    """The latest messages of a session, and its state. ``complete``: there are no others.

    ``version`` is ``None`` if there is no session.
    """

    messages: list[Message]
    last_seq: int
    version: str | None
    complete: bool


@dataclass(frozen=True)
class Snapshot:
    """The latest items, and a function that replaces those from an index on.

    The function returns whether it did: not if the session has changed since, and not for a user
    who does not own it.
    """

    items: list[Any]
    complete: bool
    replace_suffix: Callable[[int, list[Any]], Awaitable[bool]]


class Covered:
    """The last seq that a summary covers at least, which is made of what one object has seen.

    The SDK does not tell which items it summarised; it remembers those of a first read, and those
    added since. Messages that others wrote in between are therefore not covered.
    """

    def __init__(self) -> None:
        self.last_seq: int | None = None

    def forget(self) -> None:
        """Begin anew with the next read."""
        self.last_seq = None

    def read(self, history: History) -> None:
        """Note the first read."""
        if self.last_seq is None:
            self.last_seq = history.last_seq

    def added(self, messages: Sequence[Message]) -> None:
        """Note own messages, if they follow what is covered."""
        if messages and self.last_seq == messages[0].seq - 1:
            self.last_seq = messages[-1].seq


class CompactionHooks(ABC):
    """The private hooks, for a session that is stored under an id of ours."""

    def __init__(self, stored_id: str) -> None:
        self._stored_id = stored_id
        self._covered = Covered()

    @abstractmethod
    def _is_changed(self) -> bool: ...

    @abstractmethod
    def _acting(self) -> Acting: ...

    @abstractmethod
    async def _history(self, acting: Acting, limit: int) -> History: ...

    async def _get_compaction_snapshot(
        self,
        limit: int,
        *,
        prune_prefix: Callable[[Any], bool] | None = None,
    ) -> Snapshot | None:
        """Return the latest ``limit`` items, to be replaced by a summary in one write.

        ``prune_prefix`` tells which items have expired. Those that the session begins with, up to
        the first that has not, are removed after a replacement, if the user may do that.
        """
        if self._is_changed():
            return None
        acting = self._acting()
        history = await self._history(acting, limit)
        messages = history.messages

        async def replace_suffix(start: int, output: list[Any]) -> bool:
            if not messages[start:]:
                return False
            try:
                await self._replace(acting, output, messages[start].seq - 1, history)
            except (AccessDeniedError, ConflictError, SessionNotFoundError):
                return False
            if prune_prefix is not None:
                await self._prune(acting, prune_prefix, messages[start].seq)
            return True

        return Snapshot(
            [item_of(message) for message in messages], history.complete, replace_suffix
        )

    async def _atomic_replace_items(self, items: list[Any]) -> bool:
        """Replace all items in one write. Raises ``ConflictError`` if some are not covered.

        Nothing is replaced then. The next compaction reads the items anew.
        """
        if self._is_changed():
            return False
        acting = self._acting()
        covered = self._covered.last_seq
        self._covered.forget()
        history = await self._history(acting, 1)
        if history.version is None:
            return False
        if covered is not None:
            history = history._replace(last_seq=covered)
        await self._replace(acting, items, 0, history)
        return True

    async def _prune(
        self, acting: Acting, is_expired: Callable[[Any], bool], before_seq: int
    ) -> None:
        """Remove the expired messages that the session begins with. What failed, the next does."""
        try:
            last = await self._last_expired(acting, is_expired, before_seq)
            if last:
                verbs, user_id = acting
                await verbs.delete_messages(self._stored_id, user_id, before_seq=last + 1)
        except SessionError:
            return

    async def _last_expired(
        self, acting: Acting, is_expired: Callable[[Any], bool], before_seq: int
    ) -> int:
        last = 0
        async for page in messages_after(acting, self._stored_id):
            for message in page:
                if message.seq >= before_seq or not is_expired(item_of(message)):
                    return last
                last = message.seq
        return last

    async def _replace(
        self, acting: Acting, items: list[Any], after_seq: int, history: History
    ) -> None:
        verbs, user_id = acting
        messages = [message_of(item, index) for index, item in enumerate(items)]
        expected: Any = {
            "expected_last_seq": history.last_seq,
            "expected_version": history.version,
        }
        if messages:
            await verbs.replace_messages(
                self._stored_id, user_id, messages, after_seq=after_seq, **expected
            )
        else:
            await verbs.rewind_session(self._stored_id, user_id, after_seq, **expected)
        self._covered.forget()
