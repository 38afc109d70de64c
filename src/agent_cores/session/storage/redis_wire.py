"""Sending commands: batches over redis-py's connections, a flight at a time, answers item by item.

Below redis-py's command API, since that one waits for each answer; its connections bring the pool,
TLS, authentication and the parser. Nothing is repeated whose outcome is unknown, unless it is
repeatable.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Any, Protocol

from agent_cores.session.errors import StorageUnavailableError, StoreFormatError
from agent_cores.session.storage.coalescing import Coalescer
from agent_cores.session.storage.redis_driver import (
    AbstractConnection,
    AskError,
    BusyLoadingError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    TryAgainError,
)
from agent_cores.session.storage.redis_failures import (
    BROKEN,
    FAILURES,
    REPLIES,
    LostAnswerError,
    NotSentError,
    is_passing,
    told,
    translated,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from agent_cores.session.storage.redis_commands import Command


ALONE_BYTES = 64 * 1024
"""A command this large goes alone: it would hold up those that wait with it."""
READS_TOGETHER = 2_048
"""The longest page of a listing, of two lists at once, reads its headers in one flight."""

_QUICK_REDIRECTS = 5
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.2


_log = logging.getLogger(__name__)


class Topology(Protocol):
    """Which nodes there are, which of them has a key, and connections to them."""

    async def open(self) -> None:
        """Find the nodes."""

    def node_of(self, key: bytes | None) -> str:
        """Return the address of the primary that has a key; of any for ``None``."""

    def redirected(self, error: MovedError | AskError) -> str | None:
        """Note where a slot is, and return the address; ``None`` if it is not known yet."""

    def primaries(self) -> Sequence[str]:
        """Return the addresses of all primaries."""

    async def refresh(self, address: str | None) -> None:
        """Find the nodes anew, after the one at that address failed or is no primary any more."""

    async def acquire(self, address: str) -> AbstractConnection:
        """Return an open connection for one flight."""

    async def release(self, address: str, connection: AbstractConnection) -> None:
        """Give a connection back."""

    async def close(self) -> None:
        """Close what was opened here, and only that."""


class Node:
    """One server: queues whose callers share flights, and one for large commands."""

    def __init__(
        self, topology: Topology, address: str, *, pool_size: int, timeout: float, max_queued: int
    ) -> None:
        self._topology = topology
        self._address = address
        self._timeout = timeout
        self._free = asyncio.Semaphore(pool_size)
        self._writes: Coalescer[Command, Any] = Coalescer(
            self._exchange, lanes=2, max_queued=max_queued
        )
        self._reads: Coalescer[Command, Any] = Coalescer(
            self._exchange, lanes=2, max_queued=max_queued
        )
        self._pages: Coalescer[Command, Any] = Coalescer(
            self._exchange, max_items=READS_TOGETHER, max_queued=max_queued
        )
        self._large: Coalescer[Command, Any] = Coalescer(
            self._exchange, lanes=pool_size, max_items=1, max_queued=max_queued
        )

    async def send(self, command: Command, *, together: bool = False) -> Any:  # noqa: ANN401 - whatever the server answers
        """Return the answer, or raise the one error.

        Reads that one caller needs ``together`` go in one flight, so that they cost one round trip.
        """
        size = len(command.packed)
        queue = self._writes
        if size > ALONE_BYTES:
            queue = self._large
        elif command.reads:
            queue = self._pages if together else self._reads
        return await queue.submit(command, size)

    async def drain(self) -> None:
        """Take no more, and return once all is answered."""
        for queue in (self._writes, self._reads, self._pages, self._large):
            await queue.drain()

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one flight; return an answer or an error for each."""
        async with self._free:
            try:
                async with asyncio.timeout(self._timeout):
                    connection = await self._topology.acquire(self._address)
            except (*BROKEN, RedisClusterException) as error:
                raise NotSentError(told(error)) from error
            try:
                return await self._talk(connection, commands)
            finally:
                await self._topology.release(self._address, connection)

    async def _talk(self, connection: AbstractConnection, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        try:
            async with asyncio.timeout(self._timeout):
                packed = b"".join([command.packed for command in commands])
                await connection.send_packed_command(packed, check_health=False)
                for command in commands:
                    for _ in range(command.replies - 1):
                        await _reply(connection)
                    answers.append(await _reply(connection))
        except BROKEN as error:
            await connection.disconnect(nowait=True)
            lost = LostAnswerError(told(error))
            lost.__cause__ = error
            answers += [lost] * (len(commands) - len(answers))
        except BaseException:
            await connection.disconnect(nowait=True)  # answers nobody reads are on their way
            raise
        return answers


async def _reply(connection: AbstractConnection) -> Any:  # noqa: ANN401 - as above
    """Read one answer; what the server refuses is an answer too.

    The base class's method: Sentinel's own one closes the connection on READONLY, and with it loses
    what the rest of the flight was answered.
    """
    try:
        return await AbstractConnection.read_response(
            connection, disable_decoding=True, disconnect_on_error=False
        )
    except REPLIES as error:
        return error


class Wire:
    """All nodes. Sends each command to the right one, and again where that is safe and may help."""

    def __init__(
        self, topology: Topology, *, pool_size: int, timeout: float, max_queued: int
    ) -> None:
        self._topology = topology
        self._pool_size = pool_size
        self._timeout = timeout
        self._max_queued = max_queued
        self._nodes: dict[str, Node] = {}
        self._suspects: set[str] = set()
        self._search: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Find the nodes; ``StorageUnavailableError`` if none answers."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._topology.open()
        except (*BROKEN, RedisClusterException) as error:
            detail = f"Redis does not answer: {told(error)}"
            raise StorageUnavailableError(detail) from error
        self._closed = False

    async def close(self) -> None:
        """Finish what was taken, then close what was opened."""
        self._closed = True
        for node in list(self._nodes.values()):
            await node.drain()
        self._nodes.clear()
        if self._search is not None:
            await self._search
        await self._topology.close()

    async def call(self, command: Command, *, together: bool = False) -> Any:  # noqa: ANN401 - whatever the server answers
        """Send a command until it is answered, and return the answer.

        ``StorageUnavailableError`` once the timeout has passed, or with ``outcome_unknown`` as soon
        as an answer was lost that must not be asked for twice.
        """
        deadline = time.monotonic() + self._timeout
        address = None
        try:
            address = self._topology.node_of(command.key)
            if address in self._suspects:
                address = await self._found_anew(command.key)
            return await self._node(address).send(command, together=together)
        except FAILURES as error:
            delivery, failure = _Delivery(command, deadline), error
        while True:
            await self._redeliver(delivery, address, failure)
            try:
                address = delivery.address or self._topology.node_of(command.key)
                return await self._node(address).send(delivery.command, together=together)
            except FAILURES as error:
                failure = error

    async def call_all(self, commands: Iterable[Command]) -> list[Any]:
        """Send commands and return their answers in order; raise the first error.

        Reads for one node go in one flight, up to ``READS_TOGETHER``. However many there are, they
        never fill the queues by themselves.
        """
        return await self._call_together(commands, self.call)

    async def call_each(self, commands: Iterable[Command]) -> list[Any]:
        """Do what ``call_all`` does, but return the ``StoreFormatError`` of a key in its place.

        Such a key holds something else; it must not hide the answers of others.
        """
        return await self._call_together(commands, self._call_or_error)

    async def _call_together(
        self, commands: Iterable[Command], call: Callable[..., Awaitable[Any]]
    ) -> list[Any]:
        waiting = list(commands)
        together = min(READS_TOGETHER, self._max_queued)
        answers: list[Any] = []
        for first in range(0, len(waiting), together):
            portion = waiting[first : first + together]
            answers += await asyncio.gather(*(call(command, together=True) for command in portion))
        return answers

    async def _call_or_error(self, command: Command, *, together: bool) -> Any:  # noqa: ANN401 - as above
        try:
            return await self.call(command, together=together)
        except StoreFormatError as error:
            return error

    async def call_primaries(self, command: Command) -> list[Any]:
        """Send a command to every primary, once."""
        addresses = self._topology.primaries()
        try:
            return await asyncio.gather(*(self._node(name).send(command) for name in addresses))
        except FAILURES as error:
            raise translated(error) from error

    async def _redeliver(self, delivery: _Delivery, address: str | None, error: Exception) -> None:
        """Prepare the next try after one at that address, or raise what there is to tell."""
        _log.debug("no answer to a command yet: %s: %s", type(error).__name__, error)
        delivery.address, delivery.asking = None, False
        if isinstance(error, NoScriptError) and not delivery.in_full:
            delivery.in_full = True
            return
        if isinstance(error, AskError):  # MovedError is a kind of it
            delivery.address = self._topology.redirected(error)
            delivery.asking = not isinstance(error, MovedError)
            delivery.redirects += 1
            if delivery.address is not None and delivery.redirects <= _QUICK_REDIRECTS:
                return
        lost = isinstance(error, LostAnswerError)
        search = None
        if lost or isinstance(error, NotSentError):
            search = self._find_anew(address)  # for the next callers too, if this one gives up
        if lost and not delivery.repeatable:
            detail = f"Redis did not answer: {error}"
            raise StorageUnavailableError(detail, outcome_unknown=True) from error
        if not is_passing(error):
            raise translated(error) from error
        await delivery.pause(error)
        if not isinstance(error, TryAgainError | BusyLoadingError):
            await asyncio.shield(search or self._find_anew(None))

    async def _found_anew(self, key: bytes | None) -> str:
        """Return the node of a key once the search for the nodes is over."""
        if self._search is not None:
            await asyncio.shield(self._search)
        return self._topology.node_of(key)

    def _find_anew(self, silent: str | None) -> asyncio.Task[None]:
        """Find the nodes anew, in a task of its own, one for all who ask for it meanwhile.

        Who has something for a node that was silent waits until it is over.
        """
        if silent is not None:
            self._suspects.add(silent)
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._refresh(silent))
        return self._search

    async def _refresh(self, silent: str | None) -> None:
        try:
            if not self._closed:
                async with asyncio.timeout(self._timeout):
                    await self._topology.refresh(silent)
        except (*BROKEN, RedisClusterException) as error:
            _log.debug("the nodes were not found: %s: %s", type(error).__name__, error)
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
                pool_size=self._pool_size,
                timeout=self._timeout,
                max_queued=self._max_queued,
            )
        return node


class _Delivery:
    """One command on its way: where it goes next, in which form, and until when it is tried."""

    def __init__(self, command: Command, deadline: float) -> None:
        self._command = command
        self._deadline = deadline
        self._pause = _FIRST_PAUSE
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

    async def pause(self, error: Exception) -> None:
        """Wait a little longer each time; raise once the time is over."""
        if time.monotonic() >= self._deadline:
            raise translated(error) from error
        await asyncio.sleep(self._pause * random.uniform(0.5, 1))  # noqa: S311 - not a secret
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
