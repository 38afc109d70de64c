"""``InFlight``: which sessions this process's own batches touch just now."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent_cores.session.models import Change
    from agent_cores.session.storage.sql.rows import SessionName


class InFlight:
    """Tells a lock of another batch of this process, which goes soon, from one of others.

    A slow disk may keep a commit longer than a batch waits for its locks.
    """

    def __init__(self) -> None:
        self._flights: set[Flight] = set()

    @contextmanager
    def sending(self, changes: Iterable[Change]) -> Iterator[Flight]:
        """Count the sessions of these changes as in flight."""
        names = frozenset((change.namespace, change.session_id) for change in changes)
        flight = Flight(self._flights, names)
        flight.take_off()
        try:
            yield flight
        finally:
            flight.land()


class Flight:
    """A batch whose statement is under way, or that waits to send it again."""

    def __init__(self, flights: set[Flight], names: frozenset[SessionName]) -> None:
        self._flights = flights
        self.names = names
        self.landed = asyncio.Event()

    def take_off(self) -> None:
        """Count as in flight."""
        self.landed.clear()
        self._flights.add(self)

    def land(self) -> None:
        """Count no more: this batch holds no lock."""
        self._flights.discard(self)
        self.landed.set()

    async def wait_for_others(self, deadline: float) -> bool:
        """Wait for what else is in flight to these sessions; return whether there was any.

        Meanwhile this batch is not in flight, so that no two wait for each other.
        """
        self.land()
        others = [flight for flight in self._flights if not self.names.isdisjoint(flight.names)]
        try:
            async with asyncio.timeout_at(deadline):
                for flight in others:
                    await flight.landed.wait()
        except TimeoutError:
            return False
        finally:
            self.take_off()
        return bool(others)
