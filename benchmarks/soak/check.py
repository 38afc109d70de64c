"""Whether everything that was acknowledged is stored, once, under seqs without holes."""

from __future__ import annotations

from typing import NamedTuple

from agent_cores.session import SessionManager, SessionSettings
from benchmarks.soak.load import Load


class Found(NamedTuple):
    """What the store holds: messages, and what is wrong with them."""

    messages: int
    lost: int
    twice: int
    holes: int


async def stored(storage: str, load: Load) -> Found:
    """Read every session of the load from the store itself."""
    messages = lost = twice = holes = 0
    settings = SessionSettings(cleanup_interval=0, timeout=60)
    async with SessionManager(storage, settings=settings) as manager:
        for session, user in load.sessions:
            seqs: list[int] = []
            ids: list[str] = []
            after = 0
            while page := await manager.get_session_messages(
                session, user, limit=1_000, after_seq=after
            ):
                seqs += [message.seq for message in page]
                ids += [message.id for message in page]
                after = seqs[-1]
            known = set(ids)
            messages += len(ids)
            twice += len(ids) - len(known)
            holes += seqs != list(range(1, len(seqs) + 1))
            lost += sum(f"m{number}" not in known for number in load.acknowledged[session])
    return Found(messages, lost, twice, holes)
