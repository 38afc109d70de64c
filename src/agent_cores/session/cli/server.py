"""Servers that announce where they listen and how to call them, in one process or several."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from agent_cores.session.cli.metrics import stop_recording
from agent_cores.session.service.app import Service
from agent_cores.session.service.http1.acceptor import Acceptor
from agent_cores.session.service.log.lines import log_config
from agent_cores.session.service.request.budget import Budget
from agent_cores.session.service.settings import ServiceSettings

if TYPE_CHECKING:
    import socket

    from agent_cores.session.service.http1.connection import Connection

MAKE_A_KEY = "agent-sessions keys create NAME"


class Announcement:
    """What is printed once a server listens; ``first_key`` is the key made for this run, if any."""

    def __init__(self, settings: ServiceSettings, first_key: str | None = None) -> None:
        self._docs = settings.docs
        self._first_key = first_key

    def tell(self, host: str, port: int) -> None:
        """Print where the service listens and how to call it."""
        place = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        docs = f"; {place}/docs describes what it answers" if self._docs else ""
        how = (
            _with_any_key(place) if self._first_key is None else _first_run(place, self._first_key)
        )
        sys.stdout.write(f"Listening on {place}{docs}.\n{how}")
        sys.stdout.flush()


class Server(uvicorn.Server):
    """uvicorn's server, with this project's HTTP implementation.

    The application is a ``Service``, with or without middleware that reads a proxy's headers. Any
    other application works too, with plain ASGI messages and the default limits.
    """

    def __init__(self, config: uvicorn.Config, announcement: Announcement | None = None) -> None:
        super().__init__(config)
        self._announcement = announcement
        self._acceptor: Acceptor | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, then announce it."""
        self.config.http_protocol_class = self._connection  # type: ignore[assignment]  # a factory
        await super().startup(sockets)
        if self._announcement is not None and not self.should_exit and sockets:
            self._announcement.tell(*sockets[0].getsockname()[:2])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to listen, and close the connections once their requests are answered."""
        if self._acceptor is not None:
            self._acceptor.is_stopping = True
        await super().shutdown(sockets)

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped; end metrics and log before the repeated signal ends a worker."""
        try:
            await super()._serve(sockets)
        finally:
            await stop_recording()
            for handler in logging.getLogger("uvicorn").handlers:
                handler.flush()

    def _connection(self, app_state: dict[str, Any], **_: object) -> Connection:
        if self._acceptor is None:
            app: Any = self.config.loaded_app
            inner: Any = app.app if isinstance(app, ProxyHeadersMiddleware) else app
            service = inner if isinstance(inner, Service) else None
            settings = ServiceSettings() if service is None else service.settings
            self._acceptor = Acceptor(
                app,
                settings,
                Budget(settings.most_buffered) if service is None else service.budget,
                self.server_state,
                app_state,
                offers_whole=service is not None,
            )
        return self._acceptor()


def uvicorn_config(app: Service | str, settings: ServiceSettings) -> uvicorn.Config:
    """Return uvicorn's configuration; a string ``app`` names a factory."""
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="h11",  # replaced by `Server`
        ws="none",
        log_config=log_config(),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=settings.shutdown_timeout,  # type: ignore[arg-type]  # a float
    )


def _with_any_key(place: str) -> str:
    return f"""With a key in AGENT_SESSIONS_KEY:

curl -s {place}/v1/me -H "Authorization: Bearer $AGENT_SESSIONS_KEY"

"""


def _first_run(place: str, key: str) -> str:
    return f"""There is no valid API key. This one lasts until the service stops:

export AGENT_SESSIONS_KEY={key}

curl -s {place}/v1/sessions -H "Authorization: Bearer $AGENT_SESSIONS_KEY" \\
  -H 'X-User-Id: ann' -H 'Content-Type: application/json' -d '{{"title": "Hello"}}'

To keep one: {MAKE_A_KEY}
"""
