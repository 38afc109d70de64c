"""What callers give: refused here or by the service, but always as the manager refuses it."""

# ruff: noqa: ANN401 - tests give what no type allows

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.client import SessionClient
from agent_cores.session.errors import (
    InvalidInputError,
    SessionNotFoundError,
    UnsupportedError,
)
from agent_cores.session.inputs import DEFAULT_TTL_HOURS
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret
from agent_cores.session.testing.clock import ManualClock
from tests.service.served import Live

Call = Callable[[SessionManager], Awaitable[Any]]


def made(clock: ManualClock, namespace: str) -> tuple[ApiKey, str]:
    key_id, secret = new_secret()
    key = ApiKey(
        id=key_id,
        name="test",
        namespace=namespace,
        secret_hash=hashed(secret),
        rights=("read", "write", "act-as", "admin"),
        created_at=clock(),
    )
    return key, key_text(key_id, secret)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[SessionManager, SessionClient]]:
    """Give a manager whose names may be long, and a client of it."""
    clock = ManualClock()
    settings = SessionSettings(cleanup_interval=0, max_name_bytes=1_000, default_expiry=60)
    manager = SessionManager("memory", settings=settings, clock=clock)
    key, text = made(clock, "default")
    live = Live(Service(manager, ServiceSettings(), keys=[key]))
    async with manager, SessionClient(await live.start(), text) as client:
        await manager.create_session("ann", session_id="talk")
        yield manager, client
    await live.stop()


REFUSED: dict[str, tuple[str, Call]] = {
    "ttl past all bounds": ("ttl_hours", lambda m: m.create_session("ann", ttl_hours=1e305)),
    "ttl past all floats": ("ttl_hours", lambda m: m.create_session("ann", ttl_hours=10**400)),
    "ttl of nothing": ("ttl_hours", lambda m: m.create_session("ann", ttl_hours=0)),
    "ttl that is no number": (
        "ttl_hours",
        lambda m: m.create_session("ann", ttl_hours=float("nan")),
    ),
    "lifetime": (
        "max_lifetime_hours",
        lambda m: m.create_session("ann", max_lifetime_hours=10**400),
    ),
    "renewal": ("ttl_hours", lambda m: m.renew_session("talk", "ann", ttl_hours=-(10**400))),
    "lease": ("lease_seconds", lambda m: m.take_turn("talk", "ann", lease_seconds=10**400)),
    "tags that are none": ("tags", lambda m: m.list_user_sessions("ann", tags=_any(5))),
    "tags in one text": ("tags", lambda m: m.list_user_sessions("ann", tags="demo")),
    "a status of nothing": ("status", lambda m: m.list_user_sessions("ann", "")),
    "a long user": ("user_id", lambda m: m.get_session("talk", "u" * 1_001)),
    "a very long user": ("user_id", lambda m: m.get_session("talk", "u" * 1_000_000)),
    "a long owner": ("owner_id", lambda m: m.share_session("talk", "u" * 1_001, "ben")),
    "a long subject": ("target_user_id", lambda m: m.share_session("talk", "ann", "u" * 1_001)),
    "a long token": ("token", lambda m: m.take_turn("talk", "ann", token="t" * 1_001)),
    "a long token to give back": ("token", lambda m: m.release_turn("talk", "ann", "t" * 1_001)),
    "a long user to erase": ("user_id", lambda m: m.erase_user("u" * 1_001)),
}


def _any(value: Any) -> Any:
    return value


@pytest.mark.parametrize("case", REFUSED)
async def test_what_the_manager_refuses_the_client_refuses_by_the_same_name(
    pair: tuple[SessionManager, SessionClient], case: str
) -> None:
    field, call = REFUSED[case]
    for manager in pair:
        with pytest.raises(InvalidInputError) as caught:
            await call(manager)
        assert caught.value.field == field


@pytest.mark.parametrize(
    "session_id", ["", "t" * 1_001, "t" * 1_000_000, "a/b", "..", "\0", "\ud800"]
)
async def test_an_id_that_no_session_can_have_is_missing(
    pair: tuple[SessionManager, SessionClient], session_id: str
) -> None:
    for manager in pair:
        with pytest.raises(SessionNotFoundError):
            await manager.get_session(session_id, "ann")


async def test_names_as_long_as_the_service_allows_are_taken(
    pair: tuple[SessionManager, SessionClient],
) -> None:
    manager, client = pair
    user, talk = "u" * 1_000, "t" * 1_000
    assert await client.create_session(user, session_id=talk) == talk
    turn = await client.take_turn(talk, user, token="x" * 1_000)
    await client.release_turn(talk, user, turn.token or "")
    await client.share_session(talk, user, "v" * 1_000)
    assert (await manager.get_session(talk, user)).owner_id == user
    assert (await client.erase_user(user)).sessions == 1


async def test_the_services_default_is_asked_for_only_where_it_can_be(
    pair: tuple[SessionManager, SessionClient],
) -> None:
    _, client = pair
    created = await client.create_session("ann", ttl_hours=DEFAULT_TTL_HOURS)
    assert (await client.get_session(created, "ann")).metadata.ttl_seconds == 60
    with pytest.raises(InvalidInputError, match="ttl_hours"):
        await client.renew_session(created, "ann", ttl_hours=DEFAULT_TTL_HOURS)
    renewed = await client.renew_session(created, "ann", ttl_hours=24)
    assert renewed.metadata.ttl_seconds == 86_400


async def test_groups_that_no_grant_can_name_are_of_no_effect(
    pair: tuple[SessionManager, SessionClient],
) -> None:
    _, client = pair
    view = client.for_namespace("default", groups_of=lambda _: ["", "a\nb", "\ud800", "team"])
    assert await view.fork_session("talk", "ann")
    await client.share_session("talk", "ann", "group:team")
    assert (await view.get_session("talk", "ben")).access_role == "viewer"


async def test_a_view_may_be_made_before_the_namespace_is_known() -> None:
    clock = ManualClock()
    manager = SessionManager("memory", settings=SessionSettings(cleanup_interval=0), clock=clock)
    key, text = made(clock, "team-a")
    live = Live(Service(manager, ServiceSettings(), keys=[key]))
    client = SessionClient(await live.start(), text)
    ours, theirs = client.for_namespace("team-a"), client.for_namespace("team-b")
    assert await ours.create_session("ann", session_id="talk") == "talk"
    for call in (theirs.create_session("ann"), theirs.erase_user("ann"), theirs.get_statistics()):
        with pytest.raises(UnsupportedError):
            await call
    with pytest.raises(UnsupportedError):
        await theirs.initialize()
    with pytest.raises(UnsupportedError):
        client.for_namespace("team-b")
    assert (await client.for_namespace("team-a").get_session("talk", "ann")).id == "talk"
    await client.shutdown()
    await live.stop()
