"""The service inside another application, and a service that starts, stops and starts again."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from agent_cores.session import SessionManager
from agent_cores.session.service import Service, ServiceSettings, create_app
from agent_cores.session.service.auth.api_keys import ApiKey, hashed
from agent_cores.session.storage.memory.provider import MemoryProvider
from tests.service.wire import Caller, request

S = "/sessions/v1/sessions"


def key_of(at: Any) -> ApiKey:
    return ApiKey(
        id="k",
        name="mounted",
        namespace="default",
        secret_hash=hashed("s"),
        rights=("read", "write", "act-as"),
        created_at=at,
    )


class Watched(MemoryProvider):
    """A memory store that knows how often it was opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = self.closed = 0

    async def initialize(self) -> None:
        self.opened += 1
        await asyncio.sleep(0.01)
        await super().initialize()

    async def shutdown(self) -> None:
        self.closed += 1
        await super().shutdown()


def parents(service: Service) -> dict[str, Any]:
    fastapi = FastAPI(lifespan=service.lifespan)
    fastapi.mount("/sessions", service)
    routes = [Mount("/sessions", app=service)]
    return {"fastapi": fastapi, "starlette": Starlette(routes=routes, lifespan=service.lifespan)}


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """Go through the lifespan of an application, as its server would."""
    sent: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, sent.get, heard.put))
    await sent.put({"type": "lifespan.startup"})
    assert (await heard.get())["type"] == "lifespan.startup.complete"
    yield
    await sent.put({"type": "lifespan.shutdown"})
    assert (await heard.get())["type"] == "lifespan.shutdown.complete"
    await task


@pytest.mark.parametrize("kind", ["fastapi", "starlette"])
async def test_a_mounted_service_finds_the_conversation_after_a_restart(
    tmp_path: Path, kind: str
) -> None:
    url = f"sqlite:///{tmp_path / 'kept.db'}"
    path = ""
    for run in range(2):
        manager = SessionManager(url)
        key = key_of(manager._runtime.clock())
        service = create_app(manager, settings=ServiceSettings(), keys=[key])
        app = parents(service)[kind]
        async with running(app):
            ann = Caller(app, "ann", "ask_k_s", {})
            if run == 0:
                made = await ann("POST", S, {"title": "kept"})
                path = made.headers["location"]
                assert path.startswith(f"{S}/")
                said = {"messages": [{"role": "user", "content": "你好"}]}
                assert (await ann("POST", f"{path}/messages", said)).status == 201
            found = (await ann("GET", f"{path}?message_limit=5")).json()
            assert (found["title"], found["messages"][0]["content"]) == ("kept", "你好")
        assert manager._runtime._loop is None, "the manager is closed"
    left = [name for name in os.listdir(tmp_path) if name.endswith("-wal")]  # noqa: PTH208 - not async
    assert not left, "no connection is open"


async def test_first_requests_at_once_start_the_manager_once() -> None:
    storage = Watched()
    manager = SessionManager(storage)
    service = create_app(
        manager, settings=ServiceSettings(), keys=[key_of(manager._runtime.clock())]
    )
    app = Starlette(routes=[Mount("/sessions", app=service)])
    ann = Caller(app, "ann", "ask_k_s", {})
    replies = await asyncio.gather(*(ann("GET", S) for _ in range(10)))
    assert {reply.status for reply in replies} == {200}
    assert (storage.opened, storage.closed) == (1, 0)
    await service.aclose()
    assert storage.closed == 1


async def test_a_manager_of_the_parents_own_is_left_open() -> None:
    storage = Watched()
    manager = SessionManager(storage)
    async with manager:
        service = create_app(manager, settings=ServiceSettings())
        async with running(service):
            assert (await request(service, "GET", "/readyz")).status == 200
        assert storage.closed == 0
        await manager.create_session("ann")
    assert storage.closed == 1


async def test_requests_at_work_are_finished_before_the_manager_is_closed() -> None:
    from tests.service.pausing import PausingProvider

    inner = Watched()
    pausing = PausingProvider(inner, lambda change: bool(change.create))
    manager = SessionManager(pausing)
    service = create_app(
        manager, settings=ServiceSettings(), keys=[key_of(manager._runtime.clock())]
    )
    ann = Caller(service, "ann", "ask_k_s", {})
    assert (await ann("GET", "/v1/sessions")).status == 200
    pausing.arm()
    late = asyncio.create_task(ann("POST", "/v1/sessions", {}))
    await pausing.reached.wait()
    closing = asyncio.create_task(service.aclose())
    await asyncio.sleep(0)
    assert (await request(service, "GET", "/readyz")).status == 503
    assert not closing.done()
    pausing.go.set()
    assert (await late).status == 201
    await closing


async def test_a_request_whose_body_is_on_its_way_is_finished_too() -> None:
    storage = Watched()
    manager = SessionManager(storage)
    service = create_app(
        manager, settings=ServiceSettings(), keys=[key_of(manager._runtime.clock())]
    )
    reading, sent = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        reading.set()
        await sent.wait()
        return {"type": "http.request", "body": b"{}"}

    ann = Caller(service, "ann", "ask_k_s", {})
    late = asyncio.create_task(ann("POST", "/v1/sessions", {}, receive=receive))
    await reading.wait()
    closing = asyncio.create_task(service.aclose())
    for _ in range(50):  # turns of the loop, in which it would close
        await asyncio.sleep(0)
    assert storage.closed == 0
    sent.set()
    assert (await late).status == 201
    await closing
    assert (storage.opened, storage.closed) == (1, 1)


async def test_a_store_that_is_away_is_said_so_and_tried_again() -> None:
    from agent_cores.session.errors import StorageUnavailableError

    class Away(MemoryProvider):
        away = True

        async def initialize(self) -> None:
            if self.away:
                detail = "the password is hunter2"
                raise StorageUnavailableError(detail)
            await super().initialize()

    storage = Away()
    manager = SessionManager(storage)
    service = create_app(
        manager, settings=ServiceSettings(), keys=[key_of(manager._runtime.clock())]
    )
    ann = Caller(service, "ann", "ask_k_s", {})
    reply = await ann("GET", "/v1/sessions")
    assert (reply.status, reply.code) == (503, "storage_unavailable")
    assert "hunter2" not in reply.body.decode()
    assert reply.headers["retry-after"]
    assert (await request(service, "GET", "/readyz")).status == 503
    storage.away = False
    assert (await ann("GET", "/v1/sessions")).status == 200
    assert (await request(service, "GET", "/readyz")).status == 200
    await service.aclose()


async def test_an_error_that_nobody_foresaw_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(MemoryProvider):
        async def find(self, query: Any) -> Any:
            raise ZeroDivisionError("the secret is 42")

    manager = SessionManager(Broken())
    service = create_app(
        manager, settings=ServiceSettings(), keys=[key_of(manager._runtime.clock())]
    )
    reply = await Caller(service, "ann", "ask_k_s", {})("GET", "/v1/sessions")
    assert (reply.status, reply.code) == (500, "internal")
    assert "42" not in reply.body.decode()
    assert reply.headers["x-request-id"] in caplog.text
    await service.aclose()
