"""``Node``: one server, the queues of commands for it, and the flights that send them.

It uses redis-py's connections (pool, TLS, authentication, parser), not its commands, which wait for
each reply.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from agent_cores.session.storage.batching import Coalescer
from agent_cores.session.storage.pool_use import PoolUse
from agent_cores.session.storage.redis.driver import (
    AbstractConnection,
    RedisClusterException,
    read_reply,
)
from agent_cores.session.storage.redis.errors import (
    BROKEN,
    REPLIES,
    LostAnswerError,
    NotSentError,
    describe,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent_cores.session.storage.abandoned import Abandoned
    from agent_cores.session.storage.redis.commands import Command
    from agent_cores.session.storage.redis.topology import Topology

    Group = Sequence[Command]

ALONE_BYTES = 64 * 1024
"""Bytes from which a command is sent alone, so that it delays no others."""
GROUP = 2_048
"""The most commands in one group: the headers of the longest page of two concurrent lists."""

_READ_GROUP_BYTES = 1024 * 1024
LONGEST_PAUSE = 0.2
"""The most seconds between two attempts to reach a server."""


class Node:
    """One server. Callers that wait at the same time share a flight."""

    def __init__(
        self,
        topology: Topology,
        address: str,
        abandoned: Abandoned[bytes],
        *,
        pool_size: int,
        timeout: float,
        max_queued: int,
    ) -> None:
        self._topology = topology
        self._address = address
        self._timeout = timeout
        self._abandoned = abandoned
        self._closed = False
        self._free = asyncio.Semaphore(pool_size)
        self._pool_size = pool_size
        self._flights = 0
        self._writes: Coalescer[Command, Any] = Coalescer(
            self._exchange, lanes=2, max_queued=max_queued, on_abandoned=self._abandon
        )
        self._reads: Coalescer[Command, Any] = Coalescer(
            self._exchange, lanes=2, max_queued=max_queued
        )
        self._large: Coalescer[Command, Any] = Coalescer(
            self._exchange,
            lanes=pool_size,
            max_items=1,
            max_queued=max_queued,
            on_abandoned=self._abandon,
        )
        self._write_groups: Coalescer[Group, list[Any]] = Coalescer(
            self._exchange_groups, lanes=2, max_queued=max_queued
        )
        self._read_groups: Coalescer[Group, list[Any]] = Coalescer(
            self._exchange_groups, max_bytes=_READ_GROUP_BYTES, max_queued=max_queued
        )

    async def send(self, command: Command) -> Any:  # noqa: ANN401 - whatever the server replies
        """Send one command, with others that wait, and return its reply."""
        size = len(command.packed)
        if size >= ALONE_BYTES:
            queue = self._large
        else:
            queue = self._reads if command.reads else self._writes
        return await queue.submit(command, size)

    async def send_group(self, commands: Group) -> list[Any]:
        """Send commands in one flight; return a reply or an error for each, in order.

        A group costs one wait, however many commands it has.
        """
        queue = self._read_groups if commands[0].reads else self._write_groups
        return await queue.submit(commands, sum([len(command.packed) for command in commands]))

    def _abandon(self, command: Command, reply: asyncio.Future[Any]) -> None:
        if command.key is not None and not command.reads:
            self._abandoned.add(command.key, reply)

    def pool_use(self) -> PoolUse:
        """Return how many connections are in use, and how many flights wait for one."""
        return PoolUse.of(self._pool_size, self._flights)

    async def drain(self) -> None:
        """Accept no more commands, and return once all have a reply."""
        for queue in self._queues():
            await queue.drain()

    def _queues(self) -> tuple[Coalescer[Any, Any], ...]:
        return self._writes, self._reads, self._large, self._write_groups, self._read_groups

    def close(self) -> None:
        """Send no more commands."""
        self._closed = True

    async def _exchange_groups(self, groups: Sequence[Group]) -> list[list[Any]]:
        answers = iter(await self._exchange([command for group in groups for command in group]))
        return [list(islice(answers, len(group))) for group in groups]

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one flight; return a reply or an error for each.

        The timeout covers all of it, including the time to connect.
        """
        if self._closed:
            detail = "the store is shut down"
            raise NotSentError(detail)
        flight = _Flight(commands)
        self._flights += 1
        try:
            async with asyncio.timeout(self._timeout), self._free:
                connection = await self._topology.acquire(self._address)
                try:
                    await flight.go(connection)
                finally:
                    await self._topology.release(self._address, connection)
        except (*BROKEN, RedisClusterException) as error:
            return flight.broken_off(error)
        finally:
            self._flights -= 1
        return flight.answers


class _Flight:
    """Commands that are sent over one connection, and the replies so far."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self._left = False
        self.answers: list[Any] = []

    async def go(self, connection: AbstractConnection) -> None:
        """Send the commands and read their replies; close the connection if that fails."""
        try:
            packed = b"".join([command.packed for command in self._commands])
            self._left = True
            await connection.send_packed_command(packed, check_health=False)
            for command in self._commands:
                for _ in range(command.replies - 1):
                    await _reply(connection)
                self.answers.append(await _reply(connection))
        except BaseException:
            await connection.disconnect(nowait=True)  # else the next user would read these replies
            raise

    def broken_off(self, error: Exception) -> list[Any]:
        """Return the replies, and an error for each that is missing."""
        if not self._left:
            raise NotSentError(describe(error)) from error
        lost = LostAnswerError(describe(error))
        lost.__cause__ = error
        return self.answers + [lost] * (len(self._commands) - len(self.answers))


async def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - as above
    """Read one reply, which may be an error reply."""
    try:
        return await read_reply(connection)
    except REPLIES as error:
        return error


class ServerClocks:
    """Estimates the servers' clocks, in milliseconds since 1970; an estimate is never too low.

    A write carries the sender's estimate of the server's clock from before it was queued. The
    server counts the time since then as the time that the write waited.
    """

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}

    def note(self, address: str, asked_at: float, answer: Sequence[bytes]) -> None:
        """Record a server's reply to ``TIME``, which was sent at that ``time.monotonic()``.

        The reply counts as of the moment of sending, so that the response time never looks like a
        wait. The quickest reply is kept, until the clock has certainly been set.
        """
        seconds, micros = answer
        offset = int(seconds) * 1000 + int(micros) / 1000 - asked_at * 1000
        known = self._offsets.get(address)
        took = (time.monotonic() - asked_at) * 1000
        if known is None or offset < known or offset - took > known:
            self._offsets[address] = offset

    def now(self, address: str | None) -> int | None:
        """Return what a server's clock shows now; ``None`` if it is unknown."""
        offset = None if address is None else self._offsets.get(address)
        return None if offset is None else int(offset + time.monotonic() * 1000) + 1
