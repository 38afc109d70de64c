"""What the client does that the contract suite cannot see."""

# ruff: noqa: ANN401 - tests look behind the service, and send what no type allows

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_cores.session import SessionManager, get_session_manager
from agent_cores.session.client import SessionClient, SyncSessionClient
from agent_cores.session.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    InvalidInputError,
    StorageUnavailableError,
    UnauthenticatedError,
    UnsupportedError,
    WrongContextError,
)
from agent_cores.session.sync_manager import SyncSessionManager
from tests.service.served import Live
from tests.service.wire import Wire

NOT_OVER_HTTP = {"lifecycle", "namespace"}


@pytest.fixture
async def served(wire: Wire) -> AsyncIterator[str]:
    """Serve over a socket, and give the address."""
    live = Live(wire.service)
    yield await live.start()
    await live.stop()


async def test_code_moves_to_the_service_by_changing_one_line(wire: Wire, served: str) -> None:
    key = await wire.key()
    for manager in (SessionManager("memory"), get_session_manager(served, api_key=key)):
        async with manager:
            talk = await manager.create_session(user_id="ann", metadata={"tags": ["demo"]})
            await manager.add_message(talk, "ann", "user", "你好")
            page = await manager.get_session_messages(talk, "ann")
            assert [message.content for message in page] == ["你好"]


