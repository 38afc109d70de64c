"""``Window`` and ``Snapshot``: what a provider's ``read`` takes and returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.selection import NamedMessages
from agent_cores.session.models.session import SessionMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages to read: the latest ``limit``, those next to a seq, or those named.

    At most one of ``before_seq``, ``after_seq`` and ``named`` is given; ``limit`` is the number of
    messages that are named. The page ends at ``limit`` messages or ``max_bytes`` of bodies,
    whichever comes first, and holds at least one message if there is one.

    A ``capped`` page, for lists, holds none that passes ``max_bytes``, though it be the first, and
    need not tell whether more follow.
    """

    limit: int = 50
    before_seq: int | None = None
    after_seq: int | None = None
    max_bytes: int = DEFAULT_LIMITS.page_bytes
    named: NamedMessages | None = None
    capped: bool = False

    @classmethod
    def of(cls, named: NamedMessages, *, max_bytes: int = DEFAULT_LIMITS.page_bytes) -> Window:
        """Return the window that holds the named messages, ascending by seq."""
        return cls(limit=named.count, max_bytes=max_bytes, named=named)

    @property
    def forward(self) -> bool:
        """Whether the page is filled from its oldest message (else from its newest)."""
        return self.after_seq is not None or self.named is not None

    def fill(self, candidates: Iterable[StoredMessage]) -> tuple[list[StoredMessage], bool]:
        """Return a page of the candidates, ascending, and whether more follow.

        ``candidates`` are the messages beyond the given seq, nearest to it first: one more than
        ``limit`` of them, if there are so many. Those named come in ascending order.
        """
        page: list[StoredMessage] = []
        room = self.max_bytes
        has_more = False
        for message in candidates:
            room -= len(message.body)
            if len(page) == self.limit or (room < 0 and (page or self.capped)):
                has_more = True
                break
            page.append(message)
        if not self.forward:
            page.reverse()
        return page, has_more

    def select(self, messages: Sequence[StoredMessage]) -> tuple[list[StoredMessage], bool]:
        """Return a page of all messages, given by rising seq, and whether more follow."""
        after, before, named = self.after_seq, self.before_seq, self.named
        if named is not None:
            return self.fill(named.among(messages))
        if after is not None:
            return self.fill(message for message in messages if message.seq > after)
        backwards = reversed(messages)
        if before is None:
            return self.fill(backwards)
        return self.fill(message for message in backwards if message.seq < before)


@hides("context")
class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One session at one instant: the header and what else was asked for (``None``: not asked)."""

    header: SessionMetadata
    context: dict[str, bytes] | None = None
    messages: list[StoredMessage] | None = None
    has_more: bool = False
