"""``Pool``: open connections to a service. It sends each request once and never retries."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from agent_cores.session.client.refusals import error_of, read_problem
from agent_cores.session.errors import SessionError, StorageUnavailableError
from agent_cores.session.models.representation import hides
from agent_cores.session.process import keep_in_children, process_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
    from yarl import URL

IDLE_SECONDS = 4.0
"""How long an idle connection is kept: less than the 5 seconds that are common on servers, so that
no request is sent on a connection that the server is closing.
"""
LONG_BYTES = 65_536
LARGEST_BODY = 256 * 1024 * 1024
"""Bytes of a response that are kept: a page of the service is far smaller."""
NO_CONTENT = 204
GATEWAY_ERRORS = frozenset({502, 503, 504})
"""How a proxy reports a lost response. Unlike the service's, its responses carry no code."""
NOT_NOW = frozenset({"overloaded", "rate_limited", "session_moved"})
"""Codes of refusals that wrote nothing and are worth retrying."""

_SECONDS = re.compile("[0-9]{1,9}")


@hides("body")
class Reply(msgspec.Struct, frozen=True):
    """A successful response of the service."""

    method: str
    status: int
    headers: dict[str, str]
    body: bytes


class Failure(msgspec.Struct, frozen=True):
    """A request that was refused, was never sent (``unsent``), or whose response was ``lost``.

    ``not_now``: the refusal is temporary; ``wait`` is the number of seconds that it asked for.
    """

    error: SessionError
    cause: Exception | None = None
    unsent: bool = False
    lost: bool = False
    not_now: bool = False
    wait: int = 0


class AnswerLostError(aiohttp.ClientError):
    """The connection broke after the request may have been sent."""


class _EndlessError(Exception):
    """A body is larger than any of the service's."""


class Pool:
    """The connections of one event loop in one process."""

    def __init__(
        self,
        *,
        timeout: float,
        size: int,
        ssl_context: ssl.SSLContext | None,
        proxy: URL | None,
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.pid: int = process_id()
        keep_in_children(self)
        self._at_work = 0
        self._idle = asyncio.Event()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=size, keepalive_timeout=IDLE_SECONDS, ssl=ssl_context or True
            ),
            proxy=proxy,
            timeout=aiohttp.ClientTimeout(total=timeout, connect=timeout / 2),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_once,),
        )

    async def request(
        self, method: str, url: URL, body: bytes | None, headers: dict[str, str]
    ) -> Reply | Failure:
        """Send a request once; return the outcome."""
        if self._session.closed:
            return Failure(StorageUnavailableError("the client is shut down"))
        try:
            async with self._session.request(
                method, url, data=_payload(body), headers=headers, allow_redirects=False
            ) as answer:
                raw = await _body(answer)
                status, given = answer.status, answer.headers
        except _EndlessError:
            return Failure(_too_large(method))
        except aiohttp.ClientSSLError as error:  # which a retry cannot fix
            return Failure(_untrusted(error), error)
        except aiohttp.ClientHttpProxyError as error:
            return Failure(StorageUnavailableError(f"the proxy answered {error.status}"))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return Failure(_unavailable(error), error, unsent=True)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Failure(_unavailable(error), _without_key(error), lost=True)
        if 200 <= status < 300:  # noqa: PLR2004
            return Reply(
                method, status, {name.lower(): value for name, value in given.items()}, raw
            )
        problem = read_problem(raw)
        return Failure(
            error_of(method, status, problem),
            lost=problem is None and status in GATEWAY_ERRORS,
            not_now=problem is not None and problem.code in NOT_NOW,
            wait=_seconds(given.get("Retry-After", "")),
        )

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a request, retries included, as in flight."""
        self._at_work += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._idle.set()

    async def finish(self, seconds: float) -> None:
        """Wait until no request is in flight, for at most that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._at_work:
                    await self._idle.wait()

    async def close(self) -> None:
        """Close the connections. The responses of requests still in flight are lost."""
        await self._session.close()


async def _once(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Keep aiohttp from resending GET, PUT and DELETE by itself when a connection breaks.

    The service would carry them out twice, and the second response would be taken for the first.
    """
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise AnswerLostError(type(error).__name__) from error


def _seconds(text: str) -> int:
    """Return the seconds in ``Retry-After``; a date is ignored."""
    return int(text) if _SECONDS.fullmatch(text) else 0


def _without_key(error: Exception) -> Exception | None:
    """Return the error, unless it holds the request's headers, which contain the API key."""
    return None if isinstance(error, aiohttp.ClientResponseError) else error


async def _body(answer: ClientResponse) -> bytes:
    """Return the body of a response, unless it is larger than ``LARGEST_BODY``."""
    length = answer.content_length
    if length is not None and length <= LARGEST_BODY and "Content-Encoding" not in answer.headers:
        return await answer.read()
    parts, size = [], 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > LARGEST_BODY:
            raise _EndlessError
        parts.append(part)
    return b"".join(parts)


def _too_large(method: str) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"the response has more than {LARGEST_BODY // 2**20} MiB, so it is not the session"
        " service's; check base_url and proxies",
        outcome_unknown=method != "GET",
    )


def _payload(body: bytes | None) -> bytes | BytesIO | None:
    """Return the payload; long bodies are sent in pieces, which do not block the event loop."""
    return BytesIO(body) if body is not None and len(body) > LONG_BYTES else body


def _untrusted(error: aiohttp.ClientSSLError) -> StorageUnavailableError:
    """Return an error that says what is wrong with the certificate or with TLS."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StorageUnavailableError(
            "the certificate of the session service is not trusted:"
            f" {cause.verify_message.rstrip('.')}; ssl_context says which ones are"
        )
    reason = getattr(cause, "reason", None) or type(error).__name__
    return StorageUnavailableError(f"TLS with the session service failed: {reason}")


def _unavailable(error: Exception) -> StorageUnavailableError:
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return StorageUnavailableError("the proxy did not answer")
    kind = str(error) if isinstance(error, AnswerLostError) else type(error).__name__
    return StorageUnavailableError(f"the session service did not answer ({kind})")
