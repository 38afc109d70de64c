"""``Acceptor``: creates the protocol of each connection, and enforces all deadlines."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import select
import time
from typing import TYPE_CHECKING, Any, Protocol

from agent_cores.session.models.times import utc_now
from agent_cores.session.service.cors import Cors
from agent_cores.session.service.headers import Headers
from agent_cores.session.service.http1.connection import LAST_SECONDS, Connection
from agent_cores.session.service.http1.exchange import STATUS_LINES
from agent_cores.session.service.http1.head import Bounds
from agent_cores.session.service.log.outline import outline
from agent_cores.session.service.log.requests import RequestLog
from agent_cores.session.service.problems import Refusal
from agent_cores.session.service.responses import head_lines, problem_response

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from agent_cores.session.service.http1.exchange import Exchange
    from agent_cores.session.service.request.budget import Budget
    from agent_cores.session.service.settings import ServiceSettings

logger: logging.Logger = logging.getLogger("agent_cores.session.service")
_LOG = RequestLog(logger)
_ORIGIN = re.compile(rb"\r\norigin:([^\r\n]*+)(?=\r\n)", re.IGNORECASE)
_SHORTEST_LOOK, _LONGEST_LOOK = 0.02, 1.0


class ServerState(Protocol):
    """What uvicorn's server shares with its connections."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]
    default_headers: list[tuple[bytes, bytes]]


class Acceptor:
    """What all connections of a process share."""

    def __init__(
        self,
        app: ASGIApp,
        settings: ServiceSettings,
        budget: Budget,
        state: ServerState,
        app_state: dict[str, Any] | None = None,
        *,
        offers_whole: bool = True,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.budget = budget
        self.bounds: Bounds = Bounds(
            settings.max_url_bytes, settings.max_header_bytes, settings.max_header_count
        )
        self.app_state: dict[str, Any] = app_state or {}
        self.offers_whole = offers_whole
        self.keep_alive_seconds: float = settings.keep_alive
        self.head_seconds: float = settings.header_timeout
        self.send_seconds: float = settings.send_timeout
        self.is_stopping: bool = False
        self._most = settings.max_connections
        self._cors = Cors(settings.cors_origins)
        self._app = app
        self._state = state
        self._looks: asyncio.TimerHandle | None = None
        times = (self.keep_alive_seconds, self.head_seconds, self.send_seconds)
        shortest = min((seconds for seconds in times if seconds), default=_LONGEST_LOOK)
        self._look_seconds = min(max(shortest / 4, _SHORTEST_LOOK), _LONGEST_LOOK)
        self._common_of: list[tuple[bytes, bytes]] | None = None
        self._common = b""

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    def enter(self, connection: Connection) -> Refusal | None:
        """Register a new connection. At the limit, the longest idle one is closed to make room.

        One that was accepted just before the server stopped may still send one request.
        """
        connections = self._state.connections
        refusal = None
        if len(connections) >= self._most:
            idle = sorted((other for other in connections if other.is_idle), key=_deadline)
            if not any(other.close_if_idle() for other in idle):
                refusal = Refusal("overloaded", "too many connections")
        connections.add(connection)
        if self.is_stopping:
            connection.is_stopping = True
            connection.deadline = self.loop.time() + LAST_SECONDS
        if self._looks is None:
            self._looks = self.loop.call_later(self._look_seconds, self._look)
        return refusal

    def leave(self, connection: Connection) -> None:
        """Unregister a closed connection."""
        self._state.connections.discard(connection)

    def _look(self) -> None:
        now = self.loop.time()
        for connection in tuple(self._state.connections):
            connection.check(now)
        self._looks = None
        if self._state.connections:
            self._looks = self.loop.call_later(self._look_seconds, self._look)

    def start(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        """Start the application on a request."""
        task = self.loop.create_task(self._answer(exchange, scope))
        self._state.tasks.add(task)

    async def _answer(self, exchange: Exchange, scope: dict[str, Any]) -> None:
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:  # noqa: BLE001 - a bug; the caller gets an error response
            logger.error("a request failed: %s", outline(error))  # noqa: TRY400 - not its message
        finally:
            exchange.end()
            self._state.tasks.discard(asyncio.current_task())

    def count(self) -> None:
        """Count a finished request."""
        self._state.total_requests += 1

    def common_lines(self) -> bytes:
        """Return the header lines that every response has, such as the date."""
        headers = self._state.default_headers
        if headers is not self._common_of:
            self._common_of = headers
            self._common = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._common

    def refusal(self, error: Exception, head: bytes) -> bytes:
        """Return the complete response to a malformed request; the connection closes after it.

        ``head`` is what has arrived of it: if it names an allowed origin, that page may read the
        response.
        """
        started = time.perf_counter()
        answer = problem_response(error, {}, utc_now())
        origins = [(b"origin", found.strip(b" \t")) for found in _ORIGIN.findall(head)]
        self._cors.mark(answer, Headers(origins))
        request_id = b"%016x" % random.getrandbits(64)
        if not isinstance(error, Refusal):
            logger.error("request %s failed: %s", request_id.decode(), outline(error))
        _LOG.tell(
            request_id,
            method="refused",
            route=None,
            status=answer.status,
            credential=None,
            user=None,
            seconds=time.perf_counter() - started,
        )
        lines = head_lines(answer, request_id)
        status = STATUS_LINES[answer.status]
        return b"%b%b%bconnection: close\r\n\r\n%b" % (
            status,
            self.common_lines(),
            lines,
            answer.body,
        )

    def has_something(self, transport: asyncio.Transport) -> bool:
        """Whether bytes have arrived that the loop has not read yet."""
        sock = transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return False
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(sock.fileno(), select.POLLIN)
            return bool(poll.poll(0))
        return bool(select.select([sock.fileno()], [], [], 0)[0])


def _deadline(connection: Connection) -> float:
    return connection.deadline
