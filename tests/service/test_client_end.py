"""How a client starts and ends: who shares it, what is waited for, and what is left open."""

# ruff: noqa: SLF001 - tests look at what is left open

from __future__ import annotations

import asyncio

import pytest
import uvicorn

from agent_cores.session.client import SessionClient, pool
from agent_cores.session.errors import (
    StorageUnavailableError,
    TurnHeldError,
    UnauthenticatedError,
)
from tests.service.served import Gate
from tests.service.wire import Wire


async def ends_while_at_work(
    client: SessionClient, door: Gate
) -> tuple[asyncio.Task[str], asyncio.Task[None]]:
    """Begin a create that waits at the door, and the end of the client."""
    door.close()
    creating = asyncio.create_task(client.create_session("ann"))
    await door.waiting.wait()
    return creating, asyncio.create_task(client.shutdown())


async def test_shutdown_waits_for_the_requests_at_work(wire: Wire, gate: tuple[Gate, str]) -> None:
    door, address = gate
    client = SessionClient(address, await wire.key())
    await client.initialize()
    creating, ending = await ends_while_at_work(client, door)
    await asyncio.sleep(0.05)
    assert not ending.done()
    door.opened.set()
    talk = await creating
    await ending
    assert not client._transport.is_open
    assert (await wire.manager.get_session(talk, "ann")).owner_id == "ann"


async def test_a_request_that_outlasts_the_shutdown_is_told_as_a_lost_answer(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    door, address = gate
    client = SessionClient(address, await wire.key(), retries=2, timeout=5)
    await client.initialize()
    creating, ending = await ends_while_at_work(client, door)
    await asyncio.sleep(0.05)
    ending.cancel()  # by whoever had no time to wait
    with pytest.raises(asyncio.CancelledError):
        await ending
    with pytest.raises(StorageUnavailableError) as caught:
        await creating
    assert caught.value.outcome_unknown
    assert not client._transport.is_open


async def test_a_client_taken_up_again_while_it_ends_stays_open(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    door, address = gate
    client = SessionClient(address, await wire.key())
    await client.initialize()
    creating, ending = await ends_while_at_work(client, door)
    again = asyncio.create_task(client.initialize())
    await asyncio.sleep(0.05)
    door.opened.set()
    await asyncio.gather(creating, ending, again)
    assert client._transport.is_open
    await client.shutdown()


async def test_a_client_that_the_service_does_not_know_leaves_nothing_open(
    gate: tuple[Gate, str],
) -> None:
    client = SessionClient(gate[1], "ask_a_b")
    with pytest.raises(UnauthenticatedError):
        await client.initialize()
    assert not client._transport.is_open


async def test_a_client_used_after_its_end_gives_its_turns_back(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    client = SessionClient(gate[1], await wire.key())
    async with client:
        talk = await client.create_session("ann")
    async with client.turn(talk, "ann"):
        with pytest.raises(TurnHeldError):
            await client.take_turn(talk, "ann")
    await client.take_turn(talk, "ann")
    await client.shutdown()


async def test_a_view_shares_how_many_use_the_client(wire: Wire, gate: tuple[Gate, str]) -> None:
    client = SessionClient(gate[1], await wire.key())
    await client.initialize()
    view = client.for_namespace("default", groups_of=lambda _: ["team"])
    await view.initialize()
    await client.shutdown()
    assert view._transport.is_open
    await view.shutdown()
    assert not client._transport.is_open


async def test_a_request_that_had_no_connection_did_not_happen(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    door, address = gate
    client = SessionClient(address, await wire.key(), timeout=0.5, retries=0, pool_size=1)
    async with client:
        talk = await client.create_session("ann")
        door.close()
        first = asyncio.create_task(client.update_session(talk, "ann", {"first": 1}))
        await door.waiting.wait()
        with pytest.raises(StorageUnavailableError) as caught:
            await client.update_session(talk, "ann", {"second": 1})
        assert not caught.value.outcome_unknown
        with pytest.raises(StorageUnavailableError) as caught:
            await first
        assert caught.value.outcome_unknown


async def test_a_connection_is_left_before_the_server_closes_it(
    wire: Wire, gate: tuple[Gate, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    door, address = gate
    assert uvicorn.Config(door).timeout_keep_alive > pool.IDLE_SECONDS
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.01)
    async with SessionClient(address, await wire.key()) as client:
        await client.create_session("ann")
        await asyncio.sleep(0.1)
        await client.create_session("ann")
    assert len(door.callers) > 1


async def test_first_calls_share_one_question(wire: Wire, gate: tuple[Gate, str]) -> None:
    door, address = gate
    client = SessionClient(address, await wire.key())
    door.close()
    calls = [asyncio.create_task(client.create_session("ann")) for _ in range(5)]
    await door.waiting.wait()
    calls.pop().cancel()
    door.opened.set()
    assert len(set(await asyncio.gather(*calls))) == 4
    assert door.asked == 1
    await client.shutdown()


async def test_first_calls_share_one_failure_and_the_next_asks_again(
    wire: Wire, gate: tuple[Gate, str]
) -> None:
    door, address = gate
    client = SessionClient(address, "ask_a_b", retries=0)
    door.close()
    calls = [asyncio.create_task(client.create_session("ann")) for _ in range(5)]
    await door.waiting.wait()
    door.opened.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [UnauthenticatedError] * 5
    assert door.asked == 1
    with pytest.raises(UnauthenticatedError):
        await client.create_session("ann")
    assert door.asked == 2
    await client.shutdown()