async def test_equal_arguments_give_the_same_client_until_it_is_shut_down(
    wire: Wire, served: str
) -> None:
    key = await wire.key()
    one = get_session_manager(served, api_key=key)
    assert get_session_manager(served, api_key=key) is one
    async with one:
        assert one.namespace == "default"
    assert get_session_manager(served, api_key=key) is not one
    with pytest.raises(ConfigurationError):
        get_session_manager(served, api_key=key, nope=1)


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
async def test_the_service_may_be_named_by_a_setting(
    wire: Wire, served: str, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    address, key = served.replace("http", scheme), await wire.key()
    monkeypatch.setenv("SESSION_STORAGE_URL", address)
    for manager in (get_session_manager(api_key=key), get_session_manager(address, api_key=key)):
        async with manager:
            assert isinstance(manager, SessionClient)
            await manager.create_session("ann")
    with pytest.raises(ConfigurationError, match="api_key"):
        get_session_manager()
    assert not isinstance(get_session_manager("memory"), SessionClient)


def test_every_verb_has_its_own_way_over_the_wire() -> None:
    for name, member in inspect.getmembers(SessionManager):
        if name.startswith("_") or name in {"turn", "lifespan"}:  # made of other verbs
            continue
        own = inspect.getattr_static(SessionClient, name)
        assert own is not inspect.getattr_static(SessionManager, name), name
        if callable(member):
            ours = inspect.signature(member)
            theirs = inspect.signature(getattr(SessionClient, name))
            assert list(ours.parameters.values())[1:] == [
                parameter.replace(annotation=ours.parameters[parameter.name].annotation)
                for parameter in list(theirs.parameters.values())[1:]
            ], name


async def test_a_wrong_key_is_told_at_once(served: str) -> None:
    client = SessionClient(served, "ask_a_b")
    with pytest.raises(UnauthenticatedError):
        await client.initialize()
    await client.shutdown()
    for arguments in (("ftp://x", "k"), ("http://x", ""), ("http://x", "a\nb")):
        with pytest.raises(ConfigurationError):
            SessionClient(*arguments)


async def test_a_key_of_one_user_is_for_that_user(wire: Wire, served: str) -> None:
    key = await wire.key("read", "write", user_id="ann")
    async with SessionClient(served, key) as client:
        talk = await client.create_session("ann")
        assert (await client.get_session(talk, "ann")).owner_id == "ann"
        with pytest.raises(AccessDeniedError):
            await client.get_session(talk, "ben")
        with pytest.raises(UnsupportedError):
            client.for_namespace("other")
        with pytest.raises(UnsupportedError):
            _ = client.lifecycle
        with pytest.raises(UnsupportedError):
            await client.clean_expired_sessions()


async def test_a_client_belongs_to_one_event_loop(wire: Wire, served: str) -> None:
    key = await wire.key()
    async with SessionClient(served, key) as client:

        async def elsewhere() -> None:
            await client.get_statistics()

        with pytest.raises(WrongContextError):
            await asyncio.to_thread(asyncio.run, elsewhere())


class Flaky:
    """A server that loses the answers it is told to lose, after the service has given them.

    With a ``status`` it stands for a proxy, which says so.
    """

    def __init__(self, service: Any) -> None:
        self.service = service
        self.lose = 0
        self.status = 0
        self.seen: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.service(scope, receive, send)
            return
        if scope["path"] != "/v1/me":
            self.seen.append(scope["method"])
        if not self.lose or scope["path"] == "/v1/me":
            await self.service(scope, receive, send)
            return
        self.lose -= 1

        async def lost(_: Any) -> None:
            return

        await self.service(scope, receive, lost)
        if self.status:
            await send({"type": "http.response.start", "status": self.status, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>Bad Gateway</html>"})
            return
        headers = [(b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionResetError


@pytest.fixture
async def flaky(wire: Wire) -> AsyncIterator[tuple[Flaky, SessionClient]]:
    app = Flaky(wire.service)
    live = Live(app)
    client = SessionClient(await live.start(), await wire.key(), retries=1, timeout=5)
    await client.initialize()
    yield app, client
    await client.shutdown()
    await live.stop()


@pytest.fixture
def quiet() -> Any:
    import logging

    logger = logging.getLogger("uvicorn.error")
    before, logger.disabled = logger.disabled, True
    yield
    logger.disabled = before


async def test_what_is_safe_to_repeat_is_repeated(
    wire: Wire, flaky: tuple[Flaky, SessionClient], quiet: None
) -> None:
    app, client = flaky
    app.lose = 1
    talk = await client.create_session("ann")
    assert len(await wire.manager.list_user_sessions("ann")) == 1
    app.lose = 1
    await client.add_message(talk, "ann", "user", "once")
    app.lose = 1
    turn = await client.take_turn(talk, "ann")
    app.lose = 1
    copy = await client.fork_session(talk, "ann")
    app.lose = 1
    session = await client.get_session(copy, "ann")
    assert [message.content for message in session.messages or []] == ["once"]
    assert turn.token is not None
    assert len(await wire.manager.list_user_sessions("ann")) == 2


@pytest.mark.parametrize("status", [502, 504])
async def test_an_answer_that_a_proxy_lost_is_asked_for_again(
    wire: Wire, flaky: tuple[Flaky, SessionClient], quiet: None, status: int
) -> None:
    app, client = flaky
    talk = await client.create_session("ann")
    app.lose, app.status = 1, status
    await client.add_message(talk, "ann", "user", "once")
    assert (await client.get_session(talk, "ann")).metadata.message_count == 1
    app.lose = 1
    with pytest.raises(StorageUnavailableError, match=str(status)) as caught:
        await client.update_session(talk, "ann", {"k": 1})
    assert caught.value.outcome_unknown
    app.lose = 2
    with pytest.raises(StorageUnavailableError, match=str(status)):
        await client.get_session(talk, "ann")


async def test_what_is_not_safe_to_repeat_has_an_unknown_outcome(
    wire: Wire, flaky: tuple[Flaky, SessionClient], quiet: None
) -> None:
    app, client = flaky
    talk = await client.create_session("ann")
    app.seen.clear()
    for call in (
        client.update_session(talk, "ann", {"k": 1}),
        client.share_session(talk, "ann", "ben"),
    ):
        app.lose = 1
        with pytest.raises(StorageUnavailableError) as caught:
            await call
        assert caught.value.outcome_unknown
    assert app.seen == ["PATCH", "PUT"]


async def test_a_service_that_is_not_there_is_unavailable_and_nothing_happened() -> None:
    client = SessionClient("http://127.0.0.1:9", "ask_a_b", retries=1)
    with pytest.raises(StorageUnavailableError) as caught:
        await client.create_session("ann")
    assert not caught.value.outcome_unknown
    await client.shutdown()


async def test_errors_carry_what_the_managers_carry(wire: Wire, served: str) -> None:
    async with SessionClient(served, await wire.key()) as client:
        await client.create_session("ann", session_id="talk")
        with pytest.raises(InvalidInputError) as wrong:
            await client.add_messages("talk", "ann", [{"role": "user", "content": 5}])
        assert wrong.value.field == "messages/0/content"
        with pytest.raises(InvalidInputError) as wrong:
            await client.update_session("talk", "ann", {"a/b~c~1": "x" * 1_100_000})
        assert wrong.value.field == "context_updates/a/b~c~1"
        with pytest.raises(ConflictError):
            await client.add_message("talk", "ann", "user", "x", expected_last_seq=7)


def test_the_sync_client_is_the_sync_manager_over_http() -> None:
    async def serve(started: Any, stop: asyncio.Event) -> None:
        wire = Wire()
        live = Live(wire.service)
        started.set_result((await live.start(), await wire.key()))
        await stop.wait()
        await live.stop()

    from concurrent.futures import Future
    from threading import Thread

    started: Future[tuple[str, str]] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    thread = Thread(target=lambda: loop.run_until_complete(serve(started, stop)))
    thread.start()
    try:
        address, key = started.result(10)
        with SyncSessionClient(address, key) as client:
            assert isinstance(client, SyncSessionManager)
            talk = client.create_session("ann")
            with client.turn(talk, "ann") as turn:
                client.add_message(talk, "ann", "user", "hi", turn=turn.token)
            assert client.get_session(talk, "ann").metadata.last_seq == 1
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
