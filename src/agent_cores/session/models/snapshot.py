"""One atomic look at one session: what a provider's ``read`` takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.models.limits import DEFAULT_LIMITS
from agent_cores.session.models.message import StoredMessage
from agent_cores.session.models.representation import hides
from agent_cores.session.models.session import SessionMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages to read: the latest ``limit``, or those next before or after a seq.

    At most one of ``before_seq`` and ``after_seq`` is given. The page ends at ``limit`` messages or
    ``max_bytes`` of bodies, whichever comes first, and holds at least one message if there is one.
    """

    limit: int = 50
    before_seq: int | None = None
    after_seq: int | None = None
    max_bytes: int = DEFAULT_LIMITS.page_bytes

    @property
    def forward(self) -> bool:
        """Whether the page is filled from its oldest message on (else from its newest back)."""
        return self.after_seq is not None

    def fill(self, candidates: Iterable[StoredMessage]) -> tuple[list[StoredMessage], bool]:
        """Take a page from messages in reading direction; return it ascending, and if more follow.

        ``candidates`` are those past the bound, nearest to it first; give one more than ``limit``.
        """
        page: list[StoredMessage] = []
        room = self.max_bytes
        has_more = False
        for message in candidates:
            room -= len(message.body)
            if len(page) == self.limit or (page and room < 0):
                has_more = True
                break
            page.append(message)
        if not self.forward:
            page.reverse()
        return page, has_more

    def select(self, messages: Sequence[StoredMessage]) -> tuple[list[StoredMessage], bool]:
        """Take a page from all messages of a session, given in order of seq."""
        after, before = self.after_seq, self.before_seq
        if after is not None:
            return self.fill(message for message in messages if message.seq > after)
        backwards = reversed(messages)
        if before is None:
            return self.fill(backwards)
        return self.fill(message for message in backwards if message.seq < before)


@hides("context")
class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The header and what else was asked for, all of one instant. ``None``: not asked for."""

    header: SessionMetadata
    context: dict[str, bytes] | None = None
    messages: list[StoredMessage] | None = None
    has_more: bool = False
