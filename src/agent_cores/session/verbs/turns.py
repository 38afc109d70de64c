"""Turns: one worker at a time answers in a conversation."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from agent_cores.session.access.access_control import Action
from agent_cores.session.backoff import Backoff
from agent_cores.session.errors import InvalidInputError, SessionError, TurnHeldError, TurnLostError
from agent_cores.session.inputs import lease, new_id
from agent_cores.session.models.effects import TurnEffect
from agent_cores.session.verbs.base import Verbs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent_cores.session.models.change import Change
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
        """Hold the turn during a block; it is renewed every third of the lease.

        Pass ``turn.token`` to ``add_message(turn=…)``: the append is refused with
        ``TurnLostError`` once another worker has the turn. Raises ``TurnHeldError`` if another
        worker still holds it after ``wait_seconds``.
        """
        seconds = lease(lease_seconds)
        if not isinstance(wait_seconds, int | float) or not wait_seconds >= 0:
            raise InvalidInputError("wait_seconds", "must be a number of seconds, 0 or more")
        token = new_id()
        renewal: asyncio.Task[None] | None = None
        try:
            held = await self._wait_for_turn(session_id, user_id, token, seconds, wait_seconds)
            renewal = asyncio.create_task(self._keep_turn(session_id, user_id, token, seconds))
            yield held
        finally:
            # Even if this task is cancelled while it takes the turn: else nobody could answer until
            # the lease expires.
            await self._finish(self._release(session_id, user_id, token, renewal))

    async def _release(
        self, session_id: str, user_id: str, token: str, renewal: asyncio.Task[None] | None
    ) -> None:
        if renewal is not None:
            renewal.cancel()
            await asyncio.wait([renewal])
        if not self._is_running:
            return  # the manager was shut down: the lease expires by itself
        with suppress(SessionError, RuntimeError):  # lost, deleted, never taken, or closing down
            await self.release_turn(session_id, user_id, token)

    async def _wait_for_turn(
        self, session_id: str, user_id: str, token: str, seconds: float, wait_seconds: float
    ) -> Turn:
        backoff = Backoff(until=time.monotonic() + wait_seconds)
        while True:
            try:
                return await self.take_turn(session_id, user_id, lease_seconds=seconds, token=token)
            except TurnHeldError:
                if not await backoff.pause():
                    raise

    async def _keep_turn(self, session_id: str, user_id: str, token: str, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds / 3)
            try:
                await self.renew_turn(session_id, user_id, token, lease_seconds=seconds)
            except TurnLostError:
                return
            except SessionError:
                continue  # the store may respond again before the lease expires

    async def take_turn(
        self,
        session_id: str,
        user_id: str,
        *,
        lease_seconds: float = 30,
        token: str | None = None,
    ) -> Turn:
        """Take the turn for at most 300 seconds. With a ``token`` the call can be repeated safely.

        Raises ``TurnHeldError`` while another holds it.
        """
        chosen = new_id() if token is None else token
        return await self._lease_turn(session_id, user_id, chosen, lease_seconds, take=True)

    async def renew_turn(
        self, session_id: str, user_id: str, token: str, *, lease_seconds: float = 30
    ) -> Turn:
        """Restart the lease. Raises ``TurnLostError`` if the turn is no longer held."""
        return await self._lease_turn(session_id, user_id, token, lease_seconds, take=False)

    async def _lease_turn(
        self, session_id: str, user_id: str, token: str, lease_seconds: float, *, take: bool
    ) -> Turn:
        decision = await self._decide(session_id, user_id, Action.TAKE_TURN)

        def change() -> Change:
            end = decision.at + timedelta(milliseconds=round(lease(lease_seconds) * 1000))
            held = self._inputs.name(token, "token")
            return decision.change(turn_effect=TurnEffect(token=held, lease_end=end, take=take))

        checked = await self._checked(decision, change)
        applied = await self._engine.apply(decision, checked, done_if=())
        turn = applied.header.turn
        if turn is None or turn.token != token:
            raise TurnLostError
        return turn

    async def release_turn(self, session_id: str, user_id: str, token: str) -> bool:
        """Release the turn. Raises ``TurnLostError`` if it is not held with this token."""
        decision = await self._decide(session_id, user_id, Action.TAKE_TURN)
        held = await self._checked(decision, lambda: self._inputs.name(token, "token"))
        effect = TurnEffect(token=held, lease_end=None)
        change = decision.change(turn_effect=effect)
        await self._engine.apply(decision, change, done_if=(TurnLostError,))
        return True
