"""``Transport``: requests over kept-alive connections, sent again where that can do no harm."""

from __future__ import annotations

import asyncio
import os
import random
from io import BytesIO
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from agent_cores.session.client.refusals import error_of
from agent_cores.session.errors import StorageUnavailableError, WrongContextError

FIRST_PAUSE = 0.05
LONG_BYTES = 65_536
GATEWAY_ERRORS = frozenset({502, 504})
"""What a proxy answers that lost the service's answer; the service itself never does."""


class Reply(msgspec.Struct, frozen=True):
    """An answer of the service that is no refusal."""

    status: int
    headers: dict[str, str]
    body: bytes


class Transport:
    """Connections to one service, with one credential, in one event loop."""

    def __init__(
        self, base_url: str, api_key: str, *, timeout: float, retries: int, pool_size: int
    ) -> None:
        self._base = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}", "Accept": "application/json"}
        self._timeout = timeout
        self._retries = retries
        self._pool_size = pool_size
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    @property
    def is_over(self) -> bool:
        """Whether the event loop that this worked in is closed."""
        return self._loop is not None and self._loop.is_closed()

    @property
    def is_open(self) -> bool:
        """Whether there are connections to close."""
        return self._session is not None

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        repeatable: bool = False,
    ) -> Reply:
        """Send a request and return its answer; raise the error that a refusal stands for.

        A request that did not leave is sent again. So is one whose answer was lost, here or by a
        proxy, if it is ``repeatable``; if it is not, its outcome is unknown.
        """
        session = self._opened()
        given = {**self._headers, **(headers or {})}
        if body is not None:
            given["Content-Type"] = "application/json"
        url = URL(self._base + path, encoded=True)
        pause = FIRST_PAUSE
        for left in range(self._retries, -1, -1):
            try:
                async with session.request(
                    method, url, data=_payload(body), headers=given, allow_redirects=False
                ) as answer:
                    raw = await answer.read()
                    lost = answer.status in GATEWAY_ERRORS
                    if not (lost and left and repeatable):
                        return _checked(answer.status, answer.headers, raw)
            except aiohttp.ClientConnectorError as error:
                if not left:
                    raise _unavailable(error, unknown=False) from error
            except (aiohttp.ClientError, TimeoutError) as error:
                if not left or not repeatable:
                    unknown = method != "GET"
                    raise _unavailable(error, unknown=unknown) from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311
            pause *= 2
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """Close the connections."""
        session, self._session, self._loop = self._session, None, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._pool_size),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self._loop, self._pid = loop, os.getpid()
        elif self._pid != os.getpid():
            raise WrongContextError("this client was used in another process; make a new one")
        elif self._loop is not loop:
            raise WrongContextError("this client belongs to another event loop; make one for each")
        return self._session


def _payload(body: bytes | None) -> bytes | BytesIO | None:
    """Return what is sent: a long body in pieces, so that the event loop is not held up."""
    return BytesIO(body) if body is not None and len(body) > LONG_BYTES else body


def _checked(status: int, headers: Any, raw: bytes) -> Reply:  # noqa: ANN401 - aiohttp's mapping
    if 200 <= status < 300:  # noqa: PLR2004
        return Reply(status, {name.lower(): value for name, value in headers.items()}, raw)
    raise error_of(status, raw)


def _unavailable(error: Exception, *, unknown: bool) -> StorageUnavailableError:
    kind = type(error).__name__
    return StorageUnavailableError(
        f"the session service did not answer ({kind})", outcome_unknown=unknown
    )
