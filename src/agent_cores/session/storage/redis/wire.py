"""``Wire``: sends each command to the right server, and retries where that is safe.

A command whose outcome is unknown is sent again only if it is repeatable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from agent_cores.session.backoff import Backoff
from agent_cores.session.deadline import end_after, margin_of, time_left
from agent_cores.session.errors import SessionError, StorageUnavailableError, StoreFormatError
from agent_cores.session.storage.pool_use import PoolUse
from agent_cores.session.storage.redis.commands import Command
from agent_cores.session.storage.redis.connection import (
    GROUP,
    LONGEST_PAUSE,
    Node,
    ServerClocks,
)
from agent_cores.session.storage.redis.driver import (
    AskError,
    BusyLoadingError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    TryAgainError,
)
from agent_cores.session.storage.redis.errors import (
    BROKEN,
    FAILURES,
    REPLIES,
    LostAnswerError,
    NotSentError,
    describe,
    is_transient,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from agent_cores.session.storage.abandoned import Abandoned
    from agent_cores.session.storage.redis.topology import Topology

_QUICK_REDIRECTS = 5

_log = logging.getLogger(__name__)


class Wire:
    """The nodes of a store. ``abandoned`` are the commands whose callers were cancelled, by key."""

    def __init__(
        self,
        topology: Topology,
        abandoned: Abandoned[bytes],
        *,
        pool_size: int,
        timeout: float,
        max_queued: int,
    ) -> None:
        self._topology = topology
        self._abandoned = abandoned
        self._pool_size = pool_size
        self._timeout = timeout
        self._max_queued = max_queued
        self._nodes: dict[str, Node] = {}
        self._clocks = ServerClocks()
        self._suspects: set[str] = set()
        self._search: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Find the nodes, retrying until one answers; ``StorageUnavailableError`` past the timeout.

        A refusal, of a password for instance, is not retried.
        """
        reason: Exception | None = None
        try:
            async with asyncio.timeout(self._timeout):
                backoff = Backoff(longest=LONGEST_PAUSE)
                while (reason := await self._try_open()) is not None:
                    await backoff.pause()
        except TimeoutError as error:
            detail = f"Redis does not answer: {describe(reason or error)}"
            raise StorageUnavailableError(detail) from (reason or error)
        self._closed = False

    async def _try_open(self) -> Exception | None:
        """Find the nodes; return a transient error."""
        try:
            await self._topology.open()
        except REPLIES as error:
            if is_transient(error):
                return error
            detail = f"Redis refuses: {describe(error)}"
            raise StorageUnavailableError(detail) from error
        except (*BROKEN, RedisClusterException) as error:
            return error
        return None

    def pool_use(self) -> PoolUse:
        """Return the use of the connections to all nodes together."""
        uses = [node.pool_use() for node in self._nodes.values()]
        return sum(uses, PoolUse(0)) if uses else PoolUse(self._pool_size)

    async def drain(self) -> None:
        """Accept no more commands, and return once all have a reply."""
        self._closed = True
        await asyncio.gather(*(node.drain() for node in self._nodes.values()))

    async def close(self) -> None:
        """Send no more commands, and close the connections."""
        self._closed = True
        for node in self._nodes.values():
            node.close()
        self._nodes.clear()
        if self._search is not None:
            self._search.cancel()
        await self._topology.close()

    def server_time(self, key: bytes) -> int | None:
        """Return the time of a key's server in milliseconds; ``None`` if it is unknown."""
        return self._clocks.now(self._address_of(key))

    def note_time(self, key: bytes, asked_at: float, answer: Sequence[bytes]) -> None:
        """Record the reply of a key's server to ``TIME``, sent at that ``time.monotonic()``."""
        address = self._address_of(key)
        if address is not None:
            self._clocks.note(address, asked_at, answer)

    def _address_of(self, key: bytes | None) -> str | None:
        try:
            return self._topology.node_of(key)
        except RedisClusterException:
            return None

    async def note_times(self) -> None:
        """Ask every primary for its time; without a reply it stays unknown."""
        addresses = self._topology.primaries()
        await asyncio.gather(*map(self._note_time_of, addresses))

    async def _note_time_of(self, address: str) -> None:
        asked_at = time.monotonic()
        try:
            answer = await self._node(address).send(Command.read("TIME"))
        except (*FAILURES, SessionError) as error:
            _log.debug("the time of a server is unknown: %s", error)
        else:
            self._clocks.note(address, asked_at, answer)

    async def call(self, command: Command) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command, retry it where that is safe, and return the reply.

        Raises ``StorageUnavailableError`` once the timeout has passed. If the response to a command
        that must not be sent twice was lost, raises it at once, with ``outcome_unknown``.
        """
        began, address = time.monotonic(), None
        try:
            address = self._topology.node_of(command.key)
            if address in self._suspects:
                deadline = _Deadline.of_operation(self._timeout)
                address = await self._address_after_search(command.key, deadline)
            return await self._node(address).send(command)
        except FAILURES as error:
            failure = error
        return await self._retry(command, _Deadline.since(began, self._timeout), address, failure)

    async def _retry(
        self, command: Command, deadline: _Deadline, address: str | None, failure: Exception
    ) -> Any:  # noqa: ANN401 - whatever the server answers
        """Retry a command whose first attempt, at that address, failed."""
        delivery = _Delivery(command, deadline)
        while True:
            await self._redeliver(delivery, address, failure)
            try:
                address = delivery.address or self._topology.node_of(command.key)
                async with delivery.in_time():
                    return await self._node(address).send(delivery.command)
            except FAILURES as error:
                failure = error

    async def call_all(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands and return their replies in order; raise the first error."""
        answers = await self.try_all(commands)
        for answer in answers:
            if isinstance(answer, SessionError):
                raise answer
        return answers

    async def call_each(self, commands: Iterable[Command]) -> list[Any]:
        """Do what ``call_all`` does, but return the ``StoreFormatError`` of a key in its place.

        A key with another type of value does not hide the replies of others.
        """
        answers = await self.try_all(commands)
        for answer in answers:
            if isinstance(answer, SessionError) and not isinstance(answer, StoreFormatError):
                raise answer
        return answers

    async def try_all(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands and return the reply or the ``SessionError`` of each, in order.

        Commands for one server share a flight, up to ``GROUP`` of them.
        """
        waiting = list(commands)
        deadline = _Deadline.of_operation(self._timeout)
        answers: list[Any] = []
        for first in range(0, len(waiting), GROUP):
            answers += await self._try_group(waiting[first : first + GROUP], deadline)
        return answers

    async def _try_group(self, commands: Sequence[Command], deadline: _Deadline) -> list[Any]:
        addresses = [self._address_of(command.key) for command in commands]
        groups: dict[str | None, list[Command]] = {}
        for address, command in zip(addresses, commands, strict=True):
            groups.setdefault(address, []).append(command)
        if len(groups) == 1:
            return await self._try_at(addresses[0], commands, deadline)
        parts = await asyncio.gather(
            *(self._try_at(address, group, deadline) for address, group in groups.items())
        )
        answers = dict(zip(groups, map(iter, parts), strict=True))
        return [next(answers[address]) for address in addresses]

    async def _try_at(
        self, address: str | None, commands: Sequence[Command], deadline: _Deadline
    ) -> list[Any]:
        if address is None or address in self._suspects:
            return await asyncio.gather(*map(self._call_or_error, commands))
        try:
            answers = await self._node(address).send_group(commands)
        except (*FAILURES, SessionError) as error:
            answers = [error] * len(commands)
        failed = [n for n, answer in enumerate(answers) if isinstance(answer, FAILURES)]
        again = (self._retry_or_error(commands[n], deadline, address, answers[n]) for n in failed)
        for n, answer in zip(failed, await asyncio.gather(*again), strict=True):
            answers[n] = answer
        return answers

    async def _call_or_error(self, command: Command) -> Any:  # noqa: ANN401 - as above
        try:
            return await self.call(command)
        except SessionError as error:
            return error

    async def _retry_or_error(
        self, command: Command, deadline: _Deadline, address: str | None, failure: Exception
    ) -> Any:  # noqa: ANN401 - as above
        try:
            return await self._retry(command, deadline, address, failure)
        except SessionError as error:
            return error

    async def call_primaries(self, command: Command) -> list[Any]:
        """Send a command to every primary, once."""
        addresses = self._topology.primaries()
        try:
            return await asyncio.gather(*(self._node(name).send(command) for name in addresses))
        except FAILURES as error:
            raise translated(error) from error

    async def _redeliver(self, delivery: _Delivery, address: str | None, error: Exception) -> None:
        """Prepare a retry after the attempt at that address failed, or raise the final error."""
        _log.debug("an attempt to send a command failed: %s: %s", type(error).__name__, error)
        delivery.address, delivery.asking = None, False
        if isinstance(error, NoScriptError) and not delivery.in_full:
            delivery.in_full = True
            return
        if isinstance(error, AskError):  # MovedError is a subclass
            delivery.address = self._topology.redirected(error)
            delivery.asking = not isinstance(error, MovedError)
            delivery.redirects += 1
            if delivery.address is not None and delivery.redirects <= _QUICK_REDIRECTS:
                return
        lost = isinstance(error, LostAnswerError)
        search = None
        if lost or isinstance(error, NotSentError):
            search = self._find_again(address)  # for later callers too, if this one gives up
        if lost and not delivery.repeatable:
            detail = f"the response of Redis was lost: {error}"
            raise StorageUnavailableError(detail, outcome_unknown=True) from error
        if not is_transient(error):
            raise translated(error) from error
        await delivery.pause(error)
        if not isinstance(error, TryAgainError | BusyLoadingError):
            await delivery.wait_for(search or self._find_again(None), error)

    async def _address_after_search(self, key: bytes | None, deadline: _Deadline) -> str:
        """Return the address of a key once the search for the nodes is over."""
        if self._search is not None:
            await asyncio.wait([self._search], timeout=deadline.until_last_start())
            if not self._search.done():
                detail = "the search for the servers is not over"
                raise NotSentError(detail)
        return self._topology.node_of(key)

    def _find_again(self, silent: str | None) -> asyncio.Task[None]:
        """Find the nodes again, in one task for all callers.

        Commands for a node that was silent wait until it is done.
        """
        if silent is not None:
            self._suspects.add(silent)
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._refresh())
        return self._search

    async def _refresh(self) -> None:
        try:
            if not self._closed:
                async with asyncio.timeout(self._timeout):
                    await self._topology.refresh()
        except (*BROKEN, RedisClusterException) as error:
            _log.debug("the search for the nodes failed: %s: %s", type(error).__name__, error)
        finally:
            self._suspects.clear()

    def _node(self, address: str) -> Node:
        node = self._nodes.get(address)
        if node is None:
            if self._closed:
                detail = "the store is shut down"
                raise StorageUnavailableError(detail)
            node = self._nodes[address] = Node(
                self._topology,
                address,
                self._abandoned,
                pool_size=self._pool_size,
                timeout=self._timeout,
                max_queued=self._max_queued,
            )
        return node


class _Deadline(NamedTuple):
    """When a command must have its response, and when at the latest it may be sent."""

    end: float
    last_start: float

    @classmethod
    def of_operation(cls, longest: float) -> _Deadline:
        """Return the deadline of the calling operation, at most so many seconds from now."""
        left = time_left(longest)
        if not left:
            raise StorageUnavailableError("SESSION_TIMEOUT is over; nothing was sent")
        end = time.monotonic() + left
        return cls(end, end - margin_of(left))

    @classmethod
    def since(cls, began: float, longest: float) -> _Deadline:
        """Return the deadline of the calling operation, at most so many seconds after ``began``.

        It may be over already.
        """
        end = min(began + longest, end_after(longest))
        return cls(end, end - margin_of(max(end - began, 0.0)))

    def until_last_start(self) -> float:
        """Return the seconds in which the command may still be sent; 0 if there are none."""
        return max(self.last_start - time.monotonic(), 0.0)


class _Delivery:
    """The retries of one command: the next address and form, and the deadline."""

    def __init__(self, command: Command, deadline: _Deadline) -> None:
        self._command = command
        self._deadline = deadline
        self._backoff = Backoff(longest=LONGEST_PAUSE)
        self.address: str | None = None
        self.asking = False
        self.in_full = False
        self.redirects = 0

    @property
    def repeatable(self) -> bool:
        return self._command.repeatable

    @property
    def command(self) -> Command:
        command = self._command.with_script() if self.in_full else self._command
        return command.asking() if self.asking else command

    @asynccontextmanager
    async def in_time(self) -> AsyncIterator[None]:
        """End the block at the deadline: the response counts as lost."""
        try:
            async with asyncio.timeout(self._deadline.end - time.monotonic()):
                yield
        except TimeoutError as error:
            detail = "no answer in time"
            raise LostAnswerError(detail) from error

    async def wait_for(self, search: asyncio.Task[None], error: Exception) -> None:
        """Wait for a search; raise once it is too late to send the command again."""
        await asyncio.wait([search], timeout=self._deadline.until_last_start())
        self._raise_if_late(error)

    async def pause(self, error: Exception) -> None:
        """Wait for a backoff that grows each time; raise once it is too late to send it again."""
        await self._backoff.pause(until=self._deadline.last_start)
        self._raise_if_late(error)

    def _raise_if_late(self, error: Exception) -> None:
        if not self._deadline.until_last_start():
            raise translated(error) from error
