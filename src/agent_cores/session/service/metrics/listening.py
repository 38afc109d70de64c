"""``listening``: a small HTTP server for metrics, whose callers cannot use up its process.

It runs in a thread of the service, or of the supervisor. The server of prometheus-client has a
thread and a file for every connection, for as long as the caller likes: enough of them would leave
the service no file for a connection of its own.
"""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from wsgiref.types import WSGIApplication

MOST_CONNECTIONS = 16
SILENT_SECONDS = 5.0
"""How long a caller may send or read nothing."""


@contextmanager
def listening(host: str, port: int, app: WSGIApplication) -> Iterator[None]:
    """Serve an application during the block. Raises ``OSError`` if the address cannot be used."""
    family, *_, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    kind = type("_ServerOfFamily", (_Server,), {"address_family": family})
    server: WSGIServer = make_server(str(address[0]), port, app, kind, _Handler)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(WSGIRequestHandler):
    """Closes a connection that is silent, and logs nothing."""

    timeout = SILENT_SECONDS

    def log_message(self, *_: object) -> None:
        """Do nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    """Keeps a bounded number of connections; a new one ends the oldest."""

    daemon_threads = True

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the base
        self._lock = threading.Lock()
        self._open: dict[socket.socket, None] = {}
        super().__init__(*arguments, **options)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Make room for a connection, and serve it in a thread."""
        with self._lock:
            self._open[request] = None
            if len(self._open) > MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):  # it has just ended
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - as above
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as above
        """Do nothing: a caller that is gone or silent is no fault of the service."""
