"""Turns: one worker at a time answers in a conversation."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent_cores.session.errors import (
    AccessDeniedError,
    InvalidInputError,
    TurnHeldError,
    TurnLostError,
)
from agent_cores.session.testing.manager.cases import ManagerCases, texts

if TYPE_CHECKING:
    from agent_cores.session.session_manager import SessionManager
    from agent_cores.session.testing.clock import ManualClock


class TurnCases(ManagerCases):
    """``take_turn``, ``renew_turn``, ``release_turn``, ``turn``."""

    async def test_a_turn_is_held_until_it_is_released(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        turn = await manager.take_turn(talk, "ann")
        assert turn.token is not None
        assert turn.expires_at == clock() + timedelta(seconds=30)
        with pytest.raises(TurnHeldError) as caught:
            await manager.take_turn(talk, "ann")
        assert caught.value.expires_at == turn.expires_at
        assert await manager.release_turn(talk, "ann", turn.token) is True
        other = await manager.take_turn(talk, "ann", lease_seconds=300)
        assert other.expires_at == clock() + timedelta(seconds=300)
        with pytest.raises(TurnLostError):
            await manager.release_turn(talk, "ann", turn.token)

    async def test_a_turn_ends_at_the_exact_instant(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        first = await manager.take_turn(talk, "ann")
        clock.advance(29.999)
        with pytest.raises(TurnHeldError):
            await manager.take_turn(talk, "ann")
        clock.advance(0.001)
        assert (await manager.get_session(talk, "ann")).metadata.turn is None
        second = await manager.take_turn(talk, "ann")
        assert second.token != first.token
        assert first.token is not None
        with pytest.raises(TurnLostError):
            await manager.renew_turn(talk, "ann", first.token)
        with pytest.raises(TurnLostError):
            await manager.add_message(talk, "ann", "user", "late", turn=first.token)
        assert await texts(manager, talk) == []

    async def test_taking_with_a_token_of_ones_own_is_repeatable(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        first = await manager.take_turn(talk, "ann", token="mine")
        clock.advance(5)
        again = await manager.take_turn(talk, "ann", token="mine")
        assert again == first
        with pytest.raises(TurnHeldError):
            await manager.take_turn(talk, "ann", token="other")

    async def test_a_renewal_counts_the_lease_anew(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        turn = await manager.take_turn(talk, "ann")
        assert turn.token is not None
        clock.advance(25)
        renewed = await manager.renew_turn(talk, "ann", turn.token, lease_seconds=60)
        assert (renewed.token, renewed.expires_at) == (turn.token, clock() + timedelta(seconds=60))
        with pytest.raises(TurnLostError):
            await manager.renew_turn(talk, "ann", "another")

    async def test_an_append_that_names_a_turn_needs_it_and_others_do_not(
        self, manager: SessionManager, talk: str
    ) -> None:
        with pytest.raises(TurnLostError):
            await manager.add_message(talk, "ann", "user", "no", turn="never taken")
        turn = await manager.take_turn(talk, "ann")
        await manager.add_message(talk, "ann", "user", "1", turn=turn.token)
        await manager.add_message(talk, "ann", "user", "2")
        with pytest.raises(TurnLostError):
            await manager.add_messages(
                talk, "ann", [{"role": "user", "content": "no"}], turn="another"
            )
        assert await texts(manager, talk) == ["1", "2"]

    async def test_a_block_holds_the_turn_and_gives_it_back(
        self, manager: SessionManager, talk: str
    ) -> None:
        async with manager.turn(talk, "ann") as turn:
            await manager.add_message(talk, "ann", "user", "1", turn=turn.token)
            with pytest.raises(TurnHeldError):
                async with manager.turn(talk, "ann"):
                    await manager.add_message(talk, "ann", "user", "never")
        with pytest.raises(TurnLostError):
            await manager.add_message(talk, "ann", "user", "no", turn=turn.token)
        with pytest.raises(ZeroDivisionError):
            async with manager.turn(talk, "ann"):
                _ = 1 / 0
        await manager.take_turn(talk, "ann")
        assert await texts(manager, talk) == ["1"]

    async def test_a_block_renews_itself(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        async with manager.turn(talk, "ann", lease_seconds=0.3) as turn:
            end = turn.expires_at
            clock.advance(0.2)
            async with asyncio.timeout(10):
                while True:
                    held = (await manager.get_session(talk, "ann", message_limit=0)).metadata.turn
                    assert held is not None
                    if held.expires_at > end:
                        break
                    await asyncio.sleep(0.01)
            clock.advance(0.2)
            with pytest.raises(TurnHeldError):
                await manager.take_turn(talk, "ann")

    async def test_a_block_waits_for_its_turn(self, manager: SessionManager, talk: str) -> None:
        order: list[str] = []

        async def answer(name: str) -> None:
            async with manager.turn(talk, "ann", wait_seconds=30):
                order.append(name)
                await asyncio.sleep(0)
                order.append(name)

        await asyncio.gather(*(answer(name) for name in "abc"))
        assert order[::2] == order[1::2]
        assert sorted(order) == sorted("aabbcc")

    async def test_of_two_takers_at_once_one_wins(
        self, manager: SessionManager, talk: str, clock: ManualClock
    ) -> None:
        for _ in range(3):  # a free turn, then turns whose lease has expired
            answers = await asyncio.gather(
                *(manager.take_turn(talk, "ann") for _ in range(2)), return_exceptions=True
            )
            assert sum(isinstance(answer, TurnHeldError) for answer in answers) == 1
            assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
            clock.advance(30)

    async def test_a_viewer_takes_no_turn(self, manager: SessionManager, talk: str) -> None:
        await manager.share_session(talk, "ann", "val")
        with pytest.raises(AccessDeniedError):
            await manager.take_turn(talk, "val")
        with pytest.raises(AccessDeniedError):
            async with manager.turn(talk, "val"):
                await manager.add_message(talk, "val", "user", "never")

    @pytest.mark.parametrize("lease", [0, -1, 300.001, float("nan"), "30", True])
    async def test_a_lease_is_at_most_five_minutes(
        self,
        manager: SessionManager,
        talk: str,
        lease: Any,  # noqa: ANN401
    ) -> None:
        with pytest.raises(InvalidInputError):
            await manager.take_turn(talk, "ann", lease_seconds=lease)
        turn = await manager.take_turn(talk, "ann", lease_seconds=300)
        assert turn.token is not None
        with pytest.raises(InvalidInputError):
            await manager.renew_turn(talk, "ann", turn.token, lease_seconds=lease)
