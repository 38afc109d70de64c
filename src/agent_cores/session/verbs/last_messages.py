"""The last messages of listed sessions, read so that few bytes are held at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from agent_cores.session.models.snapshot import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.decision import ReadResult
    from agent_cores.session.models.session import SessionMetadata

_FEW = 2
"""How many large messages are read together at first: their sizes are not known before."""


class _Read(Protocol):
    async def __call__(
        self, headers: Sequence[SessionMetadata], *, window: Window
    ) -> list[ReadResult]: ...


async def read_last_messages(
    read: _Read, headers: list[SessionMetadata], room: int
) -> tuple[list[ReadResult], bool]:
    """Read the last message of each session; return the results, and whether none is missing.

    One read takes messages of at most ``room`` bytes together, which is enough for a usual page.
    Those that were too large for it are read after it, a few at a time, until the room is full: the
    results end there. So little more than the room and one message are held in memory.
    """
    found: dict[str, ReadResult] = {}
    rest, few = headers, len(headers)
    while rest and (room > 0 or rest[0] is headers[0]):
        part, rest = rest[:few], rest[few:]
        window = Window(limit=1, max_bytes=max(room, 0) // len(part), capped=len(part) > 1)
        results = await read(part, window=window)
        found |= {result.snapshot.header.session_id: result for result in results}
        room -= sum(map(bytes_of_messages, results))
        large = {
            result.snapshot.header.session_id
            for result in results
            if window.capped
            and result.snapshot.header.message_count
            and not result.snapshot.messages
        }
        few = (min(len(part) // 2, _FEW) or 1) if large else 2 * len(part)
        rest = [header for header in part if header.session_id in large] + rest
    known = headers[: headers.index(rest[0])] if rest else headers
    results = [found[header.session_id] for header in known if header.session_id in found]
    return results, not rest


def bytes_of_messages(result: ReadResult) -> int:
    """Return how many bytes the bodies of the messages in a result take."""
    return sum([len(message.body) for message in result.snapshot.messages or ()])
