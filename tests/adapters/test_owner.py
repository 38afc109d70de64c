"""In whose name an adapter acts, and how it reads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session import SessionManager
from agent_cores.session.adapters.owner import Acting, Owner, manager_of
from agent_cores.session.adapters.reading import (
    latest_messages,
    messages_after,
    sessions_tagged,
)
from agent_cores.session.adapters.refusals import raised_as
from agent_cores.session.errors import (
    ConfigurationError,
    SessionExpiredError,
    SessionNotFoundError,
)
from agent_cores.session.testing.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Sequence


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


async def tagged(clock: ManualClock, count: int, **context: str) -> Acting:
    """Create sessions of Ann's with the tag x, s00 and on, two seconds apart."""
    manager = SessionManager("memory", clock=clock)
    for number in range(count):
        clock.advance(2)
        await manager.create_session(
            "ann",
            {"tags": ["x"]},
            session_id=f"s{number:02}",
            context={"n": number, **context},
        )
    return Owner(manager, "ann").acting()


async def test_a_list_shows_what_moves_to_its_top_meanwhile() -> None:
    """A session that is written to before its page is read is on no later page."""
    clock = ManualClock()
    acting = await tagged(clock, 12)
    found: list[str] = []
    async for session in sessions_tagged(acting, "x", page_size=3, include=["context"]):
        found.append(session.id)
        assert session.context == {"n": int(session.id[1:])}
        if len(found) == 3:  # one that was seen, and two that were not
            for moved in ("s10", "s00", "s05"):
                clock.advance(2)
                await acting.verbs.add_message(moved, "ann", "user", "Hello")
    assert found[:3] == ["s11", "s10", "s09"]
    assert found[-2:] == ["s05", "s00"]
    assert sorted(found) == [f"s{number:02}" for number in range(12)]


async def test_a_list_of_large_sessions_shows_what_moves_to_its_top_meanwhile() -> None:
    """Their pages end at their bytes, long before they hold as many as were asked for."""
    clock = ManualClock()
    acting = await tagged(clock, 9, large="x" * 900_000)
    found: list[str] = []
    async for session in sessions_tagged(acting, "x", include=["context"]):
        found.append(session.id)
        if len(found) == 1:
            clock.advance(2)
            await acting.verbs.add_message("s00", "ann", "user", "Hello")
    assert found == [f"s{number:02}" for number in reversed(range(9))]


async def test_a_session_that_is_written_to_before_it_is_read_hides_none_that_moved_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is at the top, and nothing tells that it came there after it was listed."""
    clock = ManualClock()
    acting = await tagged(clock, 12)
    storage, add_message = acting.verbs.runtime.storage, acting.verbs.add_message
    read_several = storage.read_several

    async def late(names: Sequence[tuple[str, str]], **wanted: Any) -> Any:  # noqa: ANN401
        if ("default", "s08") in names:
            monkeypatch.setattr(storage, "read_several", read_several)
            for moved in ("s00", "s08"):
                clock.advance(2)
                await asyncio.create_task(add_message(moved, "ann", "user", "Hello"))
        return await read_several(names, **wanted)

    monkeypatch.setattr(storage, "read_several", late)
    listed = sessions_tagged(acting, "x", page_size=3, include=["context"])
    found = [session.id async for session in listed]
    assert found == [f"s{number:02}" for number in reversed(range(12))]
