"""A service on a store, in a thread of its own, so that blocking clients can call it too."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.models.times import utc_now
from agent_cores.session.service import Service, ServiceSettings
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret
from tests.service.served import Live


@contextmanager
def serving(store_url: str) -> Iterator[tuple[str, str, str]]:
    """Serve a store; yield the address, a key that acts for any user, and one that only reads."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    full, reads = (_key(*rights, "act-as") for rights in (("read", "write"), ("read",)))
    manager = SessionManager(store_url, settings=SessionSettings())
    live = Live(Service(manager, ServiceSettings(), keys=[full[0], reads[0]]))
    try:
        address = asyncio.run_coroutine_threadsafe(live.start(), loop).result(30)
        yield address, full[1], reads[1]
        asyncio.run_coroutine_threadsafe(live.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _key(*rights: str) -> tuple[ApiKey, str]:
    key_id, secret = new_secret()
    key = ApiKey(
        id=key_id,
        name="test",
        namespace="default",
        secret_hash=hashed(secret),
        rights=rights,
        created_at=utc_now(),
    )
    return key, key_text(key_id, secret)
