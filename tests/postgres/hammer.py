"""One of several processes that write to a few sessions: ``python -m tests.postgres.hammer``.

Arguments: URL, seconds, number of callers. It prints the ids of the acknowledged messages as JSON,
and fails on any error that concurrent writers do not explain.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
import time

from agent_cores.session.errors import SessionExistsError, SessionNotFoundError, StaleHeaderError
from agent_cores.session.models import Query, SessionMetadata
from agent_cores.session.models.times import utc_now
from agent_cores.session.storage.postgres.provider import PostgresProvider
from agent_cores.session.testing.samples import new_context
from tests.sql_stores import append, change, create

SESSIONS = 20
PASSING = "passing"
"""The session that is removed and created repeatedly."""


class Hammer:
    def __init__(self, provider: PostgresProvider) -> None:
        self.acknowledged: list[str] = []
        self._provider = provider
        self._headers: dict[str, SessionMetadata] = {}

    async def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                await self._write_once()
            except StaleHeaderError:
                self._headers.clear()

    async def _write_once(self) -> None:
        header = await self._header(f"s{random.randrange(SESSIONS)}")
        kind = random.random()
        if kind < 0.7:
            ids = [secrets.token_hex(8) for _ in range(random.randint(1, 3))]
            self._keep((await self._provider.apply(append(header, *ids))).header)
            self.acknowledged += ids
        elif kind < 0.85:
            context = new_context(**{f"k{random.randrange(5)}": secrets.token_hex(8)})
            self._keep((await self._provider.apply(change(header, context_set=context))).header)
        elif kind < 0.95:
            tags = random.sample("abcde", 2)
            applied = await self._provider.apply(change(header, metadata={"tags": tags}))
            self._keep(applied.header)
        elif kind < 0.97:
            await self._provider.find(Query(namespace="default", owner_id="ann", at=utc_now()))
        elif kind < 0.98:
            await self._provider.due(utc_now(), 10, 30)
        else:
            await self._replace()

    async def _replace(self) -> None:
        try:
            held = await self._provider.read("default", PASSING)
            if held is not None:
                await self._provider.apply(change(held.header, delete=True))
            await create(self._provider, PASSING, incarnation=secrets.randbits(63))
        except (SessionExistsError, SessionNotFoundError):
            return  # another process was first

    async def _header(self, session_id: str) -> SessionMetadata:
        header = self._headers.get(session_id)
        if header is None:
            look = await self._provider.read("default", session_id)
            assert look is not None
            header = self._keep(look.header)
        return header

    def _keep(self, header: SessionMetadata) -> SessionMetadata:
        self._headers[header.session_id] = header
        return header


async def main(url: str, seconds: float, callers: int) -> None:
    provider = PostgresProvider.from_url(url)
    await provider.initialize()
    hammer = Hammer(provider)
    await asyncio.gather(*(hammer.run(seconds) for _ in range(callers)))
    await provider.shutdown()
    sys.stdout.write(json.dumps(hammer.acknowledged))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
