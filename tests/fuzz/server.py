"""A service over an empty memory store for the fuzzer: prints its address, then its key."""

from __future__ import annotations

import asyncio
import sys

import uvicorn

from agent_cores.session import SessionManager, SessionSettings
from agent_cores.session.models.times import utc_now
from agent_cores.session.service import ServiceSettings, create_app
from agent_cores.session.service.auth.api_keys import ApiKey, hashed, key_text, new_secret


async def main() -> None:
    """Serve until the process receives a signal to stop."""
    key_id, secret = new_secret()
    key = ApiKey(
        id=key_id,
        name="fuzzer",
        namespace="default",
        secret_hash=hashed(secret),
        rights=("read", "write", "act-as", "admin", "operator"),
        created_at=utc_now(),
    )
    manager = SessionManager("memory", settings=SessionSettings())
    settings = ServiceSettings(failed_logins_per_minute=10**9)
    app = create_app(manager, settings=settings, keys=[key])
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_config=None, access_log=False, server_header=False)
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    sys.stdout.write(f"http://127.0.0.1:{port}\n{key_text(key_id, secret)}\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
