"""``Abandoned``: writes in flight whose caller was cancelled; later ones to the session wait.

Nobody waits for such a write any more, and the store may still carry it out. On another connection
a later write would overtake it, be acknowledged, and then be undone by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from agent_cores.session.deadline import time_left
from agent_cores.session.errors import StorageUnavailableError

Session = TypeVar("Session", bound=Hashable)


class Abandoned(Generic[Session]):
    """The abandoned writes of one store, by session.

    ``writes`` is empty nearly always, so a write checks it before it calls ``over``.
    """

    def __init__(self) -> None:
        self.writes: dict[Session, set[asyncio.Future[Any]]] = {}

    def add(self, session: Session, write: asyncio.Future[Any]) -> None:
        """Record a write until it is done; its error is nobody's any more."""
        self.writes.setdefault(session, set()).add(write)
        write.add_done_callback(partial(self._forget, session))

    async def over(self, session: Session) -> None:
        """Return once no abandoned write to the session is in flight.

        Raises ``StorageUnavailableError`` if the deadline of the operation passes before.
        """
        try:
            while writes := [write for write in self.writes.get(session, ()) if not write.done()]:
                await asyncio.wait(writes)
        except asyncio.CancelledError as error:
            if time_left(1.0):
                raise
            detail = "a cancelled write was in flight until SESSION_TIMEOUT; nothing was written"
            raise StorageUnavailableError(detail) from error

    def clear(self) -> None:
        """Forget all writes: the store was closed, or has moved to another event loop."""
        self.writes.clear()

    def _forget(self, session: Session, write: asyncio.Future[Any]) -> None:
        if not write.cancelled():
            write.exception()  # retrieved in place of its caller
        writes = self.writes.get(session, set())
        writes.discard(write)
        if not writes:
            self.writes.pop(session, None)
