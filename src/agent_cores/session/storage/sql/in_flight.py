"""``InFlight``: which sessions the batches of this process are writing to."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent_cores.session.models import Change
    from agent_cores.session.storage.sql.rows import SessionName


class InFlight:
    """Distinguishes locks of this process's batches, which are released soon, from other locks.

    On a slow disk a commit may take longer than a batch waits for its locks.
    """

    def __init__(self) -> None:
        self._flights: set[Flight] = set()

    @contextmanager
    def sending(self, changes: Iterable[Change]) -> Iterator[Flight]:
        """Count the sessions of these changes as in flight."""
        names = frozenset((change.namespace, change.session_id) for change in changes)
        flight = Flight(self._flights, names)
        flight.start()
        try:
            yield flight
        finally:
            flight.finish()


class Flight:
    """A batch in flight, or one that waits before a retry."""

    def __init__(self, flights: set[Flight], names: frozenset[SessionName]) -> None:
        self._flights = flights
        self.names = names
        self.finished: asyncio.Event = asyncio.Event()

    def start(self) -> None:
        """Count as in flight."""
        self.finished.clear()
        self._flights.add(self)

    def finish(self) -> None:
        """Count as finished: this batch holds no lock."""
        self._flights.discard(self)
        self.finished.set()

    async def wait_for_others(self, deadline: float) -> bool:
        """Wait for other batches in flight to these sessions; return whether there were any.

        While it waits this batch does not count as in flight, so that no two wait for each other.
        """
        self.finish()
        others = [flight for flight in self._flights if not self.names.isdisjoint(flight.names)]
        try:
            async with asyncio.timeout_at(deadline):
                for flight in others:
                    await flight.finished.wait()
        except TimeoutError:
            return False
        finally:
            self.start()
        return bool(others)
