"""In whose name an adapter acts, and how it reads."""

from __future__ import annotations

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.adapters.owner import Owner, manager_of
from agent_cores.session.adapters.reading import latest_messages, messages_after
from agent_cores.session.adapters.refusals import raised_as
from agent_cores.session.errors import (
    ConfigurationError,
    SessionExpiredError,
    SessionNotFoundError,
)


async def test_a_user_acts_for_himself(manager: SessionManager) -> None:
    assert Owner(manager, "ann").acting() == (manager, "ann")


async def test_a_function_names_the_user_of_a_context(manager: SessionManager) -> None:
    owner = Owner(manager, lambda context: f"user-{context}")
    assert owner.acting("7").user_id == "user-7"


async def test_an_operator_reads_the_sessions_of_others(manager: SessionManager) -> None:
    await manager.create_session("ann", session_id="talk")
    verbs, user_id = Owner(manager, operator="importer").acting()
    assert (await verbs.get_session("talk", user_id)).metadata.owner_id == "ann"


async def test_a_user_who_is_no_text_is_refused(manager: SessionManager) -> None:
    with pytest.raises(ConfigurationError, match="user_id must be text, not int"):
        Owner(manager, lambda _: 7).acting()  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"user_id": "ann", "operator": "importer"}])
def test_one_of_user_and_operator_is_required(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="user_id= or operator="):
        Owner(SessionManager("memory"), **given)


def test_a_url_gives_the_manager_that_the_process_shares() -> None:
    assert manager_of("memory://") is manager_of("memory://")


async def test_more_messages_are_read_than_fit_on_a_page(manager: SessionManager) -> None:
    acting = Owner(manager, "ann").acting()
    await manager.create_session("ann", session_id="talk")
    for start in range(0, 2_500, 500):
        batch = [{"role": "user", "content": str(start + n)} for n in range(500)]
        await manager.add_messages("talk", "ann", batch)
    every = [m.content async for page in messages_after(acting, "talk") for m in page]
    assert every == [str(n) for n in range(2_500)]
    latest = await latest_messages(acting, "talk", 1_200)
    assert [m.content for m in latest] == [str(n) for n in range(1_300, 2_500)]
    assert await latest_messages(acting, "talk", 0) == []


def test_an_error_becomes_the_first_that_fits() -> None:
    with pytest.raises(KeyError), raised_as({SessionNotFoundError: KeyError}):
        raise SessionExpiredError
    with pytest.raises(ConfigurationError), raised_as({SessionNotFoundError: KeyError}):
        raise ConfigurationError("something else")
