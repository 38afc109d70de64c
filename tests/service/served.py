"""A live service on the store of a contract suite, with a client for every manager."""

# ruff: noqa: ANN401, SLF001 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn

from agent_cores.session.access.groups import GroupsOf
from agent_cores.session.any_loop import AnyLoop
from agent_cores.session.cli.server import Server
from agent_cores.session.client import SessionClient
from agent_cores.session.lifecycle import LifecycleManager
from agent_cores.session.models.session import DEFAULT_NAMESPACE
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret
from agent_cores.session.session_manager import SessionManager
from agent_cores.session.settings import SessionSettings
from agent_cores.session.storage.base import StorageProvider
from agent_cores.session.testing import ManualClock, Store

NAMESPACES = (DEFAULT_NAMESPACE, "team-a", "team-b")


class Live:
    """A service on a free port of this machine, in this event loop."""

    def __init__(self, service: Any) -> None:
        self._server = Server(
            uvicorn.Config(service, port=0, log_config=None, lifespan="on", ws="none")
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Listen, and return the address."""
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup()
        self._serving = asyncio.create_task(self._server.main_loop())
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Stop listening and close the connections, without waiting for uvicorn's next tick."""
        if self._serving is not None:
            self._serving.cancel()
        for server in self._server.servers:
            server.close()
        state = self._server.server_state
        for connection in list(state.connections):
            connection.shutdown()
        while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.001)
        for server in self._server.servers:
            await server.wait_closed()
        await self._server.lifespan.shutdown()


class Gate:
    """A service that lets requests wait, and tells when one does."""

    def __init__(self, service: Any) -> None:
        self._service = service
        self.waiting = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()
        self.asked = 0
        self.callers: set[tuple[str, int]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.asked += scope["path"] == "/v1/me"
            self.callers.add(scope["client"])
            self.waiting.set()
            await self.opened.wait()
        await self._service(scope, receive, send)

    def close(self) -> None:
        self.waiting.clear()
        self.opened.clear()


class ServedClient(SessionClient):
    """A client of a service in the same process, whose hooks and sweeper the suite may use."""

    behind: SessionManager
    keys: dict[str, str]
    address: str
    others: list[SessionClient]

    @property
    def lifecycle(self) -> LifecycleManager:
        """The hooks of the service."""
        return self.behind.lifecycle

    def for_namespace(self, name: str, *, groups_of: GroupsOf | None = None) -> ServedClient:
        """Return a client with a key for that namespace."""
        behind = self.behind.for_namespace(name)
        client = ServedClient(
            self.address,
            self.keys.get(name, "none"),
            groups_of=groups_of or self._groups_of,
            any_loop=isinstance(self, AnyLoop),
        )
        client.behind, client.keys, client.address = behind, self.keys, self.address
        client.others = self.others
        self.others.append(client)
        return client

    @property
    def namespace(self) -> str:
        """The namespace, without a call to the service."""
        return self.behind.namespace

    async def clean_expired_sessions(self) -> int:
        """Let the service sweep."""
        return await self.behind.clean_expired_sessions()


class ServedStore(Store):
    """A store whose managers are clients of services."""

    def __init__(self, make: Any, *, url: str | None = None, any_loop: bool = False) -> None:
        super().__init__(make, url=url)
        self._any_loop = any_loop
        self._lives: list[Live] = []
        self._clients: list[SessionClient] = []

    async def open_manager(
        self,
        clock: ManualClock,
        *,
        provider: StorageProvider | None = None,
        settings: SessionSettings | None = None,
        groups_of: GroupsOf | None = None,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> SessionManager:
        """Start a service on another manager, and return a client of it."""
        behind = await super().open_manager(
            clock, provider=provider, settings=settings, namespace=namespace
        )
        keys, texts = [], {}
        for name in {*NAMESPACES, namespace, "a" * 63}:
            key_id, secret = new_secret()
            keys.append(
                ApiKey(
                    id=key_id,
                    name="suite",
                    namespace=name,
                    secret_hash=hashed(secret),
                    rights=("read", "write", "act-as", "admin", "operator"),
                    created_at=clock(),
                )
            )
            texts[name] = key_text(key_id, secret)
        live = Live(Service(behind, ServiceSettings(), keys=keys))
        self._lives.append(live)
        address = await live.start()
        client = ServedClient(
            address, texts[namespace], groups_of=groups_of, any_loop=self._any_loop
        )
        client.behind, client.keys, client.address = behind, texts, address
        client.others = self._clients
        self._clients.append(client)
        await client.initialize()
        return client

    async def close(self) -> None:
        """Close the clients, then the services, then their managers and stores."""
        for client in self._clients:
            while isinstance(client, AnyLoop) and not client.is_over:
                await client.shutdown()
            await client._transport.close()
        for live in self._lives:
            await live.stop()
        self._clients.clear()
        self._lives.clear()
        await super().close()
