"""``fetch``: the content of a configured file or URL, bounded in size and in total time.

Requests go only where the setting says: proxies from the environment are ignored, and so are
redirections over which somebody could change the response.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPConnection

T = TypeVar("T")

FETCH_SECONDS = 5.0
"""How long one fetch may take, from the name lookup to the last byte."""
MOST_BYTES = 1_048_576
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def is_safe(place: str) -> bool:
    """Whether nobody on the network can replace the response."""
    scheme, mark, _ = place.partition("://")
    if not mark or scheme == "https":
        return True
    return scheme == "http" and urlsplit(place).hostname in _LOOPBACK


async def fetch(place: str, proxy: str | None, read: Callable[[bytes], T]) -> T:
    """Return the result of ``read`` on the content; both run in a separate thread.

    Raises ``OSError``, ``ValueError`` or ``HTTPException``, and whatever ``read`` raises.
    """
    connections = _Connections(proxy)
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            found = read(_text(place, connections))
        except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
            _tell(loop, result, error=error)
        else:
            _tell(loop, result, found=found)

    # Not a thread of the pool: an unresponsive name server can block it indefinitely, and neither
    # other work nor the end of the program may wait for that.
    threading.Thread(target=run, name="key-fetch", daemon=True).start()
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return await result
    finally:
        connections.cut()


def _tell(
    loop: asyncio.AbstractEventLoop,
    result: asyncio.Future[T],
    *,
    found: Any = None,  # noqa: ANN401 - of the future's type
    error: Exception | None = None,
) -> None:
    def settle() -> None:
        if result.done():  # the caller gave up
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(found)

    with suppress(RuntimeError):  # the loop is closed, and nobody waits
        loop.call_soon_threadsafe(settle)


def _text(place: str, connections: _Connections) -> bytes:
    if "://" not in place:
        with Path(place).open("rb") as file:
            return _bounded(file.read(MOST_BYTES + 1))
    try:
        with connections.opener.open(place, timeout=FETCH_SECONDS) as answer:
            return _bounded(answer.read(MOST_BYTES + 1))
    except HTTPError as error:
        error.close()  # it is an open response
        raise


def _bounded(raw: bytes) -> bytes:
    if len(raw) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes")
    return raw


class _Connections:
    """A URL opener whose connections can be closed from another thread.

    A socket's timeout restarts with every byte, so a server that sends a byte now and then could
    hold a fetch for hours.
    """

    def __init__(self, proxy: str | None) -> None:
        self._sockets: list[socket.socket] = []
        proxies = {} if proxy is None else {"https": proxy}
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies),
            _SafeRedirects,
            _HTTPHandler(self._noted),
            _HTTPSHandler(self._noted),
        )

    def cut(self) -> None:
        """Close every connection that is still open."""
        for one in self._sockets:
            with suppress(OSError):
                socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _noted(self, make: Callable[..., HTTPConnection]) -> Callable[..., HTTPConnection]:
        def made(*arguments: Any, **options: Any) -> HTTPConnection:  # noqa: ANN401
            connection = make(*arguments, **options)
            connect = connection.connect

            def noting() -> None:
                connect()
                self._sockets.append(connection.sock)

            connection.connect = noting  # type: ignore[method-assign]
            return connection

        return made


class _HTTPHandler(urllib.request.HTTPHandler):
    def __init__(self, noted: Any) -> None:  # noqa: ANN401 - _Connections._noted
        super().__init__()
        self._noted = noted

    def do_open(self, http_class: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        """Open the URL, and record the connection."""
        return super().do_open(self._noted(http_class), *arguments, **options)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def __init__(self, noted: Any) -> None:  # noqa: ANN401 - _Connections._noted
        super().__init__()
        self._noted = noted

    def do_open(self, http_class: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        """Open the URL, and record the connection."""
        return super().do_open(self._noted(http_class), *arguments, **options)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows only redirections over which nobody can change the response."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:  # noqa: ANN401
        """Refuse an address that no setting may contain, or one of this machine from elsewhere."""
        request, answer, place = arguments[0], arguments[1], arguments[-1]
        if not is_safe(place) or (request.type == "https" and not place.startswith("https:")):
            answer.close()
            raise ValueError("redirected to an address that is not https")
        return super().redirect_request(*arguments)
