"""What the peers on PostgreSQL share: each store has its own database."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from benchmarks.store import server_address


async def new_database(directory: Path) -> str:
    """Create an empty database; returns its URL for SQLAlchemy with asyncpg."""
    name = f"store_{directory.name}"
    connection = await asyncpg.connect(server_address())
    await connection.execute(f'CREATE DATABASE "{name}"')
    await connection.close()
    server, _, _ = server_address().rpartition("/")
    return f"{server}/{name}".replace("postgresql://", "postgresql+asyncpg://")
