"""The adapter on a client of a live service, with keys of different rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.adapters.google_adk import ADKSessionService
from agent_cores.session.adapters.layouts.google_adk import APP_OWNER
from agent_cores.session.client import SessionClient
from agent_cores.session.errors import AccessDeniedError, SessionExistsError
from agent_cores.session.models.times import utc_now
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret
from tests.adapters.google_adk.conftest import APP, event, texts
from tests.service.served import Live


@asynccontextmanager
async def connected(*rights: tuple[str, ...]) -> AsyncIterator[list[ADKSessionService]]:
    """Serve an empty store, and yield a service for a key of each of these rights."""
    keys, secrets = [], []
    for each in rights:
        key_id, secret = new_secret()
        secrets.append(key_text(key_id, secret))
        keys.append(
            ApiKey(
                id=key_id,
                name="test",
                namespace="default",
                secret_hash=hashed(secret),
                rights=each,
                created_at=utc_now(),
            )
        )
    manager = SessionManager("memory://", settings=SessionSettings())
    live = Live(Service(manager, ServiceSettings(), keys=keys))
    async with AsyncExitStack() as stack:
        address = await live.start()
        stack.push_async_callback(live.stop)
        clients = [SessionClient(address, secret) for secret in secrets]
        yield [ADKSessionService(await stack.enter_async_context(each)) for each in clients]


async def test_a_key_that_acts_for_users_does_all_but_list_them_together() -> None:
    async with connected(("read", "write", "act-as"), ("read", "act-as", "operator")) as services:
        service, console = services
        state = {"app:a": 1, "user:u": 1, "k": 1}
        session = await service.create_session(**APP, session_id="会/话", state=dict(state))
        stale = session.model_copy(deep=True)
        sent = event("once", delta={"app:a": 2, "user:u": 2, "k": 2})
        await service.append_event(session, sent)
        await service.append_event(session, sent)
        await service.append_event(session, event("other", id=sent.id))
        with pytest.raises(StaleSessionError, match="modified in storage"):
            await service.append_event(stale, event("late"))
        with pytest.raises(AlreadyExistsError):
            await service.create_session(**APP, session_id="会/话")
        found = await service.get_session(**APP, session_id="会/话")
        assert texts(found) == texts(session) == ["once", "other"]
        assert found == session
        assert (await service.list_sessions(**APP)).sessions[0].state == found.state
        assert await service.get_user_state(**APP) == {"u": 2}
        with pytest.raises(AccessDeniedError, match="operator"):
            await service.list_sessions(app_name="app")
        [listed] = (await console.list_sessions(app_name="app")).sessions
        assert (listed.user_id, listed.id, listed.state) == ("ann", "会/话", found.state)
        with pytest.raises(AccessDeniedError, match="write"):
            await console.delete_session(**APP, session_id="会/话")
        await service.delete_session(**APP, session_id="会/话")
        assert await service.get_session(**APP, session_id="会/话") is None


async def test_shared_state_that_others_made_is_refused() -> None:
    async with connected(("read", "write", "act-as")) as [service]:
        eve = service._manager  # noqa: SLF001 - a user who calls the service directly
        await eve.create_session("eve", session_id="adk-app:app", context={"k": {"key": "k"}})
        await eve.transfer_ownership("adk-app:app", "eve", APP_OWNER, keep_role="editor")
        session = await service.create_session(**APP, session_id="s")
        assert session.state == {}
        with pytest.raises(SessionExistsError, match="is somebody else's"):
            await service.append_event(session, event(delta={"app:k": "secret"}))
