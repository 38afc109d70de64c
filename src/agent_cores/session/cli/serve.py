"""``agent-sessions serve``: the HTTP service in one process or several."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import ipaddress
import logging.config
import os
import sys
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from agent_cores.session.cli.metrics import (
    exporter_of_a_worker,
    metrics_of_this_process,
    metrics_of_workers,
    record,
)
from agent_cores.session.cli.server import (
    MAKE_A_KEY,
    Announcement,
    Server,
    uvicorn_config,
)
from agent_cores.session.cli.sockets import allow_open_files, listening_sockets
from agent_cores.session.cli.supervisor import Supervisor, is_first_worker, stop_with_the_supervisor
from agent_cores.session.cli.unknown_names import refuse_misspelt
from agent_cores.session.errors import ConfigurationError
from agent_cores.session.manager import SessionManager
from agent_cores.session.models.times import utc_now
from agent_cores.session.service.app import create_app
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret
from agent_cores.session.service.components import key_stores
from agent_cores.session.service.log.lines import log_config
from agent_cores.session.service.log.users import new_log_key
from agent_cores.session.service.settings import ServiceSettings, environment_name
from agent_cores.session.service.shutdown import announce_stop, ignore_repeated_stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent_cores.session.service.app import Service
    from agent_cores.session.service.metrics.exporting import Exporter

_M_ARENA_MAX = -8
"""The parameter of glibc's ``mallopt``."""


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    storage: str | None = None,
) -> None:
    """Serve sessions over HTTP, by default on 127.0.0.1:8080 and embedded SQLite.

    Parameters
    ----------
    host
        The address to listen on.
    port
        The port; 0 takes a free one.
    workers
        How many processes to start.
    storage
        The storage URL, instead of the configured one.
    """
    logging.config.dictConfig(log_config())  # before the server does, for what is logged until then
    refuse_misspelt()
    given = {"host": host, "port": port, "workers": workers}
    settings = ServiceSettings.load(**{k: v for k, v in given.items() if v is not None})
    if settings.tracing or settings.otel_metrics:  # refused here, and not in each worker
        import agent_cores.session.service.tracing  # noqa: PLC0415 - needs an extra
    if settings.jwt_issuers:
        import agent_cores.session.service.auth.jwt_issuers  # noqa: F401, PLC0415 - loads much
    if settings.workers > 1:
        _serve_workers(settings, storage)
        return
    _share_arenas()
    with (
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
        metrics_of_this_process(settings) as exporter,
    ):
        runner.run(_serve(settings, storage, exporter))


async def _serve(settings: ServiceSettings, storage: str | None, exporter: Exporter | None) -> None:
    manager = SessionManager(storage)
    await manager.initialize()
    try:
        key, secret = None, ""
        if not await _knows_callers(manager, settings):
            key, secret = _first_run_key(settings)
        app = create_app(
            manager,
            settings=settings,
            keys=() if key is None else (key,),
            only_loopback_hosts=key is not None,
        )
        announce_stop(app)
        app.on_start(_calm_the_collector)
        app.on_start(_share_the_gil)
        record(app, settings, exporter)
        _trace(app, settings)
        announcement = Announcement(settings, None if key is None else key_text(key.id, secret))
        server = Server(uvicorn_config(app, settings), announcement)
        allow_open_files(settings.max_connections)
        sockets = listening_sockets(settings.host, settings.port)
        with ignore_repeated_stop():
            await server.serve(sockets)
    finally:
        await manager.shutdown()


def _serve_workers(settings: ServiceSettings, storage: str | None) -> None:
    asyncio.run(_check_for_workers(settings, storage))
    if storage is not None:
        os.environ["SESSION_STORAGE_URL"] = storage
    for name in ("host", "port", "workers"):
        os.environ[environment_name(name)] = str(getattr(settings, name))
    if settings.log_key is None:  # one for all workers
        os.environ[environment_name("log_key")] = new_log_key()
    config = uvicorn_config("agent_cores.session.cli.serve:worker", settings)
    sockets = listening_sockets(settings.host, settings.port)  # early connections wait for a worker
    host, listening_port = sockets[0].getsockname()[:2]
    with metrics_of_workers(settings):
        status = Supervisor(
            config, sockets, settings, lambda: Announcement(settings).tell(host, listening_port)
        ).run()
    if status:
        sys.exit(status)


async def _check_for_workers(settings: ServiceSettings, storage: str | None) -> None:
    manager = SessionManager(storage)
    provider = manager.runtime.storage
    if not provider.capabilities.shared:
        raise ConfigurationError(
            f"{provider.describe()} cannot be shared by {settings.workers} workers;"
            " take one worker, or another store"
        )
    async with manager:
        if not await _knows_callers(manager, settings):
            raise ConfigurationError(f"there is no valid key; make one: {MAKE_A_KEY}")


def worker() -> Service:
    """Return the application of one worker; its settings come from the environment."""
    _share_arenas()
    settings = ServiceSettings.load()
    stop_with_the_supervisor(settings)
    allow_open_files(settings.max_connections)
    app = create_app(settings=settings)
    announce_stop(app)
    app.on_start(_calm_the_collector)
    app.on_start(_share_the_gil)
    record(app, settings, exporter_of_a_worker(settings), by_status=is_first_worker())
    _trace(app, settings)
    return app


async def _knows_callers(manager: SessionManager, settings: ServiceSettings) -> bool:
    """Whether any call can succeed: there is an issuer of tokens, or a key that has not expired."""
    if settings.jwt_issuers and settings.keys_file is None:
        return True
    at = utc_now()
    keys = await key_stores(manager, settings)[0].all()
    return bool(settings.jwt_issuers) or any(not key.is_expired(at) for key in keys)


def _first_run_key(settings: ServiceSettings) -> tuple[ApiKey, str]:
    """Return a key for this run; ``None`` on an address that other machines can reach."""
    if not _is_loopback(settings.host):
        raise ConfigurationError(
            f"there is no valid key, and {settings.host} is no loopback address;"
            f" make a key first: {MAKE_A_KEY}"
        )
    key_id, secret = new_secret()
    key = ApiKey(
        id=key_id,
        name="this run",
        namespace="default",
        secret_hash=hashed(secret),
        rights=("read", "write", "act-as"),
        created_at=utc_now(),
    )
    return key, secret


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _trace(app: Service, settings: ServiceSettings) -> None:
    if settings.tracing:
        from agent_cores.session.service.tracing import start_tracing  # noqa: PLC0415 - needs an extra

        app.on_start(partial(start_tracing, app))


def _calm_the_collector() -> None:
    """Run the cyclic garbage collector rarely, and never on the program itself.

    Requests leave hardly any cycles. Measured, an append over HTTP takes a sixteenth less time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _share_the_gil() -> None:
    """Let a thread that waits for the GIL have it after one millisecond instead of five.

    SQLite writes in its own thread, which needs the GIL often. Measured once on a quiet machine,
    SQLite served more appends over HTTP, and the memory store no fewer.
    """
    sys.setswitchinterval(0.001)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if find_spec("uvloop") is None:
        return None
    import uvloop  # noqa: PLC0415 - not available on every platform

    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _share_arenas() -> None:
    """Have glibc keep what is freed in two arenas, instead of one for each thread that reads.

    Called before threads start. 200 concurrent callers who read full pages then take 147 to 152
    MiB, instead of 169 to 201.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
