"""The other process: opens a store by its URL and executes commands that it receives over pipes.

``python -m agent_cores.session.testing.worker URL`` reads one JSON object per line and responds to
each with one: ``{"result": …}``, or ``{"error": code, "type": name}`` for an error of this package.
Every command carries ``at``, the time of the suite's clock in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from agent_cores.session.errors import (
    SessionError,
    SessionMovedError,
    SessionNotFoundError,
    StaleHeaderError,
)
from agent_cores.session.models.times import from_millis
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.storage import StorageFactory
from agent_cores.session.testing.samples import change_of, new_message
from agent_cores.session.testing.store import suite_settings

if TYPE_CHECKING:
    from datetime import datetime

    from agent_cores.session.storage import StorageProvider


class Orders:
    """The commands of the other process: one method each."""

    def __init__(self, provider: StorageProvider) -> None:
        self._provider = provider
        self._at = from_millis(0)
        self._manager = SessionManager(provider, settings=suite_settings(), clock=lambda: self._at)

    async def start(self) -> None:
        """Open the store."""
        await self._manager.initialize()

    async def stop(self) -> None:
        """Close the store."""
        await self._manager.shutdown()

    async def obey(self, order: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Execute one command."""
        self._at = max(self._at, from_millis(order.pop("at")))
        return await getattr(self, "do_" + order.pop("do"))(**order)

    async def do_verb(self, name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        """Call a verb of the manager."""
        return msgspec.to_builtins(await getattr(self._manager, name)(**arguments))

    async def do_say(self, session_id: str, user_id: str, texts: list[str]) -> list[int]:
        """Append each text as its own message, concurrently; return their seqs."""
        messages = await asyncio.gather(
            *(
                self._manager.add_message(session_id, user_id, "user", text, message_id=text)
                for text in texts
            )
        )
        return [message.seq for message in messages]

    async def do_start_appending(self, session_id: str, user_id: str, callers: int) -> None:
        """Append messages without a pause until ``stop_appending``."""
        self._appending = True
        self._appenders = [
            asyncio.create_task(self._keep_appending(session_id, user_id)) for _ in range(callers)
        ]

    async def do_stop_appending(self) -> list[int]:
        """Stop, and return the seqs of all messages."""
        self._appending = False
        return [seq for seqs in await asyncio.gather(*self._appenders) for seq in seqs]

    async def _keep_appending(self, session_id: str, user_id: str) -> list[int]:
        seqs = []
        while self._appending:
            added = await self._manager.add_message(session_id, user_id, "user", "more")
            seqs.append(added.seq)
        return seqs

    async def do_append(self, session_id: str, ids: list[str]) -> list[int]:
        """Append messages to the provider, each in its own concurrent change; return their seqs."""
        snapshot = await self._provider.read("default", session_id)
        if snapshot is None:
            raise SessionNotFoundError
        header = snapshot.header
        changes = [
            change_of(header, self._at, append=(new_message(name, at=self._at),), basis=header)
            for name in ids
        ]
        answers = await asyncio.gather(*(self._provider.apply(change) for change in changes))
        return [answer.messages[0].seq for answer in answers]

    async def do_sweep(self, limit: int) -> list[str]:
        """Lease and remove expired sessions until none is left; return the ids removed here."""
        removed = []
        at: datetime = self._at
        while ended := await self._provider.due(at, limit, 30):
            for taken in ended:
                try:
                    await self._provider.apply(taken.removal(at))
                except (SessionNotFoundError, StaleHeaderError, SessionMovedError):
                    continue
                removed.append(taken.session_id)
        return removed


async def serve(url: str) -> None:
    """Execute commands until the pipe is closed."""
    orders = Orders(StorageFactory.create(url))
    await orders.start()
    _answer({"result": "ready"})
    while line := await asyncio.to_thread(sys.stdin.buffer.readline):
        try:
            _answer({"result": await orders.obey(msgspec.json.decode(line))})
        except SessionError as error:
            _answer({"error": error.code, "type": type(error).__name__})
    await orders.stop()


def _answer(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
