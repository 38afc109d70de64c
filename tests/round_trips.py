"""How many round trips a verb costs, seen by a proxy before the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent_cores.session.session_manager import SessionManager
from agent_cores.session.testing import suite_settings

if TYPE_CHECKING:
    from agent_cores.session.storage.base import StorageProvider
    from tests.servers.cutting_proxy import CuttingProxy

SAID = [{"role": "user", "content": f"text {n}"} for n in range(20)]


async def of_replace_and_pop(provider: StorageProvider, proxy: CuttingProxy) -> dict[str, int]:
    """Return the exchanges of one ``replace_messages`` and one ``pop_messages``, by verb.

    Both run before on another session, so that scripts and statements are known. The session has
    30 messages; 20 are replaced, and three popped.
    """
    async with SessionManager(provider, settings=suite_settings()) as manager:
        cost: dict[str, int] = {}
        for session_id in ("first", "counted"):
            await manager.create_session("ann", session_id=session_id)
            await manager.add_messages(session_id, "ann", SAID[:10])
            await manager.add_messages(session_id, "ann", SAID)
            before = proxy.exchanges
            new = await manager.replace_messages(session_id, "ann", SAID, after_seq=10)
            between = proxy.exchanges
            popped = await manager.pop_messages(session_id, "ann", 3)
            cost = {"replace": between - before, "pop": proxy.exchanges - between}
            assert [message.seq for message in new] == [*range(31, 51)]
            assert [message.seq for message in popped] == [48, 49, 50]
        return cost


async def of_an_append_that_expects_a_version(
    provider: StorageProvider, proxy: CuttingProxy
) -> int:
    """Return the exchanges of one append, after another one of the same kind."""
    async with SessionManager(provider, settings=suite_settings()) as manager:
        talk = await manager.create_session("ann")
        version = (await manager.get_session(talk, "ann")).version
        before = 0
        for number in range(2):
            before = proxy.exchanges
            await manager.add_message(
                talk, "ann", "user", "said", expected_last_seq=number, expected_version=version
            )
        return proxy.exchanges - before
