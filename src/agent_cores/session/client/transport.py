"""``Transport``: sends requests to one service and retries them where that is safe."""

from __future__ import annotations

import asyncio
from asyncio import sleep
from typing import TYPE_CHECKING

import msgspec
from yarl import URL

from agent_cores.session.backoff import Backoff
from agent_cores.session.client.pool import NO_CONTENT, Failure, Pool, Reply
from agent_cores.session.client.retries import RetryState
from agent_cores.session.client.trace_context import add_trace_context
from agent_cores.session.errors import (
    SessionError,
    StorageError,
    StorageUnavailableError,
    WrongContextError,
)
from agent_cores.session.models.representation import hides
from agent_cores.session.process import process_id

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

FIRST_PAUSE = 0.05


class Transport:
    """Connections to one service, with one credential, in one event loop."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: float,
        retries: int,
        pool_size: int,
        ssl_context: ssl.SSLContext | None,
        proxy: URL | None,
        headers: Mapping[str, str],
    ) -> None:
        self._base = base_url
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._headers = {
            **headers,
            "Authorization": f"Bearer {api_key}",
            "Accept": "application/json",
        }
        self._timeout = timeout
        self._retries = retries
        self._pool_size = pool_size
        self._pool: Pool | None = None
        self._was_closed = False

    @property
    def is_over(self) -> bool:
        """Whether this was closed, its event loop was closed, or another process opened it."""
        pool = self._pool
        if pool is None:
            return self._was_closed
        return pool.loop.is_closed() or pool.pid != process_id()

    @property
    def is_open(self) -> bool:
        """Whether there are open connections."""
        return self._pool is not None

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        repeatable: bool = False,
        done_if: type[SessionError] | None = None,
        retry_state: RetryState | None = None,
    ) -> Reply:
        """Send a request and return the response; raise the error that a refusal describes.

        Requests that were never sent are retried. ``repeatable`` ones are also retried if the
        response was lost, here or by a proxy, and after a temporary refusal once its wait is over.
        For others the outcome is unknown after a lost response. On a retry after a lost response,
        the refusal ``done_if`` shows that the request had been carried out. ``retry_state`` has the
        state that the session must then be in.
        """
        given = {**self._headers, **(headers or {})}
        if body is not None:
            given["Content-Type"] = "application/json"
        add_trace_context(given)
        pool = self._opened()
        with pool.at_work():
            attempt = _Attempt(pool, method, URL(self._base + path, encoded=True), body, given)
            return await self._sent(
                attempt, retry_state or RetryState(), repeatable=repeatable, done_if=done_if
            )

    async def _sent(
        self,
        attempt: _Attempt,
        retry_state: RetryState,
        *,
        repeatable: bool,
        done_if: type[SessionError] | None,
    ) -> Reply:
        backoff = Backoff(first=FIRST_PAUSE, longest=max(FIRST_PAUSE, self._timeout))
        for left in range(self._retries, -1, -1):
            answer = await attempt.send(retry_state)
            if isinstance(answer, Reply):
                return answer
            if retry_state.lost and done_if is not None and isinstance(answer.error, done_if):
                return Reply(attempt.method, NO_CONTENT, {}, b"")
            retry_state.lost = retry_state.lost or answer.lost
            again = answer.unsent or (repeatable and (answer.lost or answer.not_now))
            if not left or not again or answer.wait > self._timeout:
                raise _error_of(
                    answer, lost=retry_state.lost and attempt.method != "GET"
                ) from answer.cause
            await sleep(max(answer.wait, backoff.next_pause()))
        raise AssertionError("unreachable")

    async def finish(self) -> None:
        """Wait for the requests in flight, for at most the time-out of one."""
        pool = self._pool
        if pool is not None and pool.loop is asyncio.get_running_loop():
            await pool.finish(self._timeout)

    async def close(self) -> None:
        """Close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            self._was_closed = True
            await pool.close()

    def _opened(self) -> Pool:
        if self._pool is None:
            self._pool = Pool(
                timeout=self._timeout,
                size=self._pool_size,
                ssl_context=self._ssl_context,
                proxy=self._proxy,
            )
            self._was_closed = False
        elif self._pool.pid != process_id():
            raise WrongContextError("this client was used in another process; make a new one")
        elif self._pool.loop is not asyncio.get_running_loop():
            raise WrongContextError("this client belongs to another event loop; make one for each")
        return self._pool


@hides("body", "headers")
class _Attempt(msgspec.Struct, frozen=True):
    """A request to send, perhaps more than once."""

    pool: Pool
    method: str
    url: URL
    body: bytes | None
    headers: dict[str, str]

    async def send(self, retry_state: RetryState) -> Reply | Failure:
        headers = self.headers
        if retry_state.lost:
            headers = {**retry_state.headers, **headers}  # the caller's conditions win
        return await self.pool.request(self.method, self.url, self.body, headers)


def _error_of(failure: Failure, *, lost: bool) -> SessionError:
    """Return the error to raise; ``lost``: an attempt may have been carried out."""
    error = failure.error
    if lost and (failure.not_now or isinstance(error, StorageError)):
        return StorageUnavailableError(str(error), outcome_unknown=True)
    return error
