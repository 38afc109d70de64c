"""Turns: one worker at a time answers in a conversation."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import Action
from agent_cores.session.engine import Patience
from agent_cores.session.errors import InvalidInputError, SessionError, TurnHeldError, TurnLostError
from agent_cores.session.inputs import lease, new_id
from agent_cores.session.models.effects import TurnEffect
from agent_cores.session.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.models.change import Applied
    from agent_cores.session.models.session import Turn


class TurnVerbs(Verbs):
    """Verbs on the turn: a lease with a fencing token."""

    @asynccontextmanager
    async def turn(
        self,
        session_id: str,
        user_id: str,
        *,
        lease_seconds: float = 30,
        wait_seconds: float = 0,
    ) -> AsyncIterator[Turn]:
        """Hold the turn for the length of a block; it renews itself every third of the lease.

        Pass ``turn.token`` to ``add_message(turn=…)``: an append is refused with
        ``TurnLostError`` once another worker has the turn. Raises ``TurnHeldError`` if it is
        still held after ``wait_seconds``.
        """
        seconds = lease(lease_seconds)
        if isinstance(wait_seconds, bool) or not wait_seconds >= 0:
            raise InvalidInputError("wait_seconds", "0 or more seconds")
        held = await self._wait_for_turn(session_id, user_id, seconds, wait_seconds)
        token = held.token or ""
        renewal = asyncio.create_task(self._keep_turn(session_id, user_id, token, seconds))
        try:
            yield held
        finally:
            renewal.cancel()
            await asyncio.wait([renewal])
            with suppress(SessionError):  # lost or gone: there is nothing left to release
                await self.release_turn(session_id, user_id, token)

    async def _wait_for_turn(
        self, session_id: str, user_id: str, seconds: float, wait_seconds: float
    ) -> Turn:
        token = new_id()
        patience = Patience(wait_seconds)
        while True:
            try:
                return await self.take_turn(session_id, user_id, lease_seconds=seconds, token=token)
            except TurnHeldError:
                if not await patience.pause():
                    raise

    async def _keep_turn(self, session_id: str, user_id: str, token: str, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds / 3)
            try:
                await self.renew_turn(session_id, user_id, token, lease_seconds=seconds)
            except TurnLostError:
                return
            except SessionError:
                continue  # the store may be back before the lease ends

    async def take_turn(
        self,
        session_id: str,
        user_id: str,
        *,
        lease_seconds: float = 30,
        token: str | None = None,
    ) -> Turn:
        """Take the turn for at most 300 seconds. A ``token`` of one's own makes it repeatable.

        Raises ``TurnHeldError`` while another holds it.
        """
        decision = await self._decide(session_id, user_id, Action.TAKE_TURN)
        chosen = new_id() if token is None else self._inputs.name(token, "token")
        end = decision.at + timedelta(seconds=lease(lease_seconds))
        effect = TurnEffect(token=chosen, lease_end=end, take=True)
        applied = await self._engine.apply(
            decision, self._change(decision, turn_effect=effect), done_if=()
        )
        return _held(applied, chosen)

    async def renew_turn(
        self, session_id: str, user_id: str, token: str, *, lease_seconds: float = 30
    ) -> Turn:
        """Count the lease anew. Raises ``TurnLostError`` if another has the turn."""
        decision = await self._decide(session_id, user_id, Action.TAKE_TURN)
        held = self._inputs.name(token, "token")
        end = decision.at + timedelta(seconds=lease(lease_seconds))
        effect = TurnEffect(token=held, lease_end=end)
        applied = await self._engine.apply(
            decision, self._change(decision, turn_effect=effect), done_if=()
        )
        return _held(applied, held)

    async def release_turn(self, session_id: str, user_id: str, token: str) -> bool:
        """Give the turn back. Raises ``TurnLostError`` if it is not held with this token."""
        decision = await self._decide(session_id, user_id, Action.TAKE_TURN)
        effect = TurnEffect(token=self._inputs.name(token, "token"), lease_end=None)
        change = self._change(decision, turn_effect=effect)
        await self._engine.apply(decision, change, done_if=(TurnLostError,))
        return True


def _held(applied: Applied, token: str) -> Turn:
    turn = applied.header.turn
    if turn is None or turn.token != token:
        raise TurnLostError
    return turn
