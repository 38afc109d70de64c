"""A manager for an adapter, on an empty store of each kind."""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from agent_cores.session import SessionManager
from benchmarks.peers.on_postgres import new_database
from benchmarks.store import server_address


async def on_sqlite(directory: Path) -> SessionManager:
    """On one SQLite file."""
    return SessionManager(f"sqlite:///{directory / 'sessions.db'}")


async def on_redis(directory: Path) -> SessionManager:
    """On a Redis server, which is emptied."""
    server = Redis.from_url(server_address())
    await server.flushall()
    await server.aclose()
    return SessionManager(server_address())


async def on_postgres(directory: Path) -> SessionManager:
    """On PostgreSQL, in a new database."""
    url = await new_database(directory)
    return SessionManager(url.replace("postgresql+asyncpg://", "postgresql://"))
