"""Writes that a server refuses, or never gets: nothing was written, and the error says so.

The tests of each database subclass ``RefusedWrites``, with its provider.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from agent_cores.session import SessionManager, SessionSettings, deadline
from agent_cores.session.errors import SessionError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent_cores.session.storage.base import StorageProvider
    from agent_cores.session.storage.mysql.provider import MysqlProvider
    from agent_cores.session.storage.postgres.provider import PostgresProvider

TIMEOUT = 2.0
VERBS: dict[str, Callable[[SessionManager, str], Awaitable[object]]] = {
    "append": lambda manager, talk: manager.add_message(talk, "ann", "user", "hello"),
    "update": lambda manager, talk: manager.update_session(talk, "ann", {"k": 1}),
    "share": lambda manager, talk: manager.share_session(talk, "ann", "bob"),
    "create": lambda manager, _: manager.create_session("ann"),
    "delete": lambda manager, talk: manager.delete_session(talk, "ann"),
}
verbs = pytest.mark.parametrize("verb", VERBS)


async def refusal(action: Awaitable[object]) -> SessionError:
    """Return the error of a write, which must not call its outcome unknown."""
    with pytest.raises(SessionError) as caught:
        await action
    assert not getattr(caught.value, "outcome_unknown", False), caught.value
    return caught.value


@asynccontextmanager
async def managing(provider: StorageProvider) -> AsyncIterator[tuple[SessionManager, str]]:
    """Open a manager with a short timeout, and a session that its header cache knows.

    It gives up long before the deadline, so that a busy machine is not too late.
    """
    settings = SessionSettings(timeout=TIMEOUT, cleanup_interval=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadline, "_MARGIN", TIMEOUT / 2)
        patch.setattr(deadline, "_OF_A_SHORT_TIMEOUT", 2)
        async with SessionManager(provider, settings=settings) as manager:
            talk = await manager.create_session("ann")
            await manager.add_message(talk, "ann", "user", "hello")
            yield manager, talk


class RefusedWrites:
    """``kind`` is the provider of the database."""

    pytestmark = pytest.mark.anyio

    kind: ClassVar[type[MysqlProvider | PostgresProvider]]

    @verbs
    async def test_what_waits_for_a_connection_until_the_end_was_not_written(
        self, url: str, verb: str
    ) -> None:
        provider = self.kind.from_url(url, timeout=TIMEOUT, pool_size=2)
        async with managing(provider) as (manager, talk), AsyncExitStack() as taken:
            for _ in range(2):
                await taken.enter_async_context(provider.database.transaction(deadline=1e9))
            error = await refusal(VERBS[verb](manager, talk))
        assert isinstance(error, StorageUnavailableError)
