"""``Creation``: one create, retried until it is applied or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent_cores.session.backoff import Backoff
from agent_cores.session.errors import (
    ReplacementError,
    SessionExistsError,
    SessionMovedError,
    StaleHeaderError,
    StorageUnavailableError,
)
from agent_cores.session.models.expiry import fresh_end
from agent_cores.session.observing import note_retry

if TYPE_CHECKING:
    from agent_cores.session.decision import Scope
    from agent_cores.session.lifecycle.lifecycle_manager import LifecycleManager
    from agent_cores.session.models.change import Applied, Change
    from agent_cores.session.reader import Reader


class Creation:
    """A create, which may replace an expired session only once the time is confirmed.

    So ``change`` comes with ``replaces=False``. It is recognised by its incarnation, and sent again
    after a lost response. If another session has the id by then, the first messages may have been
    stored and removed: the outcome is unknown. The hooks of ``session.expired`` run before the
    write that replaces a session: its response may be lost, and they run at least once.
    """

    def __init__(
        self,
        reader: Reader,
        lifecycle: LifecycleManager,
        scope: Scope,
        change: Change,
        deadline: float | None = None,
    ) -> None:
        self.change: Change = change
        self._reader = reader
        self._lifecycle = lifecycle
        self._scope = scope
        self._deadline = reader.begin() if deadline is None else deadline
        self._announced: int | None = None
        """The incarnation of the expired session whose hooks have run."""

    async def apply(self) -> Applied:
        """Send the change until it is applied; raise why it is refused."""
        backoff = Backoff(until=self._reader.last_start(self._deadline))
        outcome_unknown = False
        while True:
            self._scope.check_credential(self.change.at)
            try:
                with self._reader.in_time(self._deadline, writes=True):
                    applied = await self._reader.storage.apply(self.change)
            except ReplacementError:
                await self._confirm_time()
                await self._announce_stored()
            except StaleHeaderError:
                if not await backoff.pause() or backoff.is_over:
                    raise
                note_retry()
            except (SessionExistsError, SessionMovedError) as error:
                if outcome_unknown and self.change.append:
                    detail = "the response to the create was lost, and now another session exists"
                    raise StorageUnavailableError(detail, outcome_unknown=True) from error
                raise
            except StorageUnavailableError as error:
                outcome_unknown = outcome_unknown or error.outcome_unknown
                if not outcome_unknown or not await backoff.pause():
                    error.outcome_unknown = outcome_unknown
                    raise
                note_retry()
            else:
                await self._announce_replaced(applied)
                return applied

    async def _confirm_time(self) -> None:
        """Allow the change to replace an expired session, now that the time is certain."""
        with self._reader.in_time(self._deadline):
            certain = await self._reader.clock.measure()
        if not certain:
            detail = "the store's clock has jumped; no session is replaced until it has held"
            raise StorageUnavailableError(detail)
        header, at = self.change.create, self._reader.clock()
        if header is None:
            return
        header = msgspec.structs.replace(header, created_at=at, updated_at=at, last_active_at=at)
        header = msgspec.structs.replace(header, expires_at=fresh_end(header, at))
        messages = tuple(
            msgspec.structs.replace(message, created_at=at)
            if message.created_at == self.change.at  # otherwise imported
            else message
            for message in self.change.append
        )
        self.change = msgspec.structs.replace(
            self.change, at=at, create=header, append=messages, replaces=True
        )

    async def _announce_stored(self) -> None:
        """Run the hooks of the expired session that is stored under the id."""
        if not self._lifecycle.listens_to("session.expired"):
            return
        key = self.change.namespace, self.change.session_id
        with self._reader.in_time(self._deadline):
            snapshot = await self._reader.storage.read(*key)
        if snapshot is None or not snapshot.header.is_expired(self.change.at):
            return
        await self._lifecycle.emit_expired(*key, snapshot.header, self.change.at)
        self._announced = snapshot.header.incarnation

    async def _announce_replaced(self, applied: Applied) -> None:
        """Run the hooks of the session that was replaced, if another one was announced."""
        replaced, change = applied.replaced, self.change
        if replaced is not None and replaced.incarnation != self._announced:
            await self._lifecycle.emit_expired(
                change.namespace, change.session_id, replaced, change.at
            )
