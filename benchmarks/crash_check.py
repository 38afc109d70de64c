"""Kill the writing process again and again: `python -m benchmarks.crash_check URL KILLS`.

Acknowledgements come through a pipe. The SIGKILL is sent at a random moment at most 100 ms after
the latest one that was read; whatever the pipe still holds counts as acknowledged too. After every
kill, this process opens the store and reads everything new in it; after the last kill, everything.
It prints one JSON line.

lost: acknowledged, but not stored under the acknowledged seq · doubled: stored twice ·
gaps: a seq that does not follow its predecessor.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import selectors
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic

from agent_cores.session import SessionManager

USER = "user"
SESSIONS = 4
CALLERS = 20
WITHIN = 0.1
START_WITHIN = 30.0
PAGE = 1_000


class WriterFailedError(Exception):
    """The writing process exited by itself, or never acknowledged anything."""


@dataclass
class Ledger:
    """What was acknowledged, what is stored, and where the two differ."""

    session_ids: list[str]
    acknowledged: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    last_seq: dict[str, int] = field(default_factory=dict)
    next: list[int] = field(default_factory=lambda: [0] * CALLERS)
    repeated: int = 0
    doubled: int = 0
    gaps: int = 0

    def acknowledge(self, line: str) -> None:
        """One line of the pipe: `<caller> <number> <seq>`."""
        caller, number, seq = (int(word) for word in line.split())
        name = f"{caller}-{number}"
        self.repeated += name in self.stored
        self.acknowledged[name] = seq
        self.next[caller] = number + 1

    def find(self, session_id: str, seq: int, name: str) -> None:
        """One stored message, in the order of its session."""
        self.doubled += name in self.stored
        self.gaps += seq != self.last_seq.get(session_id, 0) + 1
        self.stored[name] = seq
        self.last_seq[session_id] = seq

    def forget_what_is_stored(self) -> None:
        """Reset before everything is read again: only the last read counts."""
        self.stored.clear()
        self.last_seq.clear()
        self.doubled = self.gaps = 0

    @property
    def lost(self) -> int:
        """How many acknowledged messages are not stored under their acknowledged seq."""
        return sum(self.stored.get(name) != seq for name, seq in self.acknowledged.items())


def main() -> None:
    """Create the sessions, kill and check, and print the counts."""
    url, kills = sys.argv[1], int(sys.argv[2])
    ledger = Ledger(asyncio.run(_create_sessions(url)))
    longest = 0.0
    for _ in range(kills):
        longest = max(longest, _write_and_kill(url, ledger))
        asyncio.run(_read_what_is_new(url, ledger))
    ledger.forget_what_is_stored()
    asyncio.run(_read_what_is_new(url, ledger))
    counted = {
        "kills": kills,
        "acknowledged": len(ledger.acknowledged),
        "repeated": ledger.repeated,
        "lost": ledger.lost,
        "doubled": ledger.doubled,
        "gaps": ledger.gaps,
        "longest_ms": longest * 1e3,
    }
    sys.stdout.write(json.dumps(counted) + "\n")


async def _create_sessions(url: str) -> list[str]:
    async with SessionManager(url) as manager:
        return [await manager.create_session(USER) for _ in range(SESSIONS)]


def _write_and_kill(url: str, ledger: Ledger) -> float:
    """Returns the seconds between the latest acknowledgement read and the SIGKILL."""
    plan = {
        "url": url,
        "user_id": USER,
        "session_ids": ledger.session_ids,
        "next": ledger.next,
    }
    command = [sys.executable, "-m", "benchmarks.crash_writer", json.dumps(plan)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        taken, since = _read_for_a_while(writer.stdout.fileno())
        writer.kill()
        taken += writer.stdout.read()
        said = writer.stderr.read().decode()
    if writer.returncode >= 0 or since > WITHIN:
        raise WriterFailedError(said.strip() or "no acknowledgement came")
    for line in taken.decode().splitlines():
        ledger.acknowledge(line)
    return since


def _read_for_a_while(pipe: int) -> tuple[bytes, float]:
    """Read until a random moment after the first; return also the age of the latest."""
    taken, latest = b"", float("-inf")
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        end = monotonic() + START_WITHIN
        while (left := end - monotonic()) > 0 and selector.select(left):
            piece = os.read(pipe, 65_536)
            if not piece:
                break
            if not taken:
                end = monotonic() + random.uniform(0.0, WITHIN * 0.9)
            taken, latest = taken + piece, monotonic()
    return taken, monotonic() - latest


async def _read_what_is_new(url: str, ledger: Ledger) -> None:
    async with SessionManager(url) as manager:
        for session_id in ledger.session_ids:
            async for seq, name in _pages(manager, session_id, ledger.last_seq.get(session_id, 0)):
                ledger.find(session_id, seq, name)


async def _pages(
    manager: SessionManager, session_id: str, after_seq: int
) -> AsyncIterator[tuple[int, str]]:
    """The seq and the text of every message after `after_seq`."""
    more = True
    while more:
        page = await manager.get_session_messages(session_id, USER, limit=PAGE, after_seq=after_seq)
        for message in page:
            yield message.seq, str(message.content)
            after_seq = message.seq
        more = page.has_more


if __name__ == "__main__":
    main()
