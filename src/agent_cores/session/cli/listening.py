"""Servers that say where they listen and how to call them: in this process, or in several."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import uvicorn
from uvicorn.supervisors import Multiprocess

from agent_cores.session.cli.gathering import GatheringProtocol
from agent_cores.session.service.logs import log_config

if TYPE_CHECKING:
    from agent_cores.session.service.app import Service
    from agent_cores.session.service.settings import ServiceSettings

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
    """Serves in this process."""

    def __init__(self, config: uvicorn.Config, announcement: Announcement) -> None:
        super().__init__(config)
        self._announcement = announcement

    async def startup(self, sockets: object = None) -> None:
        """Listen, then say so."""
        await super().startup(sockets)  # type: ignore[arg-type]  # passed on as it came
        if not self.should_exit and self.servers:
            self._announcement.tell(*self.servers[0].sockets[0].getsockname()[:2])


def serve_with_workers(application: str, settings: ServiceSettings) -> None:
    """Serve in several processes, each of which makes ``application``, until told to stop."""
    config = uvicorn_config(application, settings)
    with config.bind_socket() as listening:
        listening.listen(config.backlog)  # so that a call that comes before a worker waits for it
        Announcement(settings).tell(*listening.getsockname()[:2])
        Multiprocess(config, sockets=[listening]).run()


def uvicorn_config(app: Service | str, settings: ServiceSettings) -> uvicorn.Config:
    """Return what uvicorn is told; an ``app`` in text is the name of what makes one."""
    return uvicorn.Config(
        app,
        factory=isinstance(app, str),
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http=GatheringProtocol,
        log_config=log_config(),
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_graceful_shutdown=settings.shutdown_timeout,  # type: ignore[arg-type]  # waits so long
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
